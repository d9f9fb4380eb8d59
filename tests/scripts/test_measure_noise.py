"""The measurement of the gate's noise: its runs' settings, what counts as a movement, and its tables."""

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import measure_noise as noise
import pandas as pd
import pytest
from measure_noise import VARIATIONS, Variation, by_variation, moved, run, table

from axiom_bench.gate.baseline import COLUMNS

PYTHON = """#!{python}
import json, os, sys
*_, results, name = sys.argv[1:]
folder = f"{{results.partition('=')[2]}}/quick/{{name.partition('=')[2]}}"
os.makedirs(folder)
with open(f"{{folder}}/manifest.json", "w") as file:
    names = ("OMP_NUM_THREADS", "OLD")
    json.dump({{"settings": sys.argv[3:], **{{name: os.environ.get(name) for name in names}}}}, file)
"""


def rows(values: Mapping[str, float], statuses: str = "ok:4") -> pd.DataFrame:
    """A baseline of these metrics, with a tolerance of 0.01."""
    entries = [
        ("net", "layer", "data", "cam", name, 4, value, value, statuses, "mean:0.01") for name, value in values.items()
    ]
    return pd.DataFrame(entries, columns=list(COLUMNS))


def test_movement_is_of_the_statistic_that_the_tolerance_watches():
    ((metric, limit, movement, share),) = moved(rows({"iou": 1.0}), rows({"iou": 1.0025}))
    assert (metric, limit.statistic) == ("iou", "mean")
    assert movement == pytest.approx(0.0025)
    assert share == pytest.approx(0.25)
    assert list(moved(rows({"iou": math.nan}), rows({"iou": math.nan}))) == []


@pytest.mark.parametrize(
    "other", [rows({"iou": 1.0}, "ok:3 zero_map:1"), rows({"mass": 1.0})], ids=["statuses", "rows"]
)
def test_other_rows_or_statuses_are_no_noise(other):
    with pytest.raises(SystemExit, match="not the same rows and statuses"):
        list(moved(rows({"iou": 1.0}), other))


def test_tables_name_the_variation_nearest_to_the_tolerance():
    reference = rows({"iou": 1.0, "mass": 0.5})
    others = {
        "2 threads": rows({"iou": 1.001, "mass": 0.5}),
        "old": rows({"iou": 0.995, "mass": 0.5}),
        "same": reference,
    }
    lines = table(reference, others).splitlines()[2:]
    assert lines == ["| iou | mean 0.01 | 0.005 | 50 % | old |", "| mass | mean 0.01 | 0 | 0 % |  |"]
    assert by_variation(reference, others).splitlines()[2:] == [
        "| 2 threads | iou | 10 % |", "| old | iou | 50 % |", "| same | nothing moved | 0 % |",
    ]  # fmt: skip


def test_a_run_has_its_variation_s_settings_and_is_kept(tmp_path):
    python = tmp_path / "python"
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    variation = Variation("old, batches of 5", {"OLD": "yes"}, ("data.batch_size=5",), str(python))
    folder = run(variation, ["metric=all"], tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert folder == tmp_path / "runs/quick/old__batches_of_5"
    assert manifest["settings"][: len(noise.QUIET) + 2] == [*noise.QUIET, "metric=all", "data.batch_size=5"]
    assert (manifest["OMP_NUM_THREADS"], manifest["OLD"]) == ("1", "yes")
    python.unlink()
    assert run(variation, ["metric=all"], tmp_path) == folder  # nothing is run again


def test_a_run_that_fails_is_named_with_what_it_said(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho there is no layer\nexit 2\n")
    python.chmod(0o755)
    with pytest.raises(SystemExit, match=r"(?s)old failed:.*there is no layer"):
        run(Variation("old", python=str(python)), [], tmp_path)


def test_chosen_variations_are_compared_with_the_first(tmp_path, monkeypatch, capsys):
    runs: list[tuple[str, tuple[str, ...]]] = []

    def recorded(variation: Variation, overrides: list[str], folder: Path) -> Path:
        runs.append((variation.name, tuple(overrides)))
        return folder / f"{len(runs)}"

    monkeypatch.setattr(noise, "run", recorded)
    monkeypatch.setattr(noise, "baseline_of", lambda folder: rows({"iou": float(folder.name)}))
    assert noise.main(["--folder", str(tmp_path), "--only", "2 threads", "data.size=16"]) == 0
    threads = [entry.name for entry in VARIATIONS if "2 threads" in entry.name]
    assert runs == [(name, ("data.size=16",)) for name in (VARIATIONS[0].name, *threads)]
    printed = capsys.readouterr().out
    assert f"| iou | mean 0.01 | {len(threads)} | {100 * len(threads) / 0.01:.2g} % | {threads[-1]} |" in printed
    assert os.listdir(tmp_path) == []
