"""Tests of the answer of a run: which method to use, and why."""

import re

import numpy as np
import pandas as pd
import pytest

from axiom_bench.report.options import options_of
from axiom_bench.report.tables.headline import result_lines
from axiom_bench.statistics.answer import answers, conclusion, same_maps, sentences
from axiom_bench.statistics.ranking import best_methods, findings
from tests.made_runs import ERROR, rows_of


def test_networks_share_a_title_only_as_far_as_it_is_true_of_each(write):
    """A and B coincide on the first network. On the second, B is only not significantly worse."""
    generator = np.random.default_rng(0)
    low = generator.uniform(1, 2, 20)
    near = low + 0.05 + generator.permutation(np.linspace(-0.3, 0.3, 20))
    records = [
        rows_of(ERROR, {"a": low, "b": low, "c": low + 3}, model="one"),
        rows_of(ERROR, {"a": low, "b": near, "c": low + 3}, model="two"),
    ]
    run = write(pd.concat(records), {"one": ("last",), "two": ("last",)})
    title = "Use A or B on one and two: they lead in conservation error"
    assert conclusion(run, [ERROR]).sentence == title


def test_metrics_of_both_directions_share_a_sentence(write):
    low, high = np.random.default_rng(0).uniform([[1], [5]], [[2], [6]], (2, 20))
    records = [
        rows_of("error", {"a": low, "b": high}),
        rows_of("iou", {"a": high, "b": low}),
    ]
    metrics = {
        "error": {"title": "Error", "kind": "unbounded", "better": "lower"},
        "iou": {"title": "IoU", "kind": "unbounded", "better": "higher"},
    }
    run = write(pd.concat(records), {"net": ("last",)}, metrics=metrics)
    sentence = "Use A on net: it has the lowest error and the highest IoU"
    assert conclusion(run, ["error", "iou"]).sentence == sentence


# a metric of the channels' totals, which can be equal for methods that draw different maps
OF_CHANNELS = {
    ERROR: {
        "title": "Conservation error",
        "better": "lower",
        "kind": "ratio",
        "of": "method",
        "needs": ["contributions"],
    }
}


@pytest.mark.slow
def test_the_conclusion_names_the_best_with_all_metrics_that_say_so(make_told):
    run = make_told()

    main = conclusion(run, [ERROR])

    assert main.answer == main.answers[0]
    assert main.answer.setting == run.settings[0]
    assert main.answer.leads == (ERROR,)
    best = best_methods(run, run.settings[0], ERROR)
    titles = [run.metadata.method_title(name) for name in run.methods if name in best]
    assert len(titles) > 1
    names = f"{', '.join(titles[:-1])} or {titles[-1]}"
    assert main.sentence == f"Use {names} on one and two: they lead in conservation error"

    twins = make_told({"low": 0.0, "twin": 0.0, "far": 9.0}, networks=("one",))
    sentence = "Use Low or Twin on one: they have the lowest conservation error"
    assert conclusion(twins, [ERROR]).sentence == sentence

    run = make_told({"low": 0.0, "twin": 0.0}, networks=("one",), metrics=OF_CHANNELS)
    sentence = "No metric tells which method is best with 40 images"
    assert conclusion(run, [ERROR]).sentence == sentence
    of_maps = {ERROR: {**OF_CHANNELS[ERROR], "needs": []}}
    run = make_told({"low": 0.0, "twin": 0.0}, networks=("one",), metrics=of_maps)
    sentence = "Use Low or Twin on one: they draw the same map"
    assert conclusion(run, [ERROR]).sentence == sentence
    run = make_told({"low": 0.0, "twin": 0.0}, networks=("one", "two"), metrics=of_maps)
    sentence = "Use Low or Twin on one and two: they draw the same map"
    assert conclusion(run, [ERROR]).sentence == sentence


