"""Tests of mean ranks over settings, and of the sentences that a run reports."""

import re

import numpy as np
import pandas as pd
import pytest

from axiom_bench.report.charts import ranking
from axiom_bench.report.charts.drawing import Figure, LeftOut
from axiom_bench.report.options import options_of
from axiom_bench.report.tables.headline import result_lines
from axiom_bench.report.tables.text import control_notes
from axiom_bench.statistics.mean_ranks import critical_difference, mean_ranks
from axiom_bench.statistics.ranking import (
    best_methods,
    coincidences,
    conclusion,
    findings,
    in_sentence,
    names_in_words,
)
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import rows_of

ERROR = "conservation_error"


@pytest.fixture
def write(make_run, edit_manifest):
    """Return a function (records, layers, **changes of the manifest) that reads a run folder."""

    def make(records, layers, **changes):
        methods = {name: {"title": name.title()} for name in records["method"].unique()}
        folder = make_run(records, methods=methods, layers=layers, runtime=False, pictures=False)
        edit_manifest(folder, **changes)
        return RunFolder.read(folder)

    return make


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


SHIFTS = {"low": 0.0, "twin": 0.0, "near": 0.02, "far": 1.0}


@pytest.fixture
def make_told(write):
    """Return a function that reads a run of methods with known errors on 40 images per network.

    Its `changes` are those of the manifest.
    """

    def make(shifts=SHIFTS, networks=("one", "two"), **changes):
        generator = np.random.default_rng(0)
        frames = []
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


def test_the_conclusion_names_the_best_with_all_metrics_that_say_so(make_told):
    run = make_told()

    sentence, setting, metrics = conclusion(run, [ERROR])

    assert setting == run.settings[0]
    assert metrics == [ERROR]
    best = best_methods(run, setting, ERROR)
    titles = [run.metadata.method_title(name) for name in run.methods if name in best]
    assert len(titles) > 1
    names = f"{', '.join(titles[:-1])} and {titles[-1]}"
    assert sentence == f"{names} lead in conservation error on one and two"

    twins = make_told({"low": 0.0, "twin": 0.0, "far": 9.0}, networks=("one",))
    assert conclusion(twins, [ERROR])[0] == "Low and Twin have the lowest conservation error on one"

    run = make_told({"low": 0.0, "twin": 0.0}, networks=("one",))
    assert conclusion(run, [ERROR])[0] == "No metric tells which method is best with 40 images"


def test_a_reason_for_equal_values_is_a_condition_on_the_methods_that_it_names(write, make_told):
    """Check that two implementations of one method, or one of the named methods, need no reason."""
    same = "On one all methods, controls aside, have the same conservation error."

    def sentences(*methods):
        values = range(1, 13)
        records = rows_of(ERROR, dict.fromkeys(methods, values), model="one")
        entries = {name: {"title": name} for name in methods}
        return coincidences(write(records, {"one": ("last",)}, methods=entries), [ERROR])

    assert sentences("Grad-CAM", "mine") == same
    reason = "If global average pooling follows the layer, Grad-CAM, XGrad-CAM and HiResCAM draw"
    assert sentences("Grad-CAM", "HiResCAM").startswith(f"{same} {reason} the same map; if one ")
    assert sentences("Grad-CAM", "CAM").startswith(f"{same} {reason}")
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

    assert conclusion(run, [ERROR])[0] == "No metric tells which method is best with 40 images"
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
    # No method leads in any metric, so nothing is drawn.
    assert not [drawing for drawing in ranking.draw(run) if isinstance(drawing, Figure)]


def test_the_title_compares_by_such_a_metric_last(write):
    """Mine is far better in conservation and not different in the other metric, which leads."""
    first, second = np.random.default_rng(0).uniform(size=(2, 40))
    records = [
        rows_of(ERROR, {"mine": first, "other": first + 5}),
        rows_of("own", {"mine": first, "other": second}),
    ]
    conservation = {
        "title": "Conservation error",
        "better": "lower",
        "kind": "ratio",
        "reached_by": "equal shares",
    }
    metrics = {ERROR: conservation, "own": {"title": "Own", "better": "lower"}}
    run = write(pd.concat(records), {"net": ("last",)}, metrics=metrics)

    by_both = conclusion(run, [ERROR, "own"], "mine", "other")[0]
    by_conservation = conclusion(run, [ERROR], "mine", "other")[0]

    start = "Mine is not significantly different from Other in own on net: mean "
    assert by_both.startswith(start)
    start = "Mine is significantly better than Other in conservation error on net: median "
    assert by_conservation.startswith(start)
    end = ", 40 images; equal shares, which explain nothing, reach the best value"
    assert by_conservation.endswith(end)


