"""Tests of mean ranks over settings, and of the sentences that a run reports."""

import re

import numpy as np
import pandas as pd
import pytest

from axiom_bench.report.charts import ranking
from axiom_bench.report.charts.drawing import Figure, LeftOut
from axiom_bench.report.tables.headline import result_lines
from axiom_bench.report.tables.text import control_notes
from axiom_bench.statistics.answer import conclusion
from axiom_bench.statistics.mean_ranks import critical_difference, mean_ranks
from axiom_bench.statistics.ranking import (
    best_methods,
    findings,
    in_sentence,
    names_in_words,
)
from tests.made_runs import ERROR, SHIFTS, rows_of


@pytest.fixture
def make_many(write):
    """Return a function (count, layers=1) that reads a run of three methods on `count` networks.

    The errors of a and b are alike on each image, and those of c are larger.
    """

    def make(count, layers=1):
        generator = np.random.default_rng(0)
        layer_names = tuple(f"layer{layer}" for layer in range(layers))
        layers_by_model = {f"net{place}": layer_names for place in range(count)}
        frames = []
        for model in layers_by_model:
            for layer in layer_names:
                a, b, c = generator.uniform([[0], [0], [5]], [[1], [1], [6]], (3, 12))
                frame = rows_of(ERROR, {"a": a, "b": b, "c": c}, model=model, layer=layer)
                frames.append(frame)
        config = {"report": {"headline": [ERROR]}}
        return write(pd.concat(frames), layers_by_model, config=config)

    return make


def test_the_critical_difference_is_nemenyi_s():
    """Compare with table 5 of Demsar 2006, which lists q at 5 % for 2, 3, 5 and 10 methods."""
    for methods, quantile in ((2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)):
        expected = quantile * np.sqrt(methods * (methods + 1) / (6 * 14))
        assert critical_difference(methods, 14) == pytest.approx(expected, abs=2e-3)
    assert critical_difference(11, 6) == pytest.approx(6.16, abs=0.01)


@pytest.mark.parametrize(
    ("count", "layers", "reason"),
    [
        (
            2,
            1,
            "3 methods on 2 networks or data sets: two mean ranks would have to differ by 2.3 "
            "places",
        ),
        (1, 1, "It takes a headline metric"),
        (2, 2, "layers of one network"),
    ],
)
def test_a_few_networks_have_a_sentence(make_many, count, layers, reason):
    (left,) = ranking.draw_mean_ranks(make_many(count, layers))
    assert isinstance(left, LeftOut)
    assert reason in left.reason


@pytest.mark.slow
def test_many_networks_are_drawn(make_many):
    run = make_many(12)
    ranks = mean_ranks(run, ERROR)
    assert ranks.count == 12
    assert ranks.ranks["c"] == 3
    assert ranks.ranks["a"] + ranks.ranks["b"] == 3
    assert ranks.runs_alike() == [(0, 1)]
    assert ranks.p < 0.001
    (drawing,) = ranking.draw_mean_ranks(run)
    assert isinstance(drawing, Figure)
    assert "over 12 networks or data sets" in drawing.caption
    assert "C 3.0" in [text.get_text() for text in drawing.draw().axes[0].texts]


def test_two_methods_have_mean_ranks(write):
    errors = {"a": range(1, 13), "b": range(2, 14)}
    frames = [rows_of(ERROR, errors, model=model) for model in ("one", "two")]
    run = write(pd.concat(frames), {"one": ("last",), "two": ("last",)})
    ranks = mean_ranks(run, ERROR)
    assert ranks.ranks.to_dict() == {"a": 1, "b": 2}
    assert np.isnan(ranks.p)  # Friedman's test takes three


