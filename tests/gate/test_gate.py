"""The gate holds on its own run and fails on every change, both ways.

The changes are of values, zeros, NaN, n, statuses, names and accuracy.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.gate import Limit, gate, tolerance, write_baseline
from axiom_bench.gate.baseline import ACCURACY, Baseline, find_baseline
from axiom_bench.gate.compare import MACHINE_DIFFERENCE
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import RECORD

from .conftest import TOLERANCES, rows_of, shifted, times


@pytest.fixture
def against(make_run, usual_baseline):
    """A function (records, **changes of the manifest) that compares them with `usual`'s baseline.

    It returns the exit code and the lines.
    """

    def compare(after, **changes):
        result = gate(make_run(after, **changes), usual_baseline)
        return result.exit_code, "\n".join(result.lines)

    return compare


def test_another_tolerance_is_told(against, records):
    rules = TOLERANCES | {"error": "median:50%"}
    metrics = {name: {"tolerance": rule} for name, rule in rules.items()}
    code, output = against(records, metrics=metrics)
    assert code == 1
    assert "tolerance was median:0.5%, is median:50%" in output


@pytest.mark.slow
def test_within_the_tolerance_holds_beyond_it_moves(against, records):
    for factor, code in ((1.004, 0), (0.996, 0), (1.006, 1), (0.994, 1)):
        assert against(times(factor)(records))[0] == code, factor
    # An absolute tolerance.
    for step, code in ((0.0019, 0), (-0.0019, 0), (0.0021, 1), (-0.0021, 1)):
        assert against(shifted(records, step))[0] == code, step


def test_the_mean_alone_moves_a_metric_that_watches_it(against, records):
    """Change the mean by one far outlier, which leaves the median where it is."""
    largest = records.loc[rows_of(records, metric="drop"), "value"].idxmax()
    records.loc[largest, "value"] = 50.0
    code, output = against(records)
    assert code == 1
    assert "mean was" in output
    assert "median was" not in output


@pytest.mark.slow
def test_rounding_of_an_exact_zero_holds(make_run, records, usual, tmp_path):
    exact = times(1e-7)(records)
    baseline = write_baseline(make_run(exact), tmp_path / "exact.csv")
    assert gate(make_run(times(3.0)(exact)), baseline).exit_code == 0
    assert gate(usual, baseline).exit_code == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"experiment": "real"},
        {"config": {"target": "predicted"}},
        {"precision": "tf32"},
        {"data": {}},
        {"data": {"scenes": {"ids": ["000"], "fingerprint": "ab"}}},
    ],
)
def test_another_configuration_cannot_be_compared(against, records, changes):
    code, output = against(records, **changes)
    assert code == 2
    assert "another configuration" in output
    assert "\n" not in output


def test_a_missing_baseline_or_run_and_a_flipped_bit_cannot_be_compared(
    make_run, records, usual, usual_baseline, tmp_path
):
    assert gate(usual, tmp_path / "none.csv").exit_code == 2
    assert gate(tmp_path / "none", usual_baseline).exit_code == 2
    assert gate(make_run(records.head(0)), usual_baseline).exit_code == 2
    run = make_run(records)
    file = run / RECORD
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    result = gate(run, usual_baseline)
    assert result.exit_code == 2
    assert f"{file} is damaged" in result.lines[0]


def test_a_bare_name_is_a_baseline_of_the_package(usual, tmp_path):
    """Check the name that the README's line for CI uses, where only the package is installed."""
    packaged = find_baseline(Path("quick"))
    assert packaged.name == "quick.csv"
    assert packaged.read_text().startswith("# experiment: quick\n")
    result = gate(usual, Path("quick"))
    assert "another configuration" in result.lines[0]
    with pytest.raises(BenchError, match="There is no baseline 'quik'; did you mean 'quick'"):
        find_baseline(Path("quik"))
    own = tmp_path / "own.csv"
    assert find_baseline(own) == own


