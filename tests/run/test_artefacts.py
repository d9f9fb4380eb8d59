"""A new kind of file is a row of the table and a module that writes it, and no more."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from axiom_bench.cli.finish import keep
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, combining, files, mirror, reading
from axiom_bench.records.artefacts import Artefact
from axiom_bench.report import stamp
from axiom_bench.run.stages import Step
from axiom_bench.run.sweep import sweep

from .conftest import tiny


def ensure(step: Step) -> tuple[str, ...]:
    """A file for each job, of the number of its images."""
    files.write(step.folder / "counts/count.txt", f"{len(step.facts.job.indices)}".encode())
    return ("counts/count.txt",)


@pytest.fixture
def _counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("their_counts")
    vars(module).update(STAGE="counts", ensure=ensure)
    monkeypatch.setitem(sys.modules, "their_counts", module)
    row = Artefact("counts", ("txt",), "their_counts", "nobody", "fetched", "input")
    monkeypatch.setattr(artefacts, "TABLE", (*artefacts.TABLE, row))


@pytest.mark.usefixtures("_counts")
def test_a_new_artefact_is_made_listed_shared_stamped_and_kept_inside(results: Path, tmp_path: Path) -> None:
    config, outcomes = sweep([*tiny(()), f"results={results}"])
    keep(config, outcomes)
    assert "counts" in outcomes[0].seconds
    folder = results / "quick/default"
    manifest = reading.read_manifest(folder)
    assert manifest["counts"] == ["counts/count.txt"]
    combined = combining.combine([folder], results / "combined")
    assert (results / "combined" / combined["counts"][0]).read_text() == "5"
    assert mirror._is_fetched("counts/count.txt")
    before = stamp.inputs(folder, manifest)
    (folder / "counts/count.txt").write_text("many")
    assert stamp.inputs(folder, manifest) != before
    (folder / "counts").rename(tmp_path / "elsewhere")
    (folder / "counts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BenchError, match="counts leads out of the run folder"):
        reading.read_manifest(folder)


def test_every_artefact_has_a_writer() -> None:
    for artefact in artefacts.TABLE:
        name = artefact.written_by.removeprefix("axiom_bench.")
        path = Path(artefacts.__file__).parents[1] / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), artefact
