"""The differences between two sets of records that the gate, `compare` and `verify` report."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from axiom_bench.cli.main import main
from axiom_bench.cli.verify import different_values
from axiom_bench.gate import gate, write_baseline
from axiom_bench.gate.findings import ORDER
from axiom_bench.gate.two_runs import compare_runs
from axiom_bench.records import reading

from .conftest import rows_of, shifted, times


def with_status(records, status):
    """Return the records with 10 % of all rows NaN and with another status."""
    rows = np.random.default_rng(1).permutation(len(records))[: len(records) // 10]
    changed = records.copy()
    changed.loc[rows, ["value", "status"]] = [np.nan, status]
    return changed


@dataclass
class Change:
    """A change of the records, and what the three commands report about it."""

    apply: Callable[[pd.DataFrame], pd.DataFrame]
    gate_lines: int  # how many findings the gate has
    gate: str = ""  # a part of one of the gate's lines
    compare: str = ""  # a part of a line of `compare`, which uses the rows that both runs have
    verify: str = ""  # a part of a line of `verify`


CHANGES = {
    "another order": Change(
        lambda records: records.sample(frac=1, random_state=2),
        gate_lines=0,
    ),
    "rounding": Change(
        lambda records: shifted(records, 1e-7),
        gate_lines=0,
        verify="iou of xgrad_cam differs in 39 of 40 values",
    ),
    "factor 1.01": Change(
        times(1.01),
        gate_lines=2,
        gate=r"one last scenes xgrad_cam error: median was .*\+1 %; allowed 0.5 %",
        compare="error of xgrad_cam: 39 of 40 values by up to",
        verify="error of xgrad_cam differs in 39 of 40 values; of image 000, class 1, it was",
    ),
    "zeros": Change(
        times(0.0),
        gate_lines=2,
        gate="median was .*, is 0 ",
        compare="mean 0.* -> 0$",
        verify="and is 0$",
    ),
    "NaN": Change(
        lambda records: with_status(records, "zero_score"),
        gate_lines=49,
        gate="n was 39, is 35, which is worse",
        compare="4 ok -> zero_score",
        verify="and is zero_score",
    ),
    "NaN that call themselves ok": Change(
        lambda records: with_status(records, "ok"),
        gate_lines=49,
        gate="ok:35 not_finite:4 zero_map:1",
        compare="3 of 40 values by up to \N{EN DASH}",
        verify="and is nan",
    ),
    "a method under another name": Change(
        lambda records: records.replace({"method": {"uniform": "uniform_2"}}),
        gate_lines=2,
        gate="method uniform: missing from the run, 6 rows of the baseline",
        verify=(
            "of uniform differs in 40 of 40 values; of image 000, class 1, it was .* and is absent"
        ),
    ),
    "a metric gone": Change(
        lambda records: records[records["metric"] != "iou"],
        gate_lines=1,
        gate="metric iou: missing",
        verify="is absent",
    ),
    "a model gone": Change(
        lambda records: records[records["model"] != "two"],
        gate_lines=1,
        gate="model two: missing",
        compare="accuracy of two: .* not known",
    ),
    "one row gone": Change(
        lambda records: records.drop(index=5),
        gate_lines=2,
        gate="n was 39, is 38",
        verify="differs in 1 of 40 values",
    ),
    "another status": Change(
        lambda records: records.replace({"status": {"zero_map": "bad_image"}}),
        gate_lines=18,
        gate="statuses was ok:39 zero_map:1, is ok:39 bad_image:1",
        compare="1 zero_map -> bad_image",
        verify="differs in 1 of 40 values; .* it was zero_map and is bad_image",
    ),
    "a pair gone": Change(
        lambda records: records[~rows_of(records) | (records["model"] == "one")],
        gate_lines=1,
        gate="two last scenes xgrad_cam error: missing from the run",
        verify="is absent",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_told_by_all_three(make_run, records, usual, usual_baseline, tmp_path, name):
    """Check the gate both ways.

    An improvement that isn't in the baseline would hide a later loss.
    """
    change = CHANGES[name]
    other = make_run(change.apply(records))

    result = gate(other, usual_baseline)
    reverse = gate(usual, write_baseline(other, tmp_path / "other.csv"))
    assert result.exit_code == bool(change.gate_lines)
    assert reverse.exit_code == bool(change.gate_lines)
    assert len(result.findings) == change.gate_lines
    verdicts = [ORDER.index(finding.verdict) for finding in result.findings]
    assert verdicts == sorted(verdicts), "the worst first"

    code, compare_lines = compare_runs([usual, other])
    assert code == bool(change.compare)

    stored = reading.read_records(usual, reading.read_manifest(usual))
    now = reading.read_records(other, reading.read_manifest(other))
    verify_lines = list(different_values(stored, now.astype({"status": object})))
    assert bool(verify_lines) == bool(change.verify)

    for sentence, lines in (
        (change.gate, result.lines),
        (change.compare, compare_lines),
        (change.verify, verify_lines),
    ):
        assert any(re.search(sentence, line) for line in lines) or not sentence, lines


@pytest.mark.parametrize("number", [0, 1, 3])
def test_compare_takes_two_runs(number, usual, capsys):
    assert main(["compare", *[str(usual)] * number]) == 2
    assert "give two: axiom-bench compare results/" in capsys.readouterr().err


def test_runs_of_the_same_values_differ_in_no_setting(usual, make_run, records, capsys):
    """Check that the name of a run isn't a setting."""
    assert main(["compare", str(usual), str(make_run(records, run="other"))]) == 0
    output = capsys.readouterr().out
    assert "the same settings, and the same 720 values" in output
    assert output.startswith("accuracy of one: 40 of 40 (100 %)")