def test_baseline_is_sorted_rounded_and_the_same_again(make_run, records, usual_baseline, tmp_path):
    text = usual_baseline.read_text()
    shuffled = records.sample(frac=1, random_state=4)
    other = write_baseline(make_run(shuffled), tmp_path / "b.csv")
    assert text == other.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[0] == "model,layer,data,method,metric,n,mean,median,statuses,tolerance"
    assert lines[1:] == sorted(lines[1:])
    rows = rows_of(records, "grad_cam", "drop") & (records["model"] == "one")
    value = records.loc[rows, "value"]
    assert lines[1] == "one,last,scenes,-,network accuracy,40,1,1,,mean:0.005"
    assert lines[2] == (
        f"one,last,scenes,grad_cam,drop,39,{value.mean():.6g},{value.median():.6g},ok:39 "
        "zero_map:1,mean:1% median:1%"
    )


def test_tolerances_are_parsed(make_run, records, tmp_path):
    assert tolerance("median:0.5%", "x") == (Limit("median", 0.005, True),)
    assert tolerance("mean:0.01 median:2%", "x") == (
        Limit("mean", 0.01, False),
        Limit("median", 0.02, True),
    )
    assert tolerance("mean:1e-3", "x") == (Limit("mean", 0.001, False),)
    metrics = {"error": {"tolerance": "median:1%"}, "drop": {"tolerance": "mean:1"}}
    with pytest.raises(BenchError, match=r"'iou' has the tolerance ''; write median:0\.5%"):
        write_baseline(make_run(records, metrics=metrics), tmp_path / "own.csv")
    wrong_texts = (
        "median",
        "median:",
        "median:5 %",
        "mode:1%",
        "median:-1%",
        "1%",
        "median:1%,mean:1%",
        "mean:1% mean:2%",
    )
    for text in wrong_texts:
        with pytest.raises(BenchError, match="has the tolerance"):
            tolerance(text, "x")


@pytest.mark.parametrize(
    ("before", "after", "holds"),
    [
        (1.0, 1.0099, True),
        (1.0, 0.9901, True),
        (1.0, 1.0101, False),
        (1.0, 0.9899, False),
        (-1.0, 1.0, False),
        (0.0, MACHINE_DIFFERENCE / 2, True),
        (np.nan, np.nan, True),
        (1.0, np.nan, False),
        (np.nan, 1.0, False),
    ],
)
def test_limits_are_two_sided_and_know_nan(before, after, holds):
    assert Limit("median", 0.01, True).holds(before, after) == holds


@pytest.mark.slow
def test_accuracy_counts_an_image_once_by_any_of_its_classes_and_moves_alone(
    make_run, records, tmp_path
):
    """Use forty images, ten of which are predicted wrongly and one isn't known.

    One of the ten also has a row of the predicted class.
    """
    number = records["image_id"].astype(int)
    predicted = records["predicted_class"].mask(number < 10, 2).mask(number == 39, -1)
    second_row = records[number == 0].assign(target_class=2, predicted_class=2)
    first_rows = records.assign(predicted_class=predicted)
    mixed = pd.concat([first_rows, second_row], ignore_index=True)

    baseline_rows = Baseline.of(RunFolder.read(make_run(mixed))).rows
    rows = baseline_rows.query("metric == @ACCURACY")
    expected = [["one", "-", 39], ["two", "-", 39]]
    assert rows[["model", "method", "n"]].to_numpy().tolist() == expected
    assert rows["mean"].tolist() == pytest.approx([30 / 39] * 2, rel=1e-5)

    baseline = write_baseline(make_run(mixed), tmp_path / "own.csv")
    assert gate(make_run(mixed), baseline).exit_code == 0
    one_more_wrong = mixed["predicted_class"].mask(mixed["image_id"] == "020", 3)
    result = gate(make_run(mixed.assign(predicted_class=one_more_wrong)), baseline)
    assert result.exit_code == 1
    findings = [(finding.place[-1], finding.verdict) for finding in result.findings]
    assert findings == [(ACCURACY, "worse")] * 2

    unknown = Baseline.of(RunFolder.read(make_run(records.assign(target_class=-1))))
    assert ACCURACY not in set(unknown.rows["metric"])
