"""Mean ranks over settings, and what a run says in sentences."""

import re

import numpy as np
import pandas as pd
import pytest

from axiom_bench.report.charts import ranking
from axiom_bench.report.charts.drawing import Figure, LeftOut
from axiom_bench.report.options import options_of
from axiom_bench.report.tables.headline import result_lines
from axiom_bench.report.tables.text import control_notes
from axiom_bench.statistics.ranking import (
    best_methods,
    coincidences,
    conclusion,
    critical_difference,
    findings,
    in_sentence,
    mean_ranks,
    names_in_words,
)
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import rows_of

ERROR = "conservation_error"


@pytest.fixture
def write(make_run, edit_manifest):
    """(records, layers, **changes of the manifest) -> the run folder, read."""

    def make(records, layers, **changes):
        methods = {name: {"title": name.title()} for name in records["method"].unique()}
        folder = make_run(records, methods=methods, layers=layers, runtime=False, pictures=False)
        edit_manifest(folder, **changes)
        return RunFolder.read(folder)

    return make


@pytest.fixture
def make_many(write):
    """(count, layers=1): three methods on so many networks, a below b below c in the error of each
    image, but for noise.
    """

    def make(count, layers=1):
        generator = np.random.default_rng(0)
        names = {
            f"net{place}": tuple(f"layer{layer}" for layer in range(layers))
            for place in range(count)
        }
        frames = [
            rows_of(ERROR, dict(zip("abc", generator.uniform([[0], [0], [5]], [[1], [1], [6]], (3, 12)), strict=True)),
                    model=model, layer=layer)
            for model, of_model in names.items() for layer in of_model
        ]  # fmt: skip
        return write(pd.concat(frames), names, config={"report": {"headline": [ERROR]}})

    return make


def test_the_critical_difference_is_nemenyi_s():
    """Demsar 2006, table 5: q at 5 % is 1.960, 2.343, 2.728 and 3.164 of 2, 3, 5 and 10 methods."""
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


def test_many_networks_are_drawn(make_many):
    run = make_many(12)
    ranks = mean_ranks(run, ERROR)
    assert (ranks.count, ranks.ranks["c"], ranks.ranks["a"] + ranks.ranks["b"]) == (12, 3, 3)
    assert ranks.alike() == [(0, 1)]
    assert ranks.p < 0.001
    (drawing,) = ranking.draw_mean_ranks(run)
    assert isinstance(drawing, Figure)
    assert "over 12 networks or data sets" in drawing.caption
    assert "C 3.0" in [text.get_text() for text in drawing.draw().axes[0].texts]


def test_two_methods_have_mean_ranks(write):
    frames = [
        rows_of(ERROR, {"a": range(1, 13), "b": range(2, 14)}, model=model)
        for model in ("one", "two")
    ]
    ranks = mean_ranks(write(pd.concat(frames), dict.fromkeys(("one", "two"), ("last",))), ERROR)
    assert ranks.ranks.to_dict() == {"a": 1, "b": 2}
    assert np.isnan(ranks.p)  # Friedman's test takes three


SHIFTS = {"low": 0.0, "twin": 0.0, "near": 0.02, "far": 1.0}


@pytest.fixture
def make_told(write):
    """Four methods with known errors on 40 images of two networks; `changes` of the manifest."""

    def make(shifts=SHIFTS, networks=("one", "two"), **changes):
        generator, frames = np.random.default_rng(0), []
        for model in networks:
            errors = {name: generator.uniform(1, 3, 40) + shift for name, shift in shifts.items()}
            errors["twin"] = errors["low"]
            if "near" in shifts:
                errors["near"] = errors["low"] + 0.02 + generator.normal(0, 0.5, 40)
            frames.append(rows_of(ERROR, errors, model=model))
        return write(pd.concat(frames), dict.fromkeys(networks, ("last",)), **changes)

    return make


def test_the_best_is_named_with_what_can_not_be_told_from_it(make_told):
    found = findings(make_told(networks=("one",)), [ERROR])
    assert [finding.kind for finding in found] == ["best", "undecided"]
    best, undecided = found
    says = (
        "one: (Low = Twin|Near) is significantly better than Far in conservation error, on "
        r"(all|\d+ of) 40 images\."
    )
    assert re.fullmatch(says, best.sentence)
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
    """A has the better mean by four outliers, B is better on 157 of 200 images."""
    own = np.random.default_rng(0).normal(0, 1, 200)
    errors = own + np.where(np.arange(200) < 43, -0.01, 0.01)
    errors[:4] -= 10
    methods = {"a": {"title": "A"}, "b": {"title": "B"}}
    metrics = {"e": {"title": "Error", "kind": "unbounded", "better": "lower", "metric": "e"}}
    run = write(
        rows_of("e", {"a": errors, "b": own}), {"net": ("last",)}, methods=methods, metrics=metrics
    )
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
    errors = {
        "a": own + np.where(np.arange(200) < 4, -10, 0.1),
        **{f"b{i}": own + 0.01 * i for i in range(6)},
    }
    metrics = {"e": {"title": "Error", "kind": "unbounded", "better": "lower", "metric": "e"}}
    found = findings(write(rows_of("e", errors), {"net": ("last",)}, metrics=metrics), ["e"])
    (sentence,) = (finding.sentence for finding in found if finding.kind == "contradicted")
    assert sentence.count(" is better than A on 196 of 200 images and worse on 4") == 4
    assert ", and 2 more pairs, though the mean says the opposite" in sentence