def test_the_title_compares_by_the_first_metric_that_both_methods_have(write):
    """Mine has no conservation error, which leads the report. Among the other metrics, those with a
    column come first.
    """
    draws = np.random.default_rng(0).uniform(size=40)
    records = [
        rows_of(ERROR, {"grad": draws, "other": draws + 5}),
        rows_of("all_last", {"mine": draws, "grad": draws + 2}),
        rows_of("box_iou", {"mine": draws, "grad": draws + 1, "other": draws}),
    ]
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
    start = "Mine is significantly worse than Grad in box_iou on net: mean "
    assert result_lines(run)[-1].startswith(start)

    config["report"]["rival"] = "other"
    without_box_iou = pd.concat(records[:2])
    run = write(without_box_iou, {"net": ("last",)}, metrics=about, config=config)
    sentence = "No metric has values of both Mine and Other on the same images"
    assert result_lines(run)[-1] == sentence


def test_a_metric_that_a_control_wins_does_not_lead(write):
    """The control Nothing has the lowest conservation error, and Mine is best by the other metric.

    The other metric is the second in the list, and its finding comes first.
    """
    low, high = np.random.default_rng(0).uniform([[1], [2]], [[3], [4]], (2, 40))
    other = "sensitivity_error"
    records = [
        rows_of(ERROR, {"nothing": low, "mine": high}),
        rows_of(other, {"nothing": high, "mine": low}),
    ]
    methods = {"nothing": {"title": "Nothing", "control": True}, "mine": {"title": "Mine"}}
    run = write(pd.concat(records), {"net": ("last",)}, methods=methods)
    assert conclusion(run, [ERROR, other])[0] == "Mine has the lowest sensitivity error on net"
    found = [(finding.kind, finding.metric) for finding in findings(run, [ERROR, other])]
    assert found == [("best", other), ("control", ERROR)]


def test_a_control_that_loses_tells_no_methods_apart(write):
    """If all methods coincide, the next column in which one method is better leads."""
    low, high = np.random.default_rng(0).uniform([[1], [3]], [[2], [4]], (2, 40))
    records = [
        rows_of(ERROR, {"same": low, "mine": low, "nothing": high}),
        rows_of("box_iou", {"same": low, "mine": high, "nothing": low / 2}),
        rows_of("own", {"same": low, "mine": high, "nothing": low}),
    ]
    methods = {
        "same": {"title": "Same", "control": False},
        "mine": {"title": "Mine", "control": False},
        "nothing": {"title": "Nothing", "control": True},
    }
    config = {"report": {"headline": [ERROR], "columns": [ERROR, "box_iou"]}}

    run = write(pd.concat(records), {"net": ("last",)}, methods=methods, config=config)

    assert options_of(run).headline == ("box_iou", ERROR)
    assert options_of(run).columns == (ERROR, "box_iou", "own")  # a user's metric is one more
    assert conclusion(run, options_of(run).headline)[0] == "Mine has the highest box IoU on net"
    sentence = "On net all methods, controls aside, have the same conservation error"
    assert sentence in " ".join(result_lines(run))


def test_the_title_says_whether_the_compared_method_is_better(make_told):
    def answer(compare, rival, **options):
        report = {"headline": [ERROR], "compare": compare, "rival": rival}
        run = make_told(config={"report": report}, **options)
        return result_lines(run)[-1]

    on_one_network = (
        r"(\w+) is significantly (\w+) than (\w+) in conservation error on one: median (\S+) "
        r"against (\S+), 40 images"
    )
    match = re.fullmatch(on_one_network, answer("far", "low", networks=("one",)))
    *words, own, other = match.groups()
    assert words == ["Far", "worse", "Low"]
    assert float(own) == pytest.approx(float(other) + 1, abs=0.6)

    on_both_networks = (
        "Low is significantly better than Far in conservation error on both networks: median "
        "difference -"
    )
    assert answer("low", "far").startswith(on_both_networks)
    assert answer("low", "far").endswith(", 40 images each")

    sentence = "Low coincides with Twin in conservation error on both networks, 40 images"
    assert answer("low", "twin") == sentence
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
