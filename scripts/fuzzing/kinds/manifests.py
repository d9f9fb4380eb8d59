"""Manifests of a stranger: entries of another kind, missing, huge or deep, with a right checksum or none."""

from __future__ import annotations

import json

from axiom_bench.records import manifest, reading, sealed
from axiom_bench.report import stamp
from axiom_bench.statistics.run_folder import RunFolder

from .. import made_run
from ..case import Case, Kind
from ..damage import damaged
from ..json_damage import changed


def attempt(case: Case) -> None:
    made_run.write(case.folder)
    path = case.folder / manifest.NAME
    if case.random.random() < 0.2:
        what, content = damaged(path.read_bytes(), case.random)
        case.say(what)
        path.write_bytes(content)
        made_run.check_read(case.folder, deep=False)
        return
    content_, _ = sealed.parse(path.read_bytes())
    other = changed(content_, case)
    path.write_text(sealed.text(other) if case.random.random() < 0.7 else json.dumps(other))
    run = RunFolder.read(case.folder)
    stamp.inputs(case.folder, reading.read_manifest(case.folder))
    made_run.tables(run)
    if case.random.random() < 0.15:
        made_run.summaries(run)


KIND = Kind(attempt, share=80)