def test_the_conclusion_names_the_best_with_all_metrics_that_say_so(make_told):
    run = make_told()
    sentence, setting, metrics = conclusion(run, [ERROR])
    assert setting == run.settings[0]
    assert metrics == [ERROR]
    names = [
        run.metadata.method_title(name)
        for name in run.methods
        if name in best_methods(run, setting, ERROR)
    ]
    assert len(names) > 1
    assert (
        sentence
        == f"{', '.join(names[:-1])} and {names[-1]} lead in conservation error on one and two"
    )
    twins = make_told({"low": 0.0, "twin": 0.0, "far": 9.0}, networks=("one",))
    assert conclusion(twins, [ERROR])[0] == "Low and Twin have the lowest conservation error on one"
    run = make_told({"low": 0.0, "twin": 0.0}, networks=("one",))
    assert conclusion(run, [ERROR])[0] == "No metric tells which method is best with 40 images"
    assert coincidences(run, [ERROR]).startswith(
        "On one all methods, controls aside, have the same conservation error. Global average "
        "pooling"
    )
    assert coincidences(make_told(), [ERROR]) == ""


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
    (finding,) = findings(make_told({"low": 0.0, "twin": 0.0}, networks=("one",)), [ERROR])
    assert finding.kind == "coinciding"
    assert (
        finding.sentence
        == "one: Low and Twin coincide in conservation error: none is better than another."
    )


def test_who_wins_by_construction_is_said(make_told):
    methods = {name: {"title": name.title()} for name in SHIFTS}
    methods["low"] = {"title": "Low", "wins_by_construction": ["conservation_error"]}
    run = make_told(methods=methods)
    *others, last = findings(run, [ERROR])
    assert last.kind == "by_construction"
    assert (
        last.sentence == "The conservation error is 0 by construction for Low, which is not ranked."
    )
    assert not any("Low" in finding.sentence for finding in others)
    assert run.summary.set_index("method").loc["low", "by_construction"].all()


def test_a_metric_that_a_control_wins_has_no_best_and_comes_last(make_told):
    """Low and Twin are controls, and no method is better than they."""
    methods = {name: {"title": name.title(), "control": name in ("low", "twin")} for name in SHIFTS}
    run = make_told(methods=methods)
    assert conclusion(run, [ERROR])[0] == "No metric tells which method is best with 40 images"
    first, second = findings(run, [ERROR])
    assert (first.kind, second.kind) == ("control", "control")
    says = (
        "one: No method is significantly better than Low or Twin in conservation error, controls, "
        "which explain nothing"
    )
    assert first.sentence == f"{says}: nobody is best."
    assert re.fullmatch(r"Median \d\.\d\d; the best method, Near, has \d\.\d\d\.", first.numbers)
    assert control_notes(run, run.settings, [ERROR]) == [
        "Nothing is bold in Conservation error (one, two): no method is significantly better than "
        "a control (Low, Twin)."
    ]
    assert control_notes(make_told(), run.settings, [ERROR]) == []


def test_a_metric_that_an_unchosen_control_would_win_has_no_best(make_told):
    """The metric says so by itself, so that it doesn't matter which methods are chosen."""
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
    assert conclusion(run, [ERROR])[0] == "No metric tells which method is best with 40 images"
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
    drawn = [each for each in ranking.draw(run) if isinstance(each, Figure)]
    assert not drawn  # which method leads in what: in nothing


def test_the_title_compares_by_such_a_metric_last(write):
    """Mine is far better in conservation and not different in the other metric, which is told."""
    draws = np.random.default_rng(0).uniform(size=(2, 40))
    records = [rows_of(ERROR, {"mine": draws[0], "other": draws[0] + 5}),
               rows_of("own", {"mine": draws[0], "other": draws[1]})]  # fmt: skip
    about = {ERROR: {"title": "Conservation error", "better": "lower", "kind": "ratio", "reached_by": "equal shares"},
             "own": {"title": "Own", "better": "lower"}}  # fmt: skip
    run = write(pd.concat(records), {"net": ("last",)}, metrics=about)
    assert conclusion(run, [ERROR, "own"], "mine", "other")[0].startswith(
        "Mine is not significantly different from Other in own on net: mean "
    )
    alone = conclusion(run, [ERROR], "mine", "other")[0]
    assert alone.startswith(
        "Mine is significantly better than Other in conservation error on net: median "
    )
    assert alone.endswith(", 40 images; equal shares, which explain nothing, reach the best value")