@pytest.mark.slow
def test_a_reason_for_equal_values_is_a_condition_on_the_methods_that_it_names(write, make_told):
    """Check that two implementations of one method, or one of the named methods, need no reason."""
    same = "All methods with a value, controls aside, have the same conservation error."
    reason = "If global average pooling follows the layer, Grad-CAM, XGrad-CAM and HiResCAM draw"

    def said(*methods):
        values = range(1, 13)
        records = rows_of(ERROR, dict.fromkeys(methods, values), model="one")
        entries = {name: {"title": name} for name in methods}
        run = write(records, {"one": ("last",)}, methods=entries, metrics=OF_CHANNELS)
        (answer,) = answers(run, [ERROR])
        return sentences(run, answer)

    assert said("Grad-CAM", "mine") == [same]
    first, second = said("Grad-CAM", "HiResCAM")
    assert first == same
    assert second.startswith(f"{reason} the same map; if one ")
    assert said("Grad-CAM", "CAM")[1].startswith(reason)
    run = make_told(metrics=OF_CHANNELS)
    for answer in answers(run, [ERROR]):
        assert not any("same" in sentence for sentence in sentences(run, answer))


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

    by_both = conclusion(run, [ERROR, "own"], (), "mine", "other").sentence
    by_conservation = conclusion(run, [ERROR], (), "mine", "other").sentence

    start = "Mine is not significantly different from Other in own on net: mean "
    assert by_both.startswith(start)
    start = "Mine is significantly better than Other in conservation error on net: median "
    assert by_conservation.startswith(start)
    end = ", 40 images; equal shares, which explain nothing, reach the best value"
    assert by_conservation.endswith(end)


@pytest.mark.slow
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
    sentence = "Use Mine on net: it has the lowest sensitivity error"
    assert conclusion(run, [ERROR, other]).sentence == sentence
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
    sentence = "Use Mine on net: it has the highest box IoU"
    assert conclusion(run, options_of(run).headline).sentence == sentence
    sentence = "net: All methods with a value, controls aside, have the same conservation error."
    assert sentence in " ".join(result_lines(run))


@pytest.mark.slow
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


OF_METHODS = {"better": "higher", "kind": "bounded", "of": "method"}


def test_methods_with_equal_values_in_every_metric_of_the_map_draw_the_same_map(write):
    """Equal channel totals, or equal hits, are no evidence that two maps are the same."""
    first, second = np.random.default_rng(0).uniform(size=(2, 12))
    hits = np.ones(12)
    names = ("a", "b", "c", "d", "nothing")
    records = [
        rows_of("iou", dict(zip(names, (first, first, second, second, first), strict=True))),
        rows_of("drop", dict(zip(names, (second, second, first, second, second), strict=True))),
        rows_of("hits", dict.fromkeys(names, hits)),
        rows_of("totals", dict.fromkeys(names, first)),
    ]
    metrics = {
        "iou": {"title": "IoU", **OF_METHODS},
        "drop": {"title": "Drop", **OF_METHODS},
        "hits": {"title": "Hits", **OF_METHODS, "kind": "proportion"},
        "totals": {"title": "Totals", **OF_METHODS, "needs": ["contributions"]},
    }
    methods = {name: {"title": name.title(), "control": name == "nothing"} for name in names}
    run = write(pd.concat(records), {"net": ("last",)}, metrics=metrics, methods=methods)
    assert same_maps(run, run.settings[0]) == (("a", "b"),)
    (answer,) = answers(run, ["totals"])
    assert sentences(run, answer)[0].startswith("A and B draw the same map: ")

    order_of_two = np.where(first > 0.5, 1.0, -1.0)  # such as a rank correlation of two objects
    ties = np.where(first > 0.5, 1.0, 0.5)  # of hits, when two objects share the first place
    few = [*records[2:], rows_of("order", dict.fromkeys(names, order_of_two))]
    few = pd.concat([*few, rows_of("ties", dict.fromkeys(names, ties))])
    metrics["order"] = {"title": "Order", **OF_METHODS}
    metrics["ties"] = {"title": "Ties", **OF_METHODS, "kind": "proportion"}
    run = write(few, {"net": ("last",)}, metrics=metrics, methods=methods)
    assert same_maps(run, run.settings[0]) == ()


