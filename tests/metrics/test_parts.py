"""Metrics of parts and their effects: by hand on a linear network, and against SciPy in float64."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation

SIDE = 8
QUARTERS = tuple(
    (slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4)) for row in (0, 1) for column in (0, 1)
)
NAMES = (("digit 0", 0), ("digit 1", 1), ("mark", None), ("ground", None))


def network(classes=3):
    """S_c = (c + 1) times the mean over all pixels of channel 0, less that of channel 1."""
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes, bias=False)
    )
    model[0].weight.data = torch.eye(3)[..., None, None]
    model[3].weight.data = torch.arange(1.0, classes + 1)[:, None] * torch.tensor([1.0, -1.0, 0.0])
    return model.double().eval()


def image(values):
    """Channel 0 of each quarter."""
    pixels = torch.zeros(3, SIDE, SIDE, dtype=torch.float64)
    for value, quarter in zip(values, QUARTERS, strict=True):
        pixels[0][quarter] = value
    return pixels


def region(place):
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[QUARTERS[place]] = True
    return inside


def parts(values, versions, names=NAMES):
    """A part per quarter; versions[place]: the values of channel 0 that the quarter has without it."""
    return tuple(
        ab.Part(name, label, region(place),
                torch.stack([image([*values[:place], value, *values[place + 1 :]]) for value in versions[place]]))
        for place, (name, label) in enumerate(names)
    )  # fmt: skip


def traced(*rows, targets=None, classes=3):
    """rows: (values, versions) or (values, versions, names) of each image."""
    images = torch.stack([image(values) for values, *_ in rows])
    targets = torch.zeros(len(rows), dtype=torch.long) if targets is None else torch.tensor(targets)
    return ab.cut(network(classes), "0").trace(images, targets, interventions=[parts(*row) for row in rows])


def explained(trace, raw_map, method=None):
    raw_map = torch.as_tensor(raw_map, dtype=torch.float64)
    return replace(Explanation.of(trace, ab.Map(raw_map), method=method), contributions=None)


def quarters(*values):
    """A raw map (1, 8, 8) whose mass on each quarter is the value."""
    return image(values)[0][None] / 16


def value_of(name, explanation):
    return measure(metrics.get(name), explanation, True)[name]


# Quarters count a quarter of a mean, so effects are (c + 1) / 4 times the change of a value.
EXAMPLE = ([8.0, 4.0, 2.0, 1.0], [[0.0], [5.0], [2.0], [5.0, -1.0]])  # effects 8, -1, 0 and -1 of class 0, in quarters


def test_effects_of_a_linear_network_are_those_of_the_pixels():
    for target in (0, 2):
        trace = traced(EXAMPLE, targets=[target])
        torch.testing.assert_close(trace.part_effects[0], (target + 1) * torch.tensor([8.0, -1, 0, -1]).double() / 4)


def test_object_effects_are_shares_of_all_effects():
    """Of every class: 8 of 10 parts of its effects are the first object's."""
    trace = traced(EXAMPLE, EXAMPLE, ([1.0] * 4, [[1.0], [1.0], [3.0], [1.0]]), targets=[0, 2, 0])
    values = metrics.get("object_effects")(Explanation(trace=trace))
    expected = {
        "object_effects": [0.8, 0.0, 0.0],  # class 2 has no object in the image
        "object_effects_others": [0.1, 0.9, 0.0],
        "object_effects_marks": [0.0, 0.0, 1.0],
        "object_effects_ground": [0.1, 0.1, 0.0],
    }
    assert {name: pytest.approx(value.tolist(), abs=1e-12) for name, value in values.items()} == expected


def test_several_objects_of_a_class_count_together():
    names = (("digit 0", 0), ("digit 0 (2)", 0), ("digit 2", 2), ("ground", None))
    values = metrics.get("object_effects")(Explanation(trace=traced((*EXAMPLE, names))))
    assert values["object_effects"].tolist() == pytest.approx([0.9])


