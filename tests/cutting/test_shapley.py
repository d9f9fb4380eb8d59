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

SIDE, PLAIN = 4, Preprocessing(None, None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def stripes(count: int, grounds: int = 0) -> tuple[torch.Tensor, tuple[ab.Part, ...]]:
    """An image of ones in stripes; a part that is absent is 0, or on the other grounds 0.1, 0.2,
    ...
    """
    image = torch.ones(3, SIDE, count + 1, dtype=torch.float64)
    columns = torch.arange(count + 1).expand(SIDE, count + 1)
    parts = [
        ab.Part(str(place), place, columns == place, image.masked_fill(columns == place, 0)[None])
        for place in range(count)
    ]
    if not grounds:
        return image[..., :count], tuple(
            replace(part, region=part.region[:, :count], images=part.images[..., :count])
            for part in parts
        )
    ground = columns == count
    others = [image.masked_fill(ground, 0.1 * number) for number in range(1, grounds + 1)]
    bare = [other.masked_fill(~ground, 0) for other in others]
    return image, (*parts, ab.Part(GROUND, None, ground, torch.stack(others), torch.stack(bare)))


def values(score, image, parts, rows=4):
    """score: of the means of the parts' pixels, (R, n) -> (R,)."""

    def of_images(images, _):
        return score(torch.stack([images[:, :, part.region].mean((1, 2)) for part in parts], 1))

    images = image[None]
    (answer,) = shapley_values(images, of_images(images, None), (parts,), of_images, rows, Passes())
    return answer.tolist()


@pytest.mark.parametrize("grounds", [0, 3])
def test_they_are_the_means_over_all_orders_and_add_up(grounds):
    image, parts = stripes(3, grounds)
    weights = torch.randn(
        len(parts), len(parts), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )

    def score(means):
        return torch.sigmoid((means @ weights * means).sum(1))

    def of_set(present):
        means = []
        for number in range(max(grounds, 1)):
            absent = 0.1 * (number + 1) if grounds and len(parts) - 1 not in present else 0.0
            row = [1.0 if place in present else 0.0 for place in range(len(parts))]
            if grounds and len(parts) - 1 not in present:
                row[-1] = absent
            means.append(score(torch.tensor([row], dtype=torch.float64)).item())
        return np.mean(means)

    expected = np.zeros(len(parts))
    for order in permutations(range(len(parts))):
        for step, place in enumerate(order):
            expected[place] += of_set(order[: step + 1]) - of_set(order[:step])
    expected /= factorial(len(parts))
    answer = values(score, image, parts)
    assert answer == pytest.approx(expected.tolist(), abs=1e-12)  # rounding of float64
    assert sum(answer) == pytest.approx(of_set(range(len(parts))) - of_set(()), abs=1e-12)
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
            asked |= {each.permute(1, 2, 0).numpy().tobytes() for each in images}
            return torch.zeros(len(images))

        uint8 = (image * 255).round().to(torch.uint8)[None]
        shapley_values(uint8, torch.zeros(1), (parts,), kept_images, 64, Passes())
        sizes = range(1, len(parts) + 1) if len(parts) < 5 else (3,)
        for absent in chain.from_iterable(combinations(range(len(parts)), size) for size in sizes):
            left = [part for place, part in enumerate(parts) if place not in absent]
            kept = tuple(figures[part.label] for part in left if part.label is not None)
            grounds = [drawing] if any(part.name == GROUND for part in left) else others
            drawn = [replace(ground, figures=kept).image() for ground in grounds]
            drawn = [
                mark.paint_on(each) if mark and any(part.is_mark for part in left) else each
                for each in drawn
            ]
            assert {np.ascontiguousarray(each).tobytes() for each in drawn} <= asked


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
