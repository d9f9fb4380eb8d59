"""Mass of the map on a spurious mark, its share beside that of the true effects: closed forms by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.cutting.interventions import Part
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.mark_effect import mark_effect
from axiom_bench.metrics.mark_mass import mark_mass
from axiom_bench.metrics.mark_share import mark_share

SIDE = 8


def region(top: int, left: int, height: int, width: int) -> Tensor:
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[top : top + height, left : left + width] = True
    return inside


OBJECT, MARK = region(0, 0, 4, 4), region(4, 4, 2, 4)
NO_IMAGES = torch.zeros(1, 3, SIDE, SIDE)
PARTS = (
    Part("digit 3", 3, OBJECT, NO_IMAGES),
    Part("mark", None, MARK, NO_IMAGES),
    Part("ground", None, ~(OBJECT | MARK), NO_IMAGES),
)


def explained(raw_map: Tensor, effects: list[float], parts: tuple[Part, ...] = PARTS) -> Explanation:
    """One image with these parts and effects, explained by a raw map (h, w). The mark has 8 pixels, the object 16."""
    trace = SimpleNamespace(
        images=NO_IMAGES, interventions=(parts,), part_effects=(torch.tensor(effects),), scores=torch.ones(1)
    )
    heatmap = ab.heatmap(raw_map[None], (SIDE, SIDE))
    return Explanation(trace=trace, raw_map=raw_map[None], heatmap=heatmap)  # type: ignore[arg-type]


def share(explanation: Explanation) -> tuple[float, float]:
    answer = mark_share(explanation)
    return float(answer["mark_share"]), float(answer["mark_share_error"])


def effect(explanation: Explanation) -> tuple[float, float]:
    answer = mark_effect(explanation)
    return float(answer["mark_effect"]), float(answer["mark_effect_share"])


def test_mass_is_of_the_whole_map() -> None:
    assert float(mark_mass(explained(torch.ones(SIDE, SIDE), [1.0, 1.0, 1.0]))) == pytest.approx(8 / 64)
    assert float(mark_mass(explained(MARK.float(), [1.0, 1.0, 1.0]))) == 1
    half = 0.5 * OBJECT.float() + MARK.float()
    assert float(mark_mass(explained(half - 9 * ~(OBJECT | MARK), [1.0, 1.0, 1.0]))) == pytest.approx(1 / 2)


def test_share_is_of_the_mass_on_mark_and_objects() -> None:
    """A constant map has 8 of the 24 pixels, whatever lies on the ground."""
    everywhere = torch.ones(SIDE, SIDE)
    assert share(explained(everywhere, [3.0, 1.0, 0.0])) == pytest.approx((1 / 3, 1 / 3 - 1 / 4))
    on_ground = everywhere + 5 * ~(OBJECT | MARK)
    assert share(explained(on_ground, [3.0, 1.0, 9.0])) == pytest.approx((1 / 3, 1 / 3 - 1 / 4))


def test_a_map_in_proportion_to_the_true_effects_has_no_error() -> None:
    raw_map = 3 * OBJECT / OBJECT.sum() + 1 * MARK / MARK.sum()
    assert share(explained(raw_map, [3.0, 1.0, -2.0])) == pytest.approx((1 / 4, 0), abs=1e-7)


def test_hiding_a_mark_that_counts_and_showing_one_that_does_not_are_the_worst() -> None:
    assert share(explained(OBJECT.float(), [0.0, 2.0, 0.0])) == (0, 1)
    assert share(explained(MARK.float(), [2.0, 0.0, 0.0])) == (1, 1)
    assert share(explained(MARK.float(), [-1.0, 2.0, 0.0])) == (1, 0)
    assert share(explained(MARK.float(), [2.0, -1.0, 0.0])) == (1, 1)


def test_effect_in_the_score_s_units_and_as_a_share_without_the_ground() -> None:
    assert effect(explained(MARK.float(), [3.0, 1.5, 7.0])) == pytest.approx((1.5, 1 / 3))
    assert effect(explained(MARK.float(), [3.0, -1.5, 1.0])) == pytest.approx((-1.5, 0))


def test_two_marks_count_together() -> None:
    halves = (region(4, 4, 2, 2), region(4, 6, 2, 2))
    marks = [Part(f"mark {number}", None, half, NO_IMAGES) for number, half in enumerate(halves)]
    two = explained(torch.ones(SIDE, SIDE), [2.0, 1.5, 0.5, 0.0], (PARTS[0], *marks, PARTS[-1]))
    assert effect(two) == pytest.approx((2, 1 / 2))
    assert share(two) == pytest.approx((1 / 3, 1 / 6))
    assert float(mark_mass(two)) == pytest.approx(8 / 64)


METRICS = [metrics.get(name) for name in ("mark_mass", "mark_share", "mark_effect")]


def statuses(explanation: Explanation) -> dict[str, str]:
    return {name: why[0] for metric in METRICS for name, (_, why) in measure(metric, explanation, True).items()}


def test_without_a_mark_or_parts_there_is_no_value() -> None:
    plain = explained(torch.ones(SIDE, SIDE), [1.0, 1.0], (PARTS[0], Part("ground", None, ~OBJECT, NO_IMAGES)))
    assert set(statuses(plain).values()) == {"no_mark"}
    assert set(statuses(explained(torch.ones(SIDE, SIDE), [], ())).values()) == {"no_interventions"}


def test_statuses_of_shares_that_are_undefined() -> None:
    assert statuses(explained(torch.ones(SIDE, SIDE), [-1.0, -1.0, 5.0])) == {
        "mark_mass": "ok",
        "mark_share": "no_positive_effect",
        "mark_share_error": "no_positive_effect",
        "mark_effect": "ok",
        "mark_effect_share": "no_positive_effect",
    }
    on_ground = statuses(explained((~(OBJECT | MARK)).float(), [1.0, 1.0, 0.0]))
    assert (on_ground["mark_mass"], on_ground["mark_share"], on_ground["mark_share_error"]) == (
        "ok", "off_objects", "off_objects",
    )  # fmt: skip
    zero = statuses(explained(torch.zeros(SIDE, SIDE), [1.0, 1.0, 0.0]))
    assert (zero["mark_mass"], zero["mark_share"], zero["mark_effect"]) == ("zero_map", "zero_map", "ok")