def test_no_effect_at_all_has_a_status():
    trace = traced(([1.0] * 4, [[1.0], [1.0], [1.0], [1.0, 1.0]]), EXAMPLE)
    for name, (values, statuses) in measure(metrics.get("object_effects"), Explanation(trace=trace), True).items():
        assert statuses == ("no_effect", OK), name
        assert values.isnan().tolist() == [True, False]


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
    explanation = explained(traced(EXAMPLE), quarters(*masses))
    values = metrics.get("object_deletion")(explanation)
    assert values["object_deletion"].item() == pytest.approx(correlation, abs=1e-12)
    assert values["object_deletion_top1"].item() == pytest.approx(first)


def test_the_largest_effects_may_be_equal():
    trace = traced(([8.0, 8.0, 2.0, 1.0], [[0.0], [0.0], [2.0], [1.0]]))
    for masses, first in (((1, 3, 2, 0), 1.0), ((1, 2, 3, 0), 0.0), ((3, 3, 2, 0), 1.0), ((2, 3, 3, 0), 0.5)):
        assert metrics.get("object_deletion")(explained(trace, quarters(*masses)))["object_deletion_top1"] == first


def test_object_deletion_is_scipy_s_correlation():
    """Of random maps, coarser than the image, in float64: ranks have no rounding."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        (torch.randn(4, generator=generator).tolist(), torch.randn(4, 1, generator=generator).tolist())
        for _ in range(12)
    ]
    trace = traced(*rows)
    raw_map = torch.randn(12, 3, 5, generator=generator, dtype=torch.float64)
    actual = metrics.get("object_deletion")(explained(trace, raw_map))["object_deletion"]
    large = nn.functional.interpolate(raw_map[:, None], size=(SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]
    for row in range(12):
        masses = [large[row][region(place)].sum().item() for place in range(3)]
        drops = [rows[row][0][place] - rows[row][1][place][0] for place in range(3)]
        assert actual[row].item() == pytest.approx(spearmanr(masses, drops).statistic, abs=1e-12)


def test_what_has_no_order_has_a_status():
    lone = (("digit 0", 0), ("ground", None), ("ground", None), ("ground", None))
    same = ([1.0] * 4, [[0.0], [0.0], [0.0], [0.0]])
    trace = traced(EXAMPLE, (*EXAMPLE, lone), same)
    explanation = explained(trace, torch.cat([quarters(1, 1, 1, 5), quarters(1, 2, 3, 4), quarters(1, 2, 3, 4)]))
    answers = measure(metrics.get("object_deletion"), explanation, True)
    assert answers["object_deletion"][1] == ("no_variation",) * 3
    assert answers["object_deletion_top1"][1] == (OK, "no_variation", OK)
    assert answers["object_deletion_top1"][0].tolist()[::2] == pytest.approx([1 / 3, 1.0])


def test_ground_reliance_is_the_share_on_what_has_no_effect():
    """Effects 8, 0.8, 0 and 1: at a tenth of the largest, the second is still none."""
    trace = traced(([8.0, 4.0, 2.0, 1.0], [[0.0], [3.2], [2.0], [0.0]]))
    explanation = explained(trace, quarters(4, 3, 2, 1))
    reliance = metrics.get("ground_reliance")
    assert reliance(explanation).item() == pytest.approx(0.5)
    for threshold, expected in ((0.0, 0.2), (0.05, 0.2), (0.2, 0.6)):
        changed = plugins.with_params("metric", "ground_reliance", {"threshold": threshold})
        assert changed(explanation).item() == pytest.approx(expected)
    assert reliance(explained(trace, quarters(1, 1, 1, 1))).item() == pytest.approx(0.5)  # of the image's area
    assert reliance(explained(trace, quarters(4, -3, -2, 0))).item() == 0  # no negative evidence
    with pytest.raises(BenchError, match="threshold from 0 to below 1, not 1"):
        plugins.with_params("metric", "ground_reliance", {"threshold": 1.0})(explanation)


def test_where_every_part_has_an_effect_there_is_no_reliance():
    every = ([8.0, 4.0, 2.0, 1.0], [[0.0], [0.0], [0.0], [0.0]])
    none = ([1.0] * 4, [[1.0], [1.0], [1.0], [1.0]])
    explanation = explained(traced(every, none), torch.cat([quarters(4, 3, 2, 1)] * 2))
    values, statuses = value_of("ground_reliance", explanation)
    assert statuses == ("no_idle_part", OK)
    assert values[1] == 1  # nothing has an effect


def by_class(*masses):
    """A method whose map of class c has these masses."""

    def method(trace):
        return ab.Map(torch.cat([quarters(*masses[target]) for target in trace.targets.tolist()]))

    return method


def shifts(method, rows=(EXAMPLE,), targets=(0,), classes=3):
    trace = traced(*rows, targets=targets, classes=classes)
    return measure(metrics.get("target_shift"), Explanation.of(trace, method(trace), method=method), True)


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
    """Of the quarters of class 2, the second and third; both count. And of equals the first."""
    names = (("digit 1", 1), ("digit 2", 2), ("digit 2 (2)", 2), ("digit 0", 0))
    method = by_class((0, 0, 0, 1), (1, 0, 0, 0), (0, 1, 1, 0))
    assert shifts(method, [(*EXAMPLE, names)])["target_shift"][0].item() == 1  # to class 1, the first of equals
    values = parts(*EXAMPLE, names)
    merged = ab.Part("digit 2", 2, region(1) | region(2), values[1].images)
    trace = traced(EXAMPLE)
    trace = replace(trace, interventions=((values[0], merged, values[3]),))
    measured = measure(metrics.get("target_shift"), Explanation.of(trace, method(trace), method=method), True)
    assert measured["target_shift"][0].item() == 1


def test_images_without_two_classes_have_a_status():
    """Classes that the model doesn't have aren't explained; a broken other map is told."""
    lone = (("digit 0", 0), ("mark", None), ("mark 2", None), ("ground", None))
    beyond = (("digit 0", 0), ("digit 7", 7), ("mark", None), ("ground", None))
    absent = (("digit 1", 1), ("digit 1 (2)", 1), ("mark", None), ("ground", None))
    rows = [(*EXAMPLE, names) for names in (lone, beyond, absent)]
    answers = shifts(by_class((1, 1, 0, 0), (1, 0, 0, 0)), rows, (0, 0, 0))
    assert answers["target_shift"][1] == ("one_class", "one_class", OK)
    assert answers["target_shift_objects"][1] == ("one_class",) * 3
    broken = shifts(by_class((1, 1, 0, 0), (float("nan"),) * 4))
    assert broken["target_shift"][1] == broken["target_shift_objects"][1] == ("not_finite",)


@pytest.mark.parametrize("name", ["object_effects", "object_deletion", "ground_reliance", "target_shift"])
def test_images_without_interventions_have_the_status(name):
    bare = replace(traced(EXAMPLE), interventions=None)
    empty = replace(traced(EXAMPLE, EXAMPLE), interventions=(traced(EXAMPLE).interventions[0], ()))
    metric = metrics.get(name)
    for statuses in measure(metric, explained(bare, quarters(1, 2, 3, 4), lambda _: None), True).values():
        assert statuses[1] == ("no_interventions",)
    method = by_class((1, 0, 0, 0), (0, 1, 0, 0))
    explanation = Explanation.of(empty, method(empty), method=method)
    for values, statuses in measure(metric, explanation, True).values():
        assert statuses == (OK, "no_interventions")
        assert values.isnan().tolist() == [False, True]


def test_a_part_that_a_crop_cut_away_changes_nothing_else():
    """The ground may have no pixel."""
    trace = traced(EXAMPLE)
    nothing = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    ground = replace(trace.interventions[0][3], region=nothing)
    trace = replace(trace, interventions=((*trace.interventions[0][:3], ground),))
    assert value_of("object_deletion", explained(trace, quarters(3, 1, 2, 0)))[1] == (OK,)
    assert value_of("ground_reliance", explained(trace, quarters(3, 1, 2, 0)))[0].item() == pytest.approx(1 / 3)
