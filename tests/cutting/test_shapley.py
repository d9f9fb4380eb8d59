"""Shapley values of an image's parts: closed forms, all orders one by one, and images as they are
drawn.
"""

from dataclasses import replace
from itertools import chain, combinations, permutations
from math import factorial

import numpy as np
import pytest
import torch

import axiom_bench as ab
from axiom_bench.cutting.interventions import GROUND, shapley_values
from axiom_bench.cutting.passes import Passes
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import scenes
from axiom_bench.errors import BenchError

SIDE = 4
PLAIN = Preprocessing(None, None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def stripes(count: int, grounds: int = 0) -> tuple[torch.Tensor, tuple[ab.Part, ...]]:
    """Return an image of ones and its parts, which are stripes.

    The pixels of an absent part are 0; those of an absent ground are 0.1, 0.2 ...
    """
    sides = (SIDE, count + 1 if grounds else count)
    image = torch.ones((3, *sides), dtype=torch.float64)
    columns = torch.arange(sides[1]).expand(sides)
    parts = []
    for place in range(count):
        region = columns == place
        parts.append(ab.Part(str(place), place, region, image.masked_fill(region, 0)[None]))
    if not grounds:
        return image, tuple(parts)
    ground = columns == count
    others = [image.masked_fill(ground, 0.1 * number) for number in range(1, grounds + 1)]
    bare = [other.masked_fill(~ground, 0) for other in others]
    return image, (*parts, ab.Part(GROUND, None, ground, torch.stack(others), torch.stack(bare)))


def values(score, image, parts, rows=4):
    """Compute the Shapley values of a score of the means of the parts' pixels, (R, n) -> (R,)."""

    def score_images(images, _):
        means = [images[:, :, part.region].mean((1, 2)) for part in parts]
        return score(torch.stack(means, 1))

    images = image[None]
    scores = score_images(images, None)
    (answer,) = shapley_values(images, scores, (parts,), score_images, rows, Passes())
    return answer.tolist()


@pytest.mark.parametrize("grounds", [0, 3])
def test_they_are_the_means_over_all_orders_and_add_up(grounds):
    image, parts = stripes(3, grounds)
    count = len(parts)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(count, count, dtype=torch.float64, generator=generator)

    def score(means):
        return torch.sigmoid((means @ weights * means).sum(1))

    def score_of_set(present):
        """Return the score of the present parts, the mean over other grounds if it is absent."""
        row = [1.0 if place in present else 0.0 for place in range(count)]
        rows = [row]
        if grounds and count - 1 not in present:
            rows = [[*row[:-1], 0.1 * number] for number in range(1, grounds + 1)]
        return score(torch.tensor(rows, dtype=torch.float64)).mean().item()

    expected = np.zeros(count)
    for order in permutations(range(count)):
        for step, place in enumerate(order):
            expected[place] += score_of_set(order[: step + 1]) - score_of_set(order[:step])
    expected /= factorial(count)
    answer = values(score, image, parts)
    assert answer == pytest.approx(expected.tolist(), abs=1e-12)  # rounding of float64
    total = score_of_set(range(count)) - score_of_set(())
    assert sum(answer) == pytest.approx(total, abs=1e-12)
    assert values(score, image, parts, rows=3) == pytest.approx(answer, abs=1e-15)


@pytest.mark.parametrize("settings", [{}, {"objects": "many"}, {"kind": "scenes_marked"}])
def test_the_images_of_a_scene_without_some_parts_are_those_that_are_drawn(settings):
    """Bit by bit, on each ground."""
    dataset = load_dataset({"kind": "scenes", "size": 12, "seed": 3, **settings})
    for index in range(4):
        sample = dataset.read(index)
        image, _ = PLAIN(sample)
        parts = PLAIN.parts(sample.image_id, sample.size, dataset.interventions(index))
        drawing = scenes.make_drawing("evaluation", 3, index, dataset.kind)
        others = scenes.other_grounds("evaluation", 3, index, dataset.kind)
        figures = {figure.digit: figure for figure in drawing.figures}
        mark = getattr(dataset.draw(index), "mark", None)
        asked: set[bytes] = set()

        def kept_images(images, _, asked=asked):
            asked |= {asked_image.permute(1, 2, 0).numpy().tobytes() for asked_image in images}
            return torch.zeros(len(images))

        uint8 = (image * 255).round().to(torch.uint8)[None]
        shapley_values(uint8, torch.zeros(1), (parts,), kept_images, 64, Passes())
        sizes = range(1, len(parts) + 1) if len(parts) < 5 else (3,)
        for absent in chain.from_iterable(combinations(range(len(parts)), size) for size in sizes):
            left = [part for place, part in enumerate(parts) if place not in absent]
            kept = tuple(figures[part.label] for part in left if part.label is not None)
            grounds = [drawing] if any(part.name == GROUND for part in left) else others
            drawn = [replace(ground, figures=kept).image() for ground in grounds]
            if mark and any(part.is_mark for part in left):
                drawn = [mark.paint_on(pixels) for pixels in drawn]
            assert {np.ascontiguousarray(pixels).tobytes() for pixels in drawn} <= asked


def test_a_trace_has_them_of_each_row_at_the_announced_passes():
    from tests.methods.test_spoiled import PARTS

    trace = PARTS.trace()
    before = trace.passes.trunk_forward
    answer = trace.part_shapley_values
    assert trace.part_shapley_values is answer
    # with the ground, and its two others
    assert trace.passes.trunk_forward - before == len(trace) * (3 + 4 * 2)
    alone = replace(trace, interventions=((), *trace.interventions[1:2], *((),) * (len(trace) - 2)))
    torch.testing.assert_close(alone.part_shapley_values[1], answer[1], rtol=1e-12, atol=1e-12)
    assert alone.part_shapley_values[0].shape == (0,)


def test_mistakes_are_sentences():
    image, parts = stripes(9)
    with pytest.raises(
        BenchError, match="Shapley values of 9 parts need 512 sets; 8 parts are the most"
    ):
        values(lambda means: means.sum(1), image, parts)
    image, (first, ground) = stripes(1, 2)
    with pytest.raises(BenchError, match="give the part 'ground' its `bare` images"):
        values(lambda means: means.sum(1), image, (first, replace(ground, bare=None)))
