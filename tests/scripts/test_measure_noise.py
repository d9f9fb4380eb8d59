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
import torch
from measure_noise import OF_COPIES, OF_IMAGES, VARIATIONS, Variation, by_variation, metric_table, moved, run, table
from torch import nn

from axiom_bench.cutting.trace import CutModel, Trace, cut
from axiom_bench.gate.baseline import COLUMNS

# The first lines start Python by the shell, as pip's scripts do: its path may have a space, which a shebang can't have.
PYTHON = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
'''
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


def values(numbers: Mapping[tuple[str, str, str], float]) -> pd.DataFrame:
    """Values by image, method and metric; NaN with a status."""
    frame = pd.DataFrame({"value": list(numbers.values()), "status": "ok"})
    frame.index = pd.MultiIndex.from_tuples(
        [("net", "layer", key[0], 1, *key[1:]) for key in numbers], names=noise.VALUE
    )
    frame.loc[frame["value"].isna(), "status"] = "zero_map"
    return frame


def test_each_metric_s_movement_is_a_share_of_its_range_by_what_was_changed():
    """Of methods that draw and of the others; batches of 1 and of 5 are one column; a lost value is another status."""
    before = {
        ("a", "grad_cam", "iou"): 0.0,
        ("b", "grad_cam", "iou"): 4.0,
        ("a", "random", "mass"): 2.0,
        ("a", "grad_cam", "gini"): 0.5,
    }
    others = {
        "batches of 1": {**before, ("a", "grad_cam", "iou"): 0.004},
        "batches of 5": {**before, ("b", "grad_cam", "iou"): 4.04},
        "2 threads": {**before, ("a", "random", "mass"): math.nan},
        "the same again": {**before, ("a", "grad_cam", "iou"): 1.0},
    }
    lines = metric_table(values(before), {name: values(numbers) for name, numbers in others.items()}).splitlines()
    assert lines == [
        "Methods that draw nothing:", "",
        "| metric | another batch size | another number of threads |", "|:---|---:|---:|",
        "| `iou` | 1e-02 | 0 |", "",
        "Not moved: `gini`.", "",
        "Methods that draw:", "",
        "| metric | another batch size | another number of threads |", "|:---|---:|---:|",
        "| `mass` | 0 | another status |", "",
        "Not moved: none.",
    ]  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), [(OF_IMAGES, [1, 1, 0]), (OF_COPIES, [0, 0, 1])])
def test_one_value_of_each_image_moves_by_one_ulp(code, expected, monkeypatch):
    """Of the images that are traced first, or of those that a trace is made of again; the tensors given stay."""
    for kind, name in ((CutModel, "trace"), (Trace, "again")):
        monkeypatch.setattr(kind, name, getattr(kind, name))
    exec(code, {})
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)).eval()
    images, copies = torch.rand(2, 3, 6, 6), torch.rand(2, 3, 6, 6)
    trace = cut(model, "1").trace(images, torch.tensor([0, 1]))
    again = trace.again(images=copies)
    pairs = ((trace.images, images), (again.first_images, images), (again.images, copies))
    counts = [int((one != other).flatten(1).sum(1).unique()) for one, other in pairs]
    assert counts == expected
    torch.testing.assert_close(again.images, copies, rtol=1e-6, atol=0)
    assert torch.equal(trace.again().images, trace.images)


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
