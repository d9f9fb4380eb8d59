"""Versions of images without a part: their effects against a loop in float64, slices, padding,
other traces.
"""

from dataclasses import replace

import pytest
import torch

import axiom_bench as ab
from axiom_bench.cutting.interventions import MAX_ROWS
from axiom_bench.errors import BenchError
from axiom_bench.testing import Case

CASE = Case(rows=4)
COUNTS = ((1, 1, 3), (1, 2), (), (1, 1, 1, 1, 3 * MAX_ROWS))  # versions of each part of each image


def parts_of(row: int, dtype: torch.dtype = torch.float64) -> tuple[ab.Part, ...]:
    """Draw versions of each part of an image; the regions are stripes."""
    generator = torch.Generator().manual_seed(row)
    height, width = CASE.size
    columns = torch.arange(width).expand(height, width) * len(COUNTS[row]) // width
    parts = []
    for place, count in enumerate(COUNTS[row]):
        versions = torch.randn(count, 3, height, width, generator=generator).to(dtype)
        parts.append(ab.Part(str(place), None, columns == place, versions))
    return tuple(parts)


def trace_with(parts, case=CASE):
    targets = torch.arange(case.rows) % 3
    return ab.cut(case.model(), case.layer).trace(case.images(), targets, interventions=parts)


def traced():
    return trace_with([parts_of(row) for row in range(CASE.rows)])


def brute_force(trace, scale=1.0):
    """Compute the effects with one pass per version."""
    model = CASE.model()
    for row, parts in enumerate(trace.interventions):
        target = int(trace.targets[row])
        score = model(trace.images[row : row + 1])[0, target]
        effects = []
        for part in parts:
            scores = [model(image[None])[0, target] for image in part.images]
            effects.append(scale * (score - torch.stack(scores).mean()).item())
        yield torch.tensor(effects, dtype=torch.float64)


def test_effects_are_those_of_a_loop_and_every_version_is_one_forward_pass():
    trace = traced()
    before = replace(trace.passes)
    assert trace.part_effects is trace.part_effects
    assert trace.passes.trunk_forward - before.trunk_forward == sum(map(sum, COUNTS))
    assert trace.passes.head_forward - before.head_forward == sum(map(sum, COUNTS))
    for effects, expected in zip(trace.part_effects, brute_force(trace), strict=True):
        torch.testing.assert_close(effects, expected, rtol=1e-12, atol=1e-12)  # rounding of float64


def test_a_version_that_is_the_image_has_no_effect_and_values_do_not_depend_on_other_images():
    """Bit by bit in float32: what a crop cuts away has an effect of 0, not of rounding."""
    case = replace(CASE, dtype=torch.float32)
    everywhere = torch.ones(case.size, dtype=torch.bool)
    same = [(ab.Part("same", None, everywhere, image[None]),) for image in case.images()]
    assert [effects.tolist() for effects in trace_with(same, case).part_effects] == [[0.0]] * 4
    parts = [parts_of(row, torch.float32) for row in range(4)]
    together = trace_with(parts, case)
    alone = replace(together, interventions=((), parts[1], (), ()))
    assert torch.equal(alone.part_effects[1], together.part_effects[1])
    reordered = replace(together, interventions=(parts[0], parts[1], parts[3], ()))
    assert torch.equal(reordered.part_effects[1], together.part_effects[1])


def test_a_slice_has_its_rows_and_padded_rows_repeat_the_last_valid_at_no_cost():
    trace = traced()
    early = trace[1:3]
    assert early.interventions == trace.interventions[1:3]
    assert "part_effects" not in vars(early)
    torch.testing.assert_close(early.part_effects[0], trace.part_effects[1], rtol=1e-12, atol=1e-12)
    before = trace.passes.trunk_forward
    assert trace[1:3].part_effects == trace.part_effects[1:3]
    assert trace.passes.trunk_forward == before
    parts = [parts_of(row) for row in (0, 1, 1, 1)]
    trace = replace(trace_with(parts), num_padding=2)
    before = trace.passes.trunk_forward
    assert trace.part_effects[1] is trace.part_effects[2] is trace.part_effects[3]
    assert trace.passes.trunk_forward - before == sum(COUNTS[0]) + sum(COUNTS[1])


def test_other_traces_of_these_rows_keep_both():
    others = torch.randn(4, 3, *CASE.size, dtype=torch.float64)
    parts = [parts_of(row) for row in range(4)]
    cut_model = ab.cut(CASE.model(), CASE.layer)
    targets = torch.arange(4) % 3
    trace = cut_model.trace(CASE.images(), targets, interventions=parts, other_images=others)
    explanation = ab.Explanation.of(trace, trace.gradients, method=lambda trace: trace.gradients)
    traces = [
        trace.again(images=trace.images + 1),
        trace.again(targets=torch.zeros(4, dtype=torch.long)),
        trace.again(model=CASE.model()),
        trace.at("features.2"),
        trace.scaled(2.0),
        trace[:],
        explanation.again(images=explanation.images * 2).trace,
    ]
    for other in traces:
        assert other.interventions == trace.interventions
        assert torch.equal(other.other_images, others)
    assert torch.equal(trace[2:3].other_images, others[2:3])
    # of which rows?
    assert trace.again(images=trace.images[:2], targets=trace.targets[:2]).interventions is None


def test_effects_are_of_the_trace_s_own_class_model_and_scale():
    trace = traced()
    torch.testing.assert_close(
        trace.scaled(output=3.0).part_effects, tuple(brute_force(trace, 3.0))
    )
    other = trace.again(targets=(trace.targets + 1) % 3)
    torch.testing.assert_close(other.part_effects, tuple(brute_force(other)))
    model = Case(rows=4, head="pooled").model()
    pooled = trace.again(model=model)
    expected = pooled.scores[0] - model(trace.interventions[0][0].images)[0, 0]
    torch.testing.assert_close(pooled.part_effects[0][0], expected.detach())


def test_mistakes_are_sentences():
    bare = ab.trace(CASE.model(), CASE.layer, CASE.images())
    with pytest.raises(BenchError, match="choose a data set that offers interventions"):
        _ = bare.part_effects
    with pytest.raises(BenchError, match="expected the parts of each of 4 images, not of 1"):
        trace_with([parts_of(0)])
    wrong = ab.Part("digit 3", 3, torch.ones(2, 2, dtype=torch.bool), torch.zeros(1, 3, *CASE.size))
    with pytest.raises(BenchError, match=r"Invalid part 'digit 3': expected a region \(8, 12\)"):
        trace_with([(wrong,)] * 4)
    with pytest.raises(BenchError, match="Invalid other_images: expected the shape of the images"):
        ab.cut(CASE.model(), CASE.layer).trace(
            CASE.images(), other_images=torch.zeros(1, 3, *CASE.size)
        )
