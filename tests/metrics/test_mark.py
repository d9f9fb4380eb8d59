"""The metrics of parts.

The mass on a spurious mark, and its share compared with that of the true effects, are checked by
hand. Effects and their order are checked on a linear network, by hand and against SciPy in float64.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.columns import OK
from axiom_bench.cutting.interventions import Part
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from tests.metrics.build import close, explained, of_map, picture, status, statuses, values_of

SIDE = 8


def box(top: int, left: int, height: int, width: int) -> Tensor:
    return picture((left, top, left + width, top + height, 1), size=(SIDE, SIDE)) > 0


OBJECT = box(0, 0, 4, 4)
MARK = box(4, 4, 2, 4)
NO_IMAGES = torch.zeros(1, 3, SIDE, SIDE)
DIGIT_PART = Part("digit 3", 3, OBJECT, NO_IMAGES)
MARK_PART = Part("mark", None, MARK, NO_IMAGES)
GROUND_PART = Part("ground", None, ~(OBJECT | MARK), NO_IMAGES)
PARTS = (DIGIT_PART, MARK_PART, GROUND_PART)


def with_effects(
    raw_map: Tensor, effects: list[float], parts: tuple[Part, ...] = PARTS
) -> Explanation:
    """Explain one image with these parts and effects by a raw map (h, w).

    The mark has 8 pixels, and the object 16.
    """
    trace = SimpleNamespace(
        images=NO_IMAGES,
        interventions=(parts,),
        part_effects=(torch.tensor(effects),),
        scores=torch.ones(1),
    )
    heatmap = ab.heatmap(raw_map[None], (SIDE, SIDE))
    return Explanation(trace=trace, raw_map=raw_map[None], heatmap=heatmap)  # type: ignore[arg-type]


def value(name: str, explanation: Explanation) -> tuple[float, ...]:
    return tuple(float(values) for values in values_of(metrics.get(name)(explanation)))


EVERYWHERE = torch.ones(SIDE, SIDE)
OUTSIDE = (~(OBJECT | MARK)).float()


@pytest.mark.parametrize(
    ("name", "raw_map", "effects", "expected"),
    [
        # mark_mass is the share of the whole map.
        ("mark_mass", EVERYWHERE, [1, 1, 1], (8 / 64,)),
        ("mark_mass", MARK.float(), [1, 1, 1], (1,)),
        ("mark_mass", 0.5 * OBJECT + MARK.float() - 9 * OUTSIDE, [1, 1, 1], (1 / 2,)),
        # mark_share is the share of the mass on mark and objects: a constant map has 8 of the 24
        # pixels, whatever lies on the ground.
        ("mark_share", EVERYWHERE, [3, 1, 0], (1 / 3, 1 / 3 - 1 / 4)),
        ("mark_share", EVERYWHERE + 5 * OUTSIDE, [3, 1, 9], (1 / 3, 1 / 3 - 1 / 4)),
        # A map in proportion to the true effects has no error.
        ("mark_share", 3 * OBJECT / 16 + 1 * MARK / 8, [3, 1, -2], (1 / 4, 0)),
        # The worst maps hide a mark that counts, or show one that doesn't.
        ("mark_share", OBJECT.float(), [0, 2, 0], (0, 1)),
        ("mark_share", MARK.float(), [2, 0, 0], (1, 1)),
        ("mark_share", MARK.float(), [-1, 2, 0], (1, 0)),
        ("mark_share", MARK.float(), [2, -1, 0], (1, 1)),
        # mark_effect is in the score's units, and a share without the ground.
        ("mark_effect", MARK.float(), [3, 1.5, 7], (1.5, 1 / 3)),
        ("mark_effect", MARK.float(), [3, -1.5, 1], (-1.5, 0)),
    ],
)
def test_marks_by_hand(name, raw_map, effects, expected):
    assert value(name, with_effects(raw_map, effects)) == pytest.approx(expected, abs=1e-7)


def test_two_marks_count_together():
    marks = [Part(f"mark {left}", None, box(4, left, 2, 2), NO_IMAGES) for left in (4, 6)]
    parts = (PARTS[0], *marks, PARTS[-1])
    explanation = with_effects(EVERYWHERE, [2.0, 1.5, 0.5, 0.0], parts)
    assert value("mark_effect", explanation) == pytest.approx((2, 1 / 2))
    assert value("mark_share", explanation) == pytest.approx((1 / 3, 1 / 6))
    assert value("mark_mass", explanation) == pytest.approx((8 / 64,))


NO_MARK = (PARTS[0], Part("ground", None, ~OBJECT, NO_IMAGES))
NO_SHARE = {
    "mark_share": "no_positive_effect",
    "mark_share_error": "no_positive_effect",
    "mark_effect_share": "no_positive_effect",
}
OFF_OBJECTS = {"mark_share": "off_objects", "mark_share_error": "off_objects"}
ZERO_MAP = {"mark_mass": "zero_map", "mark_share": "zero_map", "mark_share_error": "zero_map"}


@pytest.mark.parametrize(
    ("raw_map", "effects", "parts", "others", "expected"),
    [
        (EVERYWHERE, [1.0, 1.0], NO_MARK, "no_mark", {}),
        (EVERYWHERE, [], (), "no_interventions", {}),
        (EVERYWHERE, [-1.0, -1.0, 5.0], PARTS, "ok", NO_SHARE),
        (OUTSIDE, [1.0, 1.0, 0.0], PARTS, "ok", OFF_OBJECTS),
        (0 * EVERYWHERE, [1.0, 1.0, 0.0], PARTS, "ok", ZERO_MAP),
    ],
)
def test_statuses_of_marks(raw_map, effects, parts, others, expected):
    explanation = with_effects(raw_map, effects, parts)
    actual = {}
    for name in ("mark_mass", "mark_share", "mark_effect"):
        for value_name, (first_status, *_) in statuses(name, explanation).items():
            actual[value_name] = first_status
    assert actual == dict.fromkeys(actual, others) | expected


FIRST = slice(0, 4)
SECOND = slice(4, 8)
QUARTERS = ((FIRST, FIRST), (FIRST, SECOND), (SECOND, FIRST), (SECOND, SECOND))
NAMES = (("digit 0", 0), ("digit 1", 1), ("mark", None), ("ground", None))


def network(classes=3):
    """Build a network with S_c = (c + 1) * (mean of channel 0 - mean of channel 1)."""
    conv = nn.Conv2d(3, 3, 1, bias=False)
    classifier = nn.Linear(3, classes, bias=False)
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier)
    model[0].weight.data = torch.eye(3)[..., None, None]
    model[3].weight.data = torch.arange(1.0, classes + 1)[:, None] * torch.tensor([1.0, -1.0, 0.0])
    return model.double().eval()


def image(values):
    """Return the image whose channel 0 has these values, one per quarter."""
    pixels = torch.zeros(3, SIDE, SIDE, dtype=torch.float64)
    for number, quarter in zip(values, QUARTERS, strict=True):
        pixels[0][quarter] = number
    return pixels


def region(place):
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[QUARTERS[place]] = True
    return inside


def parts(values, versions, names=NAMES):
    """Return one part per quarter.

    Without the part, channel 0 of the quarter has the values versions[place], one per version.
    """
    quarter_parts = []
    for place, (name, label) in enumerate(names):
        images = []
        for new_value in versions[place]:
            new_values = [*values[:place], new_value, *values[place + 1 :]]
            images.append(image(new_values))
        quarter_parts.append(ab.Part(name, label, region(place), torch.stack(images)))
    return tuple(quarter_parts)


def traced(*rows, targets=None, classes=3):
    """Trace images, each given by (values, versions) or (values, versions, names) of its parts."""
    images = torch.stack([image(values) for values, *_ in rows])
    targets = torch.zeros(len(rows), dtype=torch.long) if targets is None else torch.tensor(targets)
    interventions = [parts(*row) for row in rows]
    return ab.cut(network(classes), "0").trace(images, targets, interventions=interventions)


def mapped(trace, raw_map):
    return replace(of_map(trace, torch.as_tensor(raw_map)), contributions=None)


def quarters(*values):
    """Return a raw map (1, 8, 8) whose mass on each quarter is the value."""
    return image(values)[0][None] / 16


# Quarters count a quarter of a mean, so effects are (c + 1) / 4 times the change of a value.
# The effects on class 0 are 8, -1, 0 and -1, in quarters.
EXAMPLE = ([8.0, 4.0, 2.0, 1.0], [[0.0], [5.0], [2.0], [5.0, -1.0]])


def test_object_effects_are_shares_of_all_effects():
    """Check the shares: 8 of 10 parts of the effects are the first object's, for every class.

    Objects of one class count together.
    """
    names = (("digit 0", 0), ("digit 0 (2)", 0), ("digit 2", 2), ("ground", None))
    only_mark = ([1.0] * 4, [[1.0], [1.0], [3.0], [1.0]])
    trace = traced(EXAMPLE, EXAMPLE, only_mark, (*EXAMPLE, names), targets=[0, 2, 0, 0])
    values = metrics.get("object_effects")(Explanation(trace=trace))

    def assert_shares(kind: str, *expected: float) -> None:
        assert values.pop(kind).tolist() == pytest.approx(expected, abs=1e-12)

    # class 2 has no object in the second image
    assert_shares("object_effects", 0.8, 0.0, 0.0, 0.9)
    assert_shares("object_effects_others", 0.1, 0.9, 0.0, 0.0)
    assert_shares("object_effects_marks", 0.0, 0.0, 1.0, 0.0)
    assert_shares("object_effects_ground", 0.1, 0.1, 0.0, 0.1)
    assert not values

    without_effect = traced(([1.0] * 4, [[1.0], [1.0], [1.0], [1.0, 1.0]]), EXAMPLE)
    actual = statuses("object_effects", Explanation(trace=without_effect))
    assert actual == dict.fromkeys(actual, ("no_effect", OK))


@pytest.mark.parametrize(
    ("masses", "correlation", "first"),
    [
        ((3, 1, 2, 0), 1.0, 1.0),  # effects 8, -1, 0: the mark before the second object
        ((3, 1, 2, 99), 1.0, 1.0),  # the ground doesn't count
        ((-1, -3, -2, 0), 1.0, 1.0),  # signed
        ((1, 3, 2, 0), -1.0, 0.0),
        ((2, 3, 1, 0), -0.5, 0.0),
        ((3, 3, 1, 0), 0.0, 0.5),  # ranks 2.5, 2.5, 1 with 3, 1, 2
        ((3, 3 + 1e-9, 1, 0), 0.0, 0.5),  # equal but for rounding
    ],
)
def test_object_deletion_by_hand(masses, correlation, first):
    explanation = mapped(traced(EXAMPLE), quarters(*masses))
    values = metrics.get("object_deletion")(explanation)
    assert values["object_deletion"].item() == pytest.approx(correlation, abs=1e-12)
    assert values["object_deletion_top1"].item() == pytest.approx(first)


def test_the_largest_effects_may_be_equal():
    trace = traced(([8.0, 8.0, 2.0, 1.0], [[0.0], [0.0], [2.0], [1.0]]))

    def top1(*masses: int) -> Tensor:
        values = metrics.get("object_deletion")(mapped(trace, quarters(*masses)))
        return values["object_deletion_top1"]

    assert top1(1, 3, 2, 0) == 1.0
    assert top1(1, 2, 3, 0) == 0.0
    assert top1(3, 3, 2, 0) == 1.0
    assert top1(2, 3, 3, 0) == 0.5


def test_what_has_no_order_has_a_status():
    ground = ("ground", None)
    one_object = (("digit 0", 0), ground, ground, ground)
    equal_effects = ([1.0] * 4, [[0.0], [0.0], [0.0], [0.0]])
    maps = torch.cat([quarters(1, 1, 1, 5), quarters(1, 2, 3, 4), quarters(1, 2, 3, 4)])
    explanation = mapped(traced(EXAMPLE, (*EXAMPLE, one_object), equal_effects), maps)
    expected = {
        "object_deletion": ("no_variation",) * 3,
        "object_deletion_top1": (OK, "no_variation", OK),
    }
    assert statuses("object_deletion", explanation) == expected
    top = metrics.get("object_deletion")(explanation)["object_deletion_top1"]
    close(top[::2], [1 / 3, 1.0], atol=1e-7)


@pytest.mark.parametrize(
    ("masses", "threshold", "expected"),
    [
        ((4, 3, 2, 1), 0.1, 0.5),
        ((4, 3, 2, 1), 0.0, 0.2),
        ((4, 3, 2, 1), 0.05, 0.2),
        ((4, 3, 2, 1), 0.2, 0.6),
        ((1, 1, 1, 1), 0.1, 0.5),  # the share of the image's area
        ((4, -3, -2, 0), 0.1, 0),  # negative evidence doesn't count
    ],
)
def test_ground_reliance_is_the_share_on_what_has_no_effect(masses, threshold, expected):
    """Check the share for effects 8, 0.8, 0 and 1.

    At a tenth of the largest effect, the default threshold, the second one counts as none.
    """
    trace = traced(([8.0, 4.0, 2.0, 1.0], [[0.0], [3.2], [2.0], [0.0]]))
    explanation = mapped(trace, quarters(*masses))
    assert metrics.get("ground_reliance").params["threshold"] == 0.1
    reliance = plugins.with_params("metric", "ground_reliance", {"threshold": threshold})
    assert reliance(explanation).item() == pytest.approx(expected)
    with pytest.raises(BenchError, match="threshold from 0 to below 1, not 1"):
        plugins.with_params("metric", "ground_reliance", {"threshold": 1.0})(explanation)


def test_where_every_part_has_an_effect_there_is_no_reliance():
    with_effects_everywhere = ([8.0, 4.0, 2.0, 1.0], [[0.0], [0.0], [0.0], [0.0]])
    without_effect = ([1.0] * 4, [[1.0], [1.0], [1.0], [1.0]])
    explanation = mapped(traced(with_effects_everywhere, without_effect), quarters(4, 3, 2, 1))
    assert statuses("ground_reliance", explanation) == {"ground_reliance": ("no_idle_part", OK)}
    assert metrics.get("ground_reliance")(explanation)[1] == 1  # nothing has an effect


def by_class(*masses):
    """Return a method whose map of class c has these masses."""

    def method(trace):
        return ab.Map(torch.cat([quarters(*masses[target]) for target in trace.targets.tolist()]))

    return method


def shifts(method, rows=(EXAMPLE,), targets=(0,), classes=3):
    trace = traced(*rows, targets=targets, classes=classes)
    return measure(metrics.get("target_shift"), explained(trace, method), True)


@pytest.mark.parametrize(
    ("masses", "shift", "objects"),
    [
        ([(1, 0, 0, 0), (0, 1, 0, 0)], 1.0, 1.0),
        ([(0, 1, 0, 0), (1, 0, 0, 0)], -1.0, -1.0),
        ([(2, 1, 0, 1)] * 2, 0.0, 0.0),  # doesn't depend on the class
        ([(2, 0, 0, 2), (0, 1, 0, 3)], 0.25, 1.0),
        ([(3, 1, 1, 5), (1, 3, 2, 4)], 0.2, 0.5),
        ([(1, 0, 0, 0), (-1, -1, -1, -1)], 0.0, 0.0),  # a map without mass
    ],
)
def test_target_shift_by_hand(masses, shift, objects):
    answers = shifts(by_class(*masses))
    assert answers["target_shift"][0].item() == pytest.approx(shift, abs=1e-12)
    assert answers["target_shift_objects"][0].item() == pytest.approx(objects, abs=1e-12)


def test_the_other_class_is_that_of_the_largest_other_object():
    """Check that both objects of class 2 count, and that the first of equal classes is taken.

    Class 2 has the second and third quarter.
    """
    names = (("digit 1", 1), ("digit 2", 2), ("digit 2 (2)", 2), ("digit 0", 0))
    method = by_class((0, 0, 0, 1), (1, 0, 0, 0), (0, 1, 1, 0))
    shift, _ = shifts(method, [(*EXAMPLE, names)])["target_shift"]
    assert shift.item() == 1  # to class 1, the first of equals

    first, second, _, last = parts(*EXAMPLE, names)
    merged = ab.Part("digit 2", 2, region(1) | region(2), second.images)
    trace = replace(traced(EXAMPLE), interventions=((first, merged, last),))
    measured = measure(metrics.get("target_shift"), explained(trace, method), True)
    assert measured["target_shift"][0].item() == 1


def test_images_without_two_classes_have_a_status():
    """Check that classes that the model doesn't have aren't explained.

    A map of the other class that isn't finite has a status, too.
    """
    one_object = (("digit 0", 0), ("mark", None), ("mark 2", None), ("ground", None))
    unknown_class = (("digit 0", 0), ("digit 7", 7), ("mark", None), ("ground", None))
    without_target = (("digit 1", 1), ("digit 1 (2)", 1), ("mark", None), ("ground", None))
    rows = [(*EXAMPLE, names) for names in (one_object, unknown_class, without_target)]

    answers = shifts(by_class((1, 1, 0, 0), (1, 0, 0, 0)), rows, (0, 0, 0))
    broken = shifts(by_class((1, 1, 0, 0), (float("nan"),) * 4))

    actual = {name: row_statuses for name, (_, row_statuses) in answers.items()}
    assert actual == {
        "target_shift": ("one_class", "one_class", OK),
        "target_shift_objects": ("one_class",) * 3,
    }
    assert {row_statuses for _, row_statuses in broken.values()} == {("not_finite",)}


@pytest.mark.parametrize(
    "name", ["object_effects", "object_deletion", "ground_reliance", "target_shift"]
)
def test_images_without_interventions_have_the_status(name):
    without_parts = replace(traced(EXAMPLE), interventions=None)
    assert status(name, mapped(without_parts, quarters(1, 2, 3, 4))) == {"no_interventions"}

    (first_parts,) = traced(EXAMPLE).interventions
    second_empty = replace(traced(EXAMPLE, EXAMPLE), interventions=(first_parts, ()))
    actual = statuses(name, explained(second_empty, by_class((1, 0, 0, 0), (0, 1, 0, 0))))
    assert actual == dict.fromkeys(actual, (OK, "no_interventions"))


def test_a_part_that_a_crop_cut_away_changes_nothing_else():
    """Check a ground without pixels."""
    trace = traced(EXAMPLE)
    *others, ground = trace.interventions[0]
    cut_away = replace(ground, region=torch.zeros(SIDE, SIDE, dtype=torch.bool))
    trace = replace(trace, interventions=((*others, cut_away),))
    explanation = mapped(trace, quarters(3, 1, 2, 0))
    assert status("object_deletion", explanation) == {OK}
    assert metrics.get("ground_reliance")(explanation).item() == pytest.approx(1 / 3)