def test_the_best_is_named_with_what_can_not_be_told_from_it(make_told):
    found = findings(make_told(networks=("one",)), [ERROR])

    assert [finding.kind for finding in found] == ["best", "undecided"]
    best, undecided = found
    sentence = (
        "one: (Low = Twin|Near) is significantly better than Far in conservation error, on "
        r"(all|\d+ of) 40 images\."
    )
    assert re.fullmatch(sentence, best.sentence)
    assert re.search(r"p (<|=) 0.00\d+ after Holm\.$", best.numbers)
    numbers = r"^Median (\S+) against (\S+); difference (\S+), 95 % CI (\S+) to (\S+),"
    value, other, difference, low, high = map(float, re.findall(numbers, best.numbers)[0])
    assert value < other
    assert low < difference < high < 0
    assert best.settings[0].model == "one"
    assert " is not significantly better than " in undecided.sentence
    assert undecided.numbers.startswith("40 images would have shown a median difference of ")
    assert "Low = Twin" in undecided.sentence
    assert "Near" in undecided.sentence


def test_where_value_and_images_disagree_is_a_finding(write):
    """Four outliers give A the better mean, and B is better on 157 of 200 images."""
    own = np.random.default_rng(0).normal(0, 1, 200)
    errors = own + np.where(np.arange(200) < 43, -0.01, 0.01)
    errors[:4] -= 10
    methods = {"a": {"title": "A"}, "b": {"title": "B"}}
    metrics = {"e": {"title": "Error", "kind": "unbounded", "better": "lower", "metric": "e"}}
    records = rows_of("e", {"a": errors, "b": own})
    run = write(records, {"net": ("last",)}, methods=methods, metrics=metrics)

    (finding,) = (finding for finding in findings(run, ["e"]) if finding.kind == "contradicted")
    start = (
        "net: The mean and the images disagree in error: B is better than A on 157 of 200 images "
        "and worse on 43, "
    )
    assert finding.sentence.startswith(start)
    comparison = run.comparisons.of(run.settings[0], "e")
    assert comparison.ranked[0] == ("a",)
    assert not comparison.places["is_best"].any()
    assert comparison.pair("a", "b")["high"] > 0


def test_who_is_better_on_too_few_images_is_said_to_have_no_test(write):
    values = dict(zip("ab", np.random.default_rng(0).normal(size=(2, 9)), strict=True))
    (finding,) = findings(write(rows_of(ERROR, values), {"net": ("last",)}), [ERROR])
    assert finding.kind == "undecided"
    assert finding.numbers == "Fewer than 10 images have no test."


def test_of_many_pairs_that_disagree_four_are_named(write):
    own = np.random.default_rng(0).normal(0, 1, 200)
    errors = {"a": own + np.where(np.arange(200) < 4, -10, 0.1)}
    for i in range(6):
        errors[f"b{i}"] = own + 0.01 * i
    metrics = {"e": {"title": "Error", "kind": "unbounded", "better": "lower", "metric": "e"}}
    found = findings(write(rows_of("e", errors), {"net": ("last",)}, metrics=metrics), ["e"])
    (sentence,) = (finding.sentence for finding in found if finding.kind == "contradicted")
    assert sentence.count(" is better than A on 196 of 200 images and worse on 4") == 4
    assert ", and 2 more pairs, though the mean says the opposite" in sentence


def test_settings_that_agree_say_so_first(make_told):
    found = findings(make_told(), [ERROR])
    first = found[0]
    assert first.kind == "agreement"
    assert len(first.settings) == 2
    assert first.sentence.startswith("In both networks, ")
    assert first.sentence.endswith(
        " have the best conservation error, or one that is not significantly worse."
    )
    assert "Far" not in first.sentence


def test_methods_that_coincide_are_not_ranked(make_told):
    run = make_told({"low": 0.0, "twin": 0.0}, networks=("one",))
    (finding,) = findings(run, [ERROR])
    assert finding.kind == "coinciding"
    sentence = "one: Low and Twin coincide in conservation error: none is better than another."
    assert finding.sentence == sentence


