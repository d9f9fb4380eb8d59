"""Tests of the metrics of a QR code's parts: closed forms, and plain loops in float64."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.columns import OK
from axiom_bench.cutting.interventions import Part
from axiom_bench.explanation.explanation import Explanation
from tests.metrics.build import close, picture, statuses

SIZE = (9, 12)
PIXELS = 9 * 12
NO_IMAGES = torch.zeros(1, 3, *SIZE)


def region(*boxes):
    return picture(*((*box, 1) for box in boxes), size=SIZE) > 0


FINDERS = region((1, 1, 4, 4), (7, 1, 10, 4))
TIMING = region((4, 3, 7, 4))
CODE = region((1, 1, 10, 8))
MODULES = CODE & ~FINDERS & ~TIMING
PARTS = (
    Part("finder patterns", 1, FINDERS, NO_IMAGES),
    Part("timing patterns", 1, TIMING, NO_IMAGES),
    Part("other modules", 1, MODULES, NO_IMAGES),
    Part("ground", None, ~CODE, NO_IMAGES),
)
NAMES = (
    "finder_mass",
    "timing_mass",
    "background_leakage",
    "finder_coverage",
    "timing_coverage",
    "background_coverage",
    "distance_to_structure",
)


def explained(heatmap, parts=PARTS):
    trace = SimpleNamespace(interventions=(parts,), scores=torch.ones(1), images=NO_IMAGES)
    return Explanation(heatmap=heatmap[None].double(), trace=trace)


def values(heatmap):
    answer = metrics.get("qr_structure")(explained(heatmap))
    assert tuple(answer) == NAMES
    return [float(value) for value in answer.values()]


def distances():
    """Return each pixel's distance to the nearest finder or timing pixel, by plain loops."""
    structure = (FINDERS | TIMING).nonzero().tolist()
    table = torch.zeros(SIZE, dtype=torch.float64)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            table[y, x] = min(math.dist((y, x), pixel) for pixel in structure)
    return table


def expected(heatmap):
    """Return the seven values of the published formulas by plain loops over pixels."""
    regions = (FINDERS, TIMING, ~CODE)
    total = heatmap.sum()
    masses = [sum(heatmap[y, x] for y, x in inside.nonzero()) / total for inside in regions]
    levels = np.round(heatmap.numpy() / heatmap.numpy().max(), 6)
    coverages = []
    for inside in regions:
        shares = []
        for step in range(31):
            threshold = np.quantile(levels, 0.99 * step / 30)
            above = [(y, x) for y, x in np.ndindex(SIZE) if levels[y, x] >= threshold - 1e-12]
            shares.append(sum(bool(inside[pixel]) for pixel in above) / len(above))
        coverages.append(sum(shares) / 31)
    distance = (heatmap * distances()).sum() / total / math.hypot(*SIZE)
    return [float(value) for value in (*masses, *coverages, distance)]


@pytest.mark.parametrize("seed", range(4))
def test_random_maps_have_the_values_of_plain_loops(seed):
    heatmap = torch.rand(SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    heatmap = (heatmap / heatmap.max()).clamp(min=0.2)
    # float64, sums of 108 terms
    close(values(heatmap), expected(heatmap))


def test_a_constant_map_has_the_areas():
    areas = [18 / PIXELS, 3 / PIXELS, 1 - 63 / PIXELS]
    mean_distance = float(distances().mean()) / math.hypot(*SIZE)
    close(values(torch.ones(SIZE)), [*areas, *areas, mean_distance])


def test_a_map_of_only_the_finder_patterns_has_all_its_mass_there():
    """The coverages count all pixels at the thresholds of 0, and only the patterns above them."""
    is_zero = [0.99 * step / 30 * (PIXELS - 1) <= PIXELS - 18 - 1 for step in range(31)]
    at_zero = sum(is_zero) / 31
    coverages = [at_zero * 18 / PIXELS + 1 - at_zero, at_zero * 3 / PIXELS, at_zero * 45 / PIXELS]
    close(values(FINDERS.double()), [1, 0, 0, *coverages, 0])


@pytest.mark.parametrize(
    ("inside", "masses"), [(TIMING, [0, 1, 0]), (MODULES, [0, 0, 0]), (~CODE, [0, 0, 1])]
)
def test_a_map_of_one_part_has_its_mass_there(inside, masses):
    close(values(inside.double())[:3], masses)


def test_images_without_a_code_or_without_parts_have_a_status():
    heatmap = torch.ones(SIZE)
    pattern = (Part("pattern", 0, CODE, NO_IMAGES), PARTS[-1])
    only_finders = (PARTS[0], *PARTS[2:])
    for parts, status in [
        (PARTS, OK),
        (pattern, "no_structure"),
        (only_finders, "no_structure"),
        ((), "no_interventions"),
    ]:
        found = statuses("qr_structure", explained(heatmap, parts))
        assert found == dict.fromkeys(NAMES, (status,))
    trace = SimpleNamespace(interventions=None, scores=torch.ones(1), images=NO_IMAGES)
    no_parts = replace(explained(heatmap), trace=trace)
    assert set(statuses("qr_structure", no_parts).values()) == {("no_interventions",)}
    assert set(statuses("qr_structure", explained(0 * heatmap)).values()) == {("zero_map",)}


def test_a_user_s_own_parts_in_a_notebook_have_values():
    """Photographs of codes need no data set, only `ab.Part`s with the two names."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten()
    )
    network.append(torch.nn.Linear(4 * PIXELS, 2))
    images = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    batch = ab.Batch(images, ("a", "b"), interventions=(PARTS, PARTS))
    frame = ab.evaluate(network.eval(), "1", [batch], ["grad_cam"], ["qr_structure"])
    assert {*frame["metric"]} >= set(NAMES)
    assert {*frame["status"]} <= {OK, "zero_map"}
