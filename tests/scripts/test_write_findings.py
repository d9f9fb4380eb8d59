"""docs/findings.md: tests in closed form, and tables that are those of the published values."""

import numpy as np
import pandas as pd
import pytest
import write_findings
from write_docs import DOCS, markdown
from write_findings import (
    QUESTIONS,
    START,
    SUITES,
    Question,
    by_kind,
    compared,
    filled,
    only_above,
    published_runs,
    verdicts,
)

from tests.made_runs import usual, usual_run  # noqa: F401


@pytest.fixture
def made(usual):  # noqa: F811
    """Two networks, as if they were published."""
    return [("scenes-1", "scenes", usual)]


def test_a_pair_and_its_reverse_are_one_test(made):
    there, back = (
        compared(Question("q", [pair], ["sensitivity_error"]), made)
        for pair in (("grad_cam", "xgrad_cam"), ("xgrad_cam", "grad_cam"))
    )
    assert len(there) == 2
    assert (there["gain"] > 0).all()
    np.testing.assert_allclose(there["gain"], -back["gain"])
    np.testing.assert_allclose(there[["low", "high"]], -back[["high", "low"]])
    assert (there["better"] == back["worse"]).all()
    assert (there["adjusted"] >= there["p"]).all()


def test_methods_with_the_same_maps_are_no_test(made):
    rows = compared(Question("q", [("hires_cam", "xgrad_cam")], ["sensitivity_error"]), made)
    assert rows["p"].isna().all()
    table = verdicts(rows)
    (row,) = table.to_dict("records")
    assert [row[name] for name in ("better", "open", "worse", "same_maps")] == [0, 0, 0, 2]
    assert row["holds"] == "no: the maps are the same"
    titles = {"sensitivity_error": "Sensitivity error"}
    assert by_kind(table, titles)[1:] == [["Sensitivity error", "2 same maps"]]


def test_too_few_images_are_no_test_and_not_the_same_map(made, monkeypatch):
    question = Question("q", [("xgrad_cam", "grad_cam")], ["sensitivity_error"])
    assert len(compared(question, made)) == 2
    monkeypatch.setattr(write_findings, "FEWEST_IMAGES", 10_000)
    assert compared(question, made).empty


def test_a_network_of_the_paper_s_kind_has_both_methods_values_and_their_difference(made):
    run = made[0][2]
    rows = compared(
        Question("q", [("xgrad_cam", "grad_cam")], ["sensitivity_error"]),
        [("scenes-1", "slices", run)],
    )
    titles = {name: name for name in ("grad_cam", "xgrad_cam", "sensitivity_error")}
    _, *lines = write_findings.by_network(rows, [("scenes-1", "slices", run)], titles)
    assert [line[0] for line in lines] == [
        f"{setting.model} at {setting.layer}" for setting in run.settings
    ]
    for line, row in zip(lines, rows.to_dict("records"), strict=True):
        assert line[1] == f"{row['n']} brain slices"
        assert float(line[3]) - float(line[4]) == pytest.approx(row["gain"], abs=0.01)
        assert line[-1] == ("better" if row["gain"] > 0 else "worse")


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((3, 0, 0, 0), "yes"),
        ((3, 0, 0, 2), "yes where the maps differ"),
        ((1, 2, 0, 3), "on 1 of 6"),
        ((2, 0, 1, 0), "mixed: better on 2, worse on 1"),
        ((0, 4, 0, 1), "not shown"),
        ((0, 4, 1, 0), "no: worse on 1"),
    ],
)
def test_what_is_said_of_the_counts(counts, words):
    assert write_findings.holds(*counts) == words


def test_a_document_without_a_place_for_a_table_is_refused():
    text = f"{START}: a -->\nold\n<!-- end -->\nafter"
    assert filled(text, {"a": [["x"], ["1"]]}).endswith("| 1 |\n\n<!-- end -->\nafter")
    with pytest.raises(ValueError, match="no place for the table b"):
        filled(text, {"b": [["x"], ["1"]]})


@pytest.mark.slow
def test_the_committed_tables_are_of_the_published_values():
    runs = published_runs(SUITES)
    question = QUESTIONS[0]
    titles = write_findings.titles_of(runs)
    table = verdicts(compared(question, runs))
    assert markdown(by_kind(table, titles)) in (DOCS / "findings.md").read_text()
    committed = pd.read_csv(DOCS / "data" / "verdicts.csv")
    committed = committed[committed["question"] == question.name].reset_index(drop=True)
    pd.testing.assert_frame_equal(committed, table, check_dtype=False, rtol=1e-5)


def test_a_page_has_only_metrics_by_which_a_method_is_above_all_controls():
    many = "; ".join(f"m{number}" for number in range(9))
    lines = [
        ["metric", "images", "networks", "always", "partly", "never"],
        ["a", "scenes", "2", "none", "m1 (1 of 2)", "m2"],
        ["b", "scenes", "2", "m1; m2", "none", "none"],
        ["c", "scenes", "2", many, "none", "none"],
    ]
    assert only_above(lines) == [
        ["metric", "images", "always"],
        ["b", "scenes", "m1; m2"],
        ["c", "scenes", "9 methods"],
    ]