def test_who_wins_by_construction_is_said(make_told):
    methods = {name: {"title": name.title()} for name in SHIFTS}
    methods["low"] = {"title": "Low", "wins_by_construction": ["conservation_error"]}
    run = make_told(methods=methods)

    *others, last = findings(run, [ERROR])

    assert last.kind == "by_construction"
    sentence = "The conservation error is 0 by construction for Low, which is not ranked."
    assert last.sentence == sentence
    assert not any("Low" in finding.sentence for finding in others)
    assert run.summary.set_index("method").loc["low", "by_construction"].all()


def test_a_metric_that_a_control_wins_has_no_best_and_comes_last(make_told):
    """Low and Twin are controls, and no method is better than them."""
    methods = {name: {"title": name.title(), "control": name in ("low", "twin")} for name in SHIFTS}
    run = make_told(methods=methods)

    sentence = (
        "No method beats Low or Twin, which explain nothing, in conservation error on one and two"
    )
    assert conclusion(run, [ERROR]).sentence == sentence
    first, second = findings(run, [ERROR])
    assert (first.kind, second.kind) == ("control", "control")
    sentence = (
        "one: No method is significantly better than Low or Twin in conservation error, controls, "
        "which explain nothing: nobody is best."
    )
    assert first.sentence == sentence
    assert re.fullmatch(r"Median \d\.\d\d; the best method, Near, has \d\.\d\d\.", first.numbers)
    assert control_notes(run, run.settings, [ERROR]) == [
        "Nothing is bold in Conservation error (one, two): no method is significantly better than "
        "a control (Low, Twin)."
    ]
    assert control_notes(make_told(), run.settings, [ERROR]) == []


def test_a_metric_that_an_unchosen_control_would_win_has_no_best(make_told):
    """The metric declares it, so that it doesn't matter which methods are chosen."""
    other = "box_iou"
    about = {
        ERROR: {
            "title": "Conservation error",
            "better": "lower",
            "reached_by": "equal shares of the score",
        }
    }
    run = make_told(metrics=about | {other: {"title": "Box IoU", "better": "higher"}})

    assert best_methods(run, run.settings[0], ERROR) == frozenset()
    sentence = "No metric tells which method is best with 40 images"
    assert conclusion(run, [ERROR]).sentence == sentence
    assert [finding.kind for finding in findings(run, [ERROR])] == ["control", "control"]
    assert findings(run, [ERROR])[0].sentence == (
        "one: Nobody is best in conservation error: equal shares of the score, which explain "
        "nothing, reach the best value."
    )
    assert control_notes(run, run.settings, [ERROR, other]) == [
        "Nothing is bold in Conservation error: equal shares of the score, which explain nothing, "
        "reach the best value."
    ]
    assert "marked *" in " ".join(result_lines(run))
    assert not any(re.search(r"\*\d", line) for line in result_lines(run))
    # No method leads in any metric, so nothing is drawn.
    assert not [drawing for drawing in ranking.draw(run) if isinstance(drawing, Figure)]


def test_random_weights_say_nothing(make_told):
    assert findings(make_told(networks=("one",)), [ERROR])
    random = {"one": {"layer": "last", "random_weights": True}}
    assert findings(make_told(networks=("one",), models=random), [ERROR]) == []


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("Box IoU", "box IoU"),
        ("ROAD, combined", "ROAD, combined"),
        ("MaxBoxAcc", "MaxBoxAcc"),
        ("A x", "a x"),
    ],
)
def test_titles_in_a_sentence(title, text):
    assert in_sentence(title) == text


def test_a_usual_run_s_findings_and_lists(usual):
    found = findings(usual, [ERROR, "box_iou"])
    assert {finding.metric for finding in found} == {ERROR, "box_iou"}
    assert all(finding.sentence.endswith(".") for finding in found)
    assert names_in_words(usual, [("a",), ("b", "c")]) == "a and b = c"
    assert names_in_words(usual, [(name,) for name in "abcdef"], "or") == "a, b, c, d or 2 more"