def test_settings_and_images_are_told_before_the_values(usual, make_run, records, capsys):
    moved = shifted(records, 0.25)
    other = make_run(
        moved,
        config={"target": "predicted"},
        precision="bf16",
        methods={"grad_cam": {}, "mine": {}},
        data={"scenes": {"ids": ["000"], "fingerprint": "cd"}},
    )

    assert main(["compare", str(usual), str(other)]) == 1

    *lines, one, two, last = capsys.readouterr().out.splitlines()
    assert lines == [
        "precision: fp32 -> bf16",
        "target: label -> predicted",
        "methods only before: xgrad_cam, uniform",
        "methods only now: mine",
        "images of scenes: 40 -> 1, 1 in both",
        # The accuracy of predicted classes isn't known.
        "accuracy of one: 40 of 40 (100 %) -> not known",
        "accuracy of two: 40 of 40 (100 %) -> not known",
    ]
    for model, line in (("one", one), ("two", two)):
        beginning = (
            f"{model} at last on scenes: iou of xgrad_cam: 39 of 40 values by up to 0.250, mean "
        )
        assert line.startswith(beginning)
        means = [float(text) for text in re.findall(r"0\.\d+", line.removeprefix(beginning))]
        rows = rows_of(records, metric="iou") & (records["model"] == model)
        mean = records.loc[rows, "value"].mean()
        np.testing.assert_allclose(means, [mean, mean + 0.25], atol=1e-3)
    assert last == f"{usual} -> {other}: 2 metrics of methods differ."


def test_runs_without_a_common_value_say_so(usual, make_run, records):
    """Their methods have other names, so that no row of one run has a partner in the other."""
    renamed = records.assign(method=records["method"].astype(str) + "_2")
    other = make_run(renamed, run="other", methods={"grad_cam_2": {}})
    code, lines = compare_runs([usual, other])
    assert code == 1
    assert lines[-1].endswith(": they have no value in common.")


def test_a_run_with_fewer_values_says_so(usual, make_run, records):
    """The settings are the same, as those of a run that was stopped."""
    fewer = make_run(records.iloc[:-7], run="other")
    code, lines = compare_runs([usual, fewer])
    assert code == 0
    end = "the same 713 values; 7 more values only before, and 0 only now."
    assert lines[-1].endswith(end)