def test_an_answer_says_who_is_worse_by_how_much_and_what_more_images_would_show(write):
    """Compare with the comparison of the metric, whose numbers other tests compute by hand."""
    generator = np.random.default_rng(3)
    low = generator.uniform(1, 2, 40)
    errors = {"low": low, "near": low + generator.normal(0.02, 0.2, 40), "far": low + 0.5}
    metrics = {ERROR: {"title": "Error", "kind": "unbounded", "better": "lower", "of": "method"}}
    run = write(rows_of(ERROR, errors), {"net": ("last",)}, metrics=metrics)
    comparison = run.comparisons.of(run.settings[0], ERROR)

    (answer,) = answers(run, [ERROR])

    assert answer.leading == {"low", "near"}
    (rival,) = answer.rivals
    best = comparison.ranked[0][0]
    assert (rival.methods, rival.pair, rival.is_worse) == (("far",), best, True)
    assert rival.difference == pytest.approx(np.mean(errors["far"]) - np.mean(errors[best]))
    pair = comparison.pair("far", best)
    assert rival.adjusted == pair["adjusted"]
    needed = 40 * (pair["detectable"] / pair["difference"]) ** 2
    assert rival.images_needed == pytest.approx(max(needed, 10))
    assert (
        f"Far ({rival.difference:.3f} higher, p < 0.001) is significantly worse than"
        in (sentences(run, answer)[1])
    )


def test_an_answer_says_how_many_images_would_distinguish_methods(write):
    """No method is significantly better, so nobody leads, and all are compared with the best."""
    generator = np.random.default_rng(3)
    low = generator.uniform(1, 2, 20)
    errors = {"low": low, "near": low + 0.05 + generator.permutation(np.linspace(-0.3, 0.3, 20))}
    metrics = {ERROR: {"title": "Error", "kind": "unbounded", "better": "lower", "of": "method"}}
    run = write(rows_of(ERROR, errors), {"net": ("last",)}, metrics=metrics)
    (answer,) = answers(run, [ERROR])
    assert answer.leading == frozenset()
    (rival,) = answer.rivals
    assert not rival.is_worse
    images = float(f"{rival.images_needed:.1e}")
    assert images > 20
    assert sentences(run, answer) == [
        f"20 images can't distinguish Low from Near (about {images:,.0f} images would show a "
        "difference) by error."
    ]

    few = {name: values[:6] for name, values in errors.items()}
    run = write(rows_of(ERROR, few), {"net": ("last",)}, metrics=metrics)
    (answer,) = answers(run, [ERROR])
    assert sentences(run, answer) == [
        "6 images are too few for a test of error: at least 10 are needed."
    ]


def test_an_answer_lists_the_metrics_in_which_the_chosen_methods_do_not_lead(write):
    low, high = np.random.default_rng(0).uniform([[1], [5]], [[2], [6]], (2, 20))
    records = [
        rows_of("main", {"a": high, "b": high + 0.1, "c": low}),
        rows_of("other", {"a": low, "b": low, "c": high}),
        rows_of("third", {"a": high, "b": high, "c": low}),
        rows_of("fourth", {"a": high, "b": low, "c": low}),
    ]
    metrics = {
        name: {"title": name.title(), "kind": "unbounded", "better": "higher", "of": "method"}
        for name in ("main", "other", "third", "fourth")
    }
    run = write(pd.concat(records), {"net": ("last",)}, metrics=metrics)
    leading = {"main": {"b"}, "other": {"c"}, "third": {"a", "b"}, "fourth": {"a"}}
    for name, methods in leading.items():
        assert best_methods(run, run.settings[0], name) == methods
    (answer,) = answers(run, ["third"], ["main", "other", "fourth"])
    said = sentences(run, answer)
    assert "In main, B leads, and A doesn't." in said
    assert "In fourth, A leads, and B doesn't." in said
    assert "In other, C leads instead." in said