def test_the_title_compares_by_the_first_metric_that_both_methods_have(write):
    """Mine has no conservation error, which leads the report; of the others the columns come
    first.
    """
    draws = np.random.default_rng(0).uniform(size=40)
    records = [rows_of(ERROR, {"grad": draws, "other": draws + 5}),
               rows_of("all_last", {"mine": draws, "grad": draws + 2}),
               rows_of("box_iou", {"mine": draws, "grad": draws + 1, "other": draws})]  # fmt: skip
    about = {name: {"title": name, "better": "higher"} for name in (ERROR, "all_last", "box_iou")}
    config = {
        "report": {
            "headline": [ERROR],
            "columns": [ERROR, "box_iou"],
            "compare": "mine",
            "rival": "grad",
        }
    }
    run = write(pd.concat(records), {"net": ("last",)}, metrics=about, config=config)
    assert result_lines(run)[-1].startswith(
        "Mine is significantly worse than Grad in box_iou on net: mean "
    )
    config["report"]["rival"] = "other"
    alone = write(pd.concat(records[:2]), {"net": ("last",)}, metrics=about, config=config)
    assert (
        result_lines(alone)[-1] == "No metric has values of both Mine and Other on the same images"
    )


def test_a_metric_that_a_control_wins_does_not_lead(write):
    """Nothing conserves, and Mine is best by the other metric, which is named second and told
    first.
    """
    errors = np.random.default_rng(0).uniform([[1], [2]], [[3], [4]], (2, 40))
    other = "sensitivity_error"
    records = [rows_of(ERROR, {"nothing": errors[0], "mine": errors[1]}),
               rows_of(other, {"nothing": errors[1], "mine": errors[0]})]  # fmt: skip
    methods = {"nothing": {"title": "Nothing", "control": True}, "mine": {"title": "Mine"}}
    run = write(pd.concat(records), {"net": ("last",)}, methods=methods)
    assert conclusion(run, [ERROR, other])[0] == "Mine has the lowest sensitivity error on net"
    assert [(each.kind, each.metric) for each in findings(run, [ERROR, other])] == [
        ("best", other),
        ("control", ERROR),
    ]


def test_a_control_that_loses_tells_no_methods_apart(write):
    """Where all methods coincide, the next column leads in which one is better."""
    low, high = np.random.default_rng(0).uniform([[1], [3]], [[2], [4]], (2, 40))
    records = [rows_of(ERROR, {"same": low, "mine": low, "nothing": high}),
               rows_of("box_iou", {"same": low, "mine": high, "nothing": low / 2}),
               rows_of("own", {"same": low, "mine": high, "nothing": low})]  # fmt: skip
    methods = {
        name: {"title": name.title(), "control": name == "nothing"}
        for name in ("same", "mine", "nothing")
    }
    config = {"report": {"headline": [ERROR], "columns": [ERROR, "box_iou"]}}
    run = write(pd.concat(records), {"net": ("last",)}, methods=methods, config=config)
    assert options_of(run).headline == ("box_iou", ERROR)
    assert options_of(run).columns == (ERROR, "box_iou", "own")  # a user's metric is one more
    assert conclusion(run, options_of(run).headline)[0] == "Mine has the highest box IoU on net"
    assert "On net all methods, controls aside, have the same conservation error" in " ".join(
        result_lines(run)
    )


def test_the_title_says_whether_the_compared_method_is_better(make_told):
    def answer(compare, rival, **told):
        run = make_told(
            config={"report": {"headline": [ERROR], "compare": compare, "rival": rival}}, **told
        )
        return result_lines(run)[-1]

    one = (
        r"(\w+) is significantly (\w+) than (\w+) in conservation error on one: median (\S+) "
        r"against (\S+), 40 images"
    )
    *words, own, other = re.fullmatch(one, answer("far", "low", networks=("one",))).groups()
    assert words == ["Far", "worse", "Low"]
    assert float(own) == pytest.approx(float(other) + 1, abs=0.6)
    both = (
        "Low is significantly better than Far in conservation error on both networks: median "
        "difference -"
    )
    assert answer("low", "far").startswith(both)
    assert answer("low", "far").endswith(", 40 images each")
    assert (
        answer("low", "twin")
        == "Low coincides with Twin in conservation error on both networks, 40 images"
    )
    assert answer("low", "absent").startswith("Low coincides with Twin")


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
