"""What differs between two frames of values, as the gate, `compare` and `verify` tell it: by
made-up records.
"""

import re

import numpy as np
import pytest

from axiom_bench.cli.main import main
from axiom_bench.cli.verify import differing
from axiom_bench.gate import gate, write_baseline
from axiom_bench.gate.findings import ORDER
from axiom_bench.gate.two_runs import compare_runs
from axiom_bench.records import reading

from .conftest import of, shifted, times


def with_status(records, status):
    """10 % of all rows are NaN, with another status."""
    rows = np.random.default_rng(1).permutation(len(records))[: len(records) // 10]
    changed = records.copy()
    changed.loc[rows, ["value", "status"]] = [np.nan, status]
    return changed


# A change of the records; how many lines the gate has of it, and a part of the line of the gate, of
# `compare`, which takes the rows that both runs have, and of `verify`.
CHANGES = {
    "another order": (lambda records: records.sample(frac=1, random_state=2), 0, "", "", ""),
    "rounding": (
        lambda records: shifted(records, 1e-7),
        0,
        "",
        "",
        "iou of xgrad_cam differs in 39 of 40 values",
    ),
    "factor 1.01": (
        times(1.01),
        2,
        r"one last scenes xgrad_cam error: median was .*\+1 %; allowed 0.5 %",
        "error of xgrad_cam: 39 of 40 values by up to",
        "error of xgrad_cam differs in 39 of 40 values; of image 000, class 1, it was",
    ),
    "zeros": (times(0.0), 2, "median was .*, is 0 ", "mean 0.* -> 0$", "and is 0$"),
    "NaN": (
        lambda records: with_status(records, "zero_score"),
        49,
        "n was 39, is 35, which is worse",
        "4 ok -> zero_score",
        "and is zero_score",
    ),
    "NaN that call themselves ok": (
        lambda records: with_status(records, "ok"),
        49,
        "ok:35 not_finite:4 zero_map:1",
        "3 of 40 values by up to \N{EN DASH}",
        "and is nan",
    ),
    "a method under another name": (
        lambda records: records.replace({"method": {"uniform": "uniform_2"}}),
        2,
        "method uniform: missing from the run, 6 rows of the baseline",
        "",
        "of uniform differs in 40 of 40 values; of image 000, class 1, it was .* and is absent",
    ),
    "a metric gone": (
        lambda records: records[records["metric"] != "iou"],
        1,
        "metric iou: missing",
        "",
        "is absent",
    ),
    "a model gone": (
        lambda records: records[records["model"] != "two"],
        1,
        "model two: missing",
        "accuracy of two: .* not known",
        "",
    ),
    "one row gone": (
        lambda records: records.drop(index=5),
        2,
        "n was 39, is 38",
        "",
        "differs in 1 of 40 values",
    ),
    "another status": (
        lambda records: records.replace({"status": {"zero_map": "bad_image"}}),
        18,
        "statuses was ok:39 zero_map:1, is ok:39 bad_image:1",
        "1 zero_map -> bad_image",
        "differs in 1 of 40 values; .* it was zero_map and is bad_image",
    ),
    "a pair gone": (
        lambda records: records[~of(records) | (records["model"] == "one")],
        1,
        "two last scenes xgrad_cam error: missing from the run",
        "",
        "is absent",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_told_by_all_three(make_run, records, usual, usual_baseline, tmp_path, name):
    """The gate moves both ways: an improvement that isn't in the baseline would hide a later
    loss.
    """
    change, count, of_gate, of_compare, of_verify = CHANGES[name]
    other = make_run(change(records))
    result = gate(other, usual_baseline)
    back = gate(usual, write_baseline(other, tmp_path / "other.csv"))
    assert (result.exit_code, back.exit_code, len(result.findings)) == (
        bool(count),
        bool(count),
        count,
    )
    verdicts = [ORDER.index(finding.verdict) for finding in result.findings]
    assert verdicts == sorted(verdicts), "the worst first"
    code, lines = compare_runs([usual, other])
    assert code == bool(of_compare)
    stored, now = (
        reading.read_records(folder, reading.read_manifest(folder)) for folder in (usual, other)
    )
    found = list(differing(stored, now.astype({"status": object})))
    assert bool(found) == bool(of_verify)
    for sentence, told in ((of_gate, result.lines), (of_compare, lines), (of_verify, found)):
        assert any(re.search(sentence, line) for line in told) or not sentence, told


def test_runs_of_the_same_values_differ_in_no_setting(usual, make_run, records, capsys):
    """The name of a run is none."""
    assert main(["compare", str(usual), str(make_run(records, run="other"))]) == 0
    assert "the same settings, and the same 720 values" in (out := capsys.readouterr().out)
    assert out.startswith("accuracy of one: 40 of 40 (100 %)")


def test_settings_and_images_are_told_before_the_values(usual, make_run, records, capsys):
    moved = shifted(records, 0.25)
    changed = {
        "config": {"target": "predicted"},
        "precision": "bf16",
        "methods": {"grad_cam": {}, "mine": {}},
    }
    other = make_run(moved, **changed, data={"scenes": {"ids": ["000"], "fingerprint": "cd"}})
    assert main(["compare", str(usual), str(other)]) == 1
    *lines, one, two, last = capsys.readouterr().out.splitlines()
    assert lines == [
        *("precision: fp32 -> bf16", "target: label -> predicted"),
        *(
            "methods only before: xgrad_cam, uniform",
            "methods only now: mine",
            "images of scenes: 40 -> 1, 1 in both",
        ),
        *(
            f"accuracy of {model}: 40 of 40 (100 %) -> not known" for model in ("one", "two")
        ),  # of predicted classes
    ]
    for model, line in (("one", one), ("two", two)):
        where = (
            f"{model} at last on scenes: iou of xgrad_cam: 39 of 40 values by up to 0.250, mean "
        )
        assert line.startswith(where)
        means = [float(text) for text in re.findall(r"0\.\d+", line.removeprefix(where))]
        values = records.loc[
            of(records, metric="iou") & (records["model"] == model), "value"
        ].mean()
        np.testing.assert_allclose(means, [values, values + 0.25], atol=1e-3)
    assert last == f"{usual} -> {other}: 2 metrics of methods differ."
