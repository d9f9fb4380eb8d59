"""Mean ranks over settings, and what a run says in sentences."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axiom_bench.report.charts import ranking
from axiom_bench.report.charts.drawing import Drawing, LeftOut
from axiom_bench.statistics.ranking import critical_difference, findings, in_sentence, mean_ranks, names_in_words
from axiom_bench.statistics.run_folder import RunFolder


def many(make_run: Any, make_records: Any, edit_manifest: Any, count: int, layers: int = 1) -> RunFolder:
    """Three methods on so many networks: a below b below c in the error of each image, but for noise."""
    names = {f"net{place}": tuple(f"layer{layer}" for layer in range(layers)) for place in range(count)}
    methods = dict(zip(("grad_cam", "xgrad_cam", "hires_cam"), "abc", strict=True))
    records = make_records(12, layers=names, methods=methods)
    records = records[(records["metric"] == "conservation_error") & (records["method"] != "-")]
    records["method"] = records["method"].map(methods)
    shift = records["method"].map({"a": 0.0, "b": 0.0, "c": 5.0}).astype(float)
    records["value"] = np.random.default_rng(0).uniform(0, 1, len(records)) + shift
    folder = make_run(records, methods={name: {} for name in "abc"}, layers=names, runtime=False, pictures=False)
    edit_manifest(folder, config={"report": {"headline": ["conservation_error"]}})
    return RunFolder.read(folder)


def test_the_critical_difference_is_nemenyi_s() -> None:
    """Demsar 2006, table 5: q at 5 % is 1.960, 2.343, 2.728 and 3.164 of 2, 3, 5 and 10 methods."""
    for methods, quantile in ((2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)):
        expected = quantile * np.sqrt(methods * (methods + 1) / (6 * 14))
        assert critical_difference(methods, 14) == pytest.approx(expected, abs=2e-3)
    assert critical_difference(11, 6) == pytest.approx(6.16, abs=0.01)


def test_a_few_networks_have_a_sentence(make_run: Any, make_records: Any, edit_manifest: Any) -> None:
    (left,) = ranking.draw_mean_ranks(many(make_run, make_records, edit_manifest, 2))
    assert isinstance(left, LeftOut)
    assert left.reason.startswith(
        "3 methods on 2 networks or data sets: two mean ranks would have to differ by 2.3 places"
    )
    (left,) = ranking.draw_mean_ranks(many(make_run, make_records, edit_manifest, 1))
    assert isinstance(left, LeftOut)
    assert left.reason.startswith("It takes a headline metric")
    (left,) = ranking.draw_mean_ranks(many(make_run, make_records, edit_manifest, 2, layers=2))
    assert isinstance(left, LeftOut)
    assert "layers of one network" in left.reason


def test_many_networks_are_drawn(make_run: Any, make_records: Any, edit_manifest: Any) -> None:
    run = many(make_run, make_records, edit_manifest, 12)
    ranks = mean_ranks(run, "conservation_error")
    assert ranks is not None
    assert ranks.count == 12
    assert ranks.ranks["c"] == 3
    assert ranks.ranks["a"] + ranks.ranks["b"] == 3
    assert ranks.alike() == [(0, 1)]
    assert ranks.p < 0.001
    (drawing,) = ranking.draw_mean_ranks(run)
    assert isinstance(drawing, Drawing)
    assert "over 12 networks or data sets" in drawing.caption
    texts = [text.get_text() for text in drawing.draw().axes[0].texts]
    assert "c 3.0" in texts


ERROR = "conservation_error"
SHIFTS = {"low": 0.0, "twin": 0.0, "near": 0.02, "far": 1.0}


@pytest.fixture
def make_told(make_run: Any, make_records: Any, edit_manifest: Any) -> Callable[..., RunFolder]:
    """Four methods with known errors on 40 images of two networks; `changes` of the manifest."""

    def make(shifts: Any = SHIFTS, models: Any = ("one", "two"), **changes: Any) -> RunFolder:
        generator = np.random.default_rng(0)
        layers = dict.fromkeys(models, ("last",))
        names = dict(zip(("grad_cam", "xgrad_cam", "hires_cam", "random"), shifts, strict=False))
        records = make_records(40, layers=layers, methods=names)
        records = records[(records["metric"] == "conservation_error") & (records["method"] != "-")]
        records["method"] = records["method"].map(names)
        for model in models:
            errors = {name: generator.uniform(1, 3, 40) + shift for name, shift in shifts.items()}
            errors["twin"] = errors["low"]
            errors["near"] = errors["low"] + 0.02 + generator.normal(0, 0.5, 40)
            for name in shifts:
                is_own = (records["model"] == model) & (records["method"] == name)
                records.loc[is_own, "value"] = errors[name]
                records.loc[is_own, "status"] = "ok"
        methods = {name: {"title": name.title()} for name in shifts}
        folder = make_run(records, methods=methods, layers=layers, runtime=False, pictures=False)
        edit_manifest(folder, **changes)
        return RunFolder.read(folder)

    return make


def test_the_best_is_named_with_what_can_not_be_told_from_it(make_told: Callable[..., RunFolder]) -> None:
    found = findings(make_told(models=("one",)), [ERROR])
    assert [finding.kind for finding in found] == ["best", "undecided"]
    best, undecided = found
    start = "one: The conservation error of Low = Twin is lower than that of Far on "
    assert best.sentence.startswith(start) or best.sentence.startswith(start.replace("Low = Twin", "Near"))
    assert best.sentence.endswith("p < 0.001 after Holm.")
    numbers = r"on (\d+) of 40 images, median (\S+) against (\S+); median difference (\S+), .* interval (\S+) to (\S+),"
    _, value, other, difference, low, high = map(float, re.findall(numbers, best.sentence)[0])
    assert value < other
    assert low < difference < high < 0
    assert best.settings[0].model == "one"
    assert undecided.sentence.startswith("one: Whether ")
    assert "can't be told: 40 images would have shown a median difference of " in undecided.sentence
    assert "Low = Twin" in undecided.sentence
    assert "Near" in undecided.sentence


def test_settings_that_agree_say_so_first(make_told: Callable[..., RunFolder]) -> None:
    found = findings(make_told(), [ERROR])
    first = found[0]
    assert first.kind == "agreement"
    assert len(first.settings) == 2
    assert first.sentence.startswith("In both networks, ")
    assert first.sentence.endswith(" have the best conservation error or can't be told from it.")
    assert "Far" not in first.sentence


def test_methods_that_coincide_are_not_ranked(make_told: Callable[..., RunFolder]) -> None:
    (finding,) = findings(make_told({"low": 0.0, "twin": 0.0}, models=("one",)), [ERROR])
    assert finding.kind == "coinciding"
    assert finding.sentence == "one: Low and Twin coincide in conservation error: none is better than another."


def test_who_wins_by_construction_is_said(make_told: Callable[..., RunFolder]) -> None:
    methods = {name: {"title": name.title()} for name in SHIFTS}
    methods["low"] = {"title": "Low", "wins_by_construction": ["conservation_error"]}  # type: ignore[dict-item]
    run = make_told(methods=methods)
    *others, last = findings(run, [ERROR])
    assert last.kind == "by_construction"
    assert last.sentence == "Low has no conservation error by its own formula, and so is not ranked in it."
    assert not any("Low" in finding.sentence for finding in others)
    assert run.summary.set_index("method").loc["low", "by_construction"].all()


def test_random_weights_say_nothing(make_told: Callable[..., RunFolder]) -> None:
    run = make_told()
    random = {name: {"layer": "last", "random_weights": True} for name in ("one", "two")}
    parts = (run.records, run.class_records, run.runtime, run.whole_set)
    assert findings(RunFolder(run.path, {**run.manifest, "models": random}, *parts), [ERROR]) == []


def test_a_usual_run_has_findings_of_its_headline(usual_run: Path) -> None:
    found = findings(RunFolder.read(usual_run), [ERROR, "box_iou"])
    assert {finding.metric for finding in found} == {"conservation_error", "box_iou"}
    assert all(finding.sentence.endswith(".") for finding in found)


@pytest.mark.parametrize(
    ("title", "text"),
    [("Box IoU", "box IoU"), ("ROAD, combined", "ROAD, combined"), ("MaxBoxAcc", "MaxBoxAcc"), ("A x", "a x")],
)
def test_titles_in_a_sentence(title: str, text: str) -> None:
    assert in_sentence(title) == text


def test_long_lists_are_counted(usual_run: Path) -> None:
    run = RunFolder.read(usual_run)
    assert names_in_words(run, [("a",), ("b", "c")]) == "a and b = c"
    assert names_in_words(run, [(name,) for name in "abcdef"], "or") == "a, b, c, d or 2 more"
