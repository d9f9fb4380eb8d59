"""The cut model equals the model, and doesn't modify it; padded rows of a trace; the guarded
division.
"""

import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.graph_parts import GraphParts
from axiom_bench.cutting.numerics import dead_channels, guarded_channels, guarded_divide
from tests.cutting.conftest import NETWORKS, crossing, in_place_head

TARGETS = torch.tensor([0, 3, 4])


def close(actual: Tensor, expected: Tensor, atol: float = 1e-14) -> None:
    """The batch and the single images may take other kernels; float64 rounds at 1e-16 of a value
    near 1.
    """
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def eval_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Compute the model's logits, image by image, with an untouched copy."""
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        return torch.cat([twin(image) for image in images.split(1)])


def literal_gradients(
    model: nn.Module, layer: str, images: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Return activations and gradients of a forward hook on a deep copy, image by image.

    If the layer is called several times, its last call counts.
    """
    twin = copy.deepcopy(model).eval()
    activations = []
    gradients = []
    for image, target in zip(images.split(1), targets, strict=True):
        outputs: list[Tensor] = []

        def keep(
            module: nn.Module, inputs: object, output: Tensor, outputs: list[Tensor] = outputs
        ) -> Tensor:
            output.retain_grad()
            outputs.append(output)
            return output.clone()

        handle = twin.get_submodule(layer).register_forward_hook(keep)
        twin(image)[0, target].backward()
        handle.remove()
        activations.append(outputs[-1].detach())
        gradients.append(outputs[-1].grad)
    return torch.cat(activations), torch.cat(gradients)


def snapshot(model: nn.Module) -> dict[str, object]:
    """Return the state of a model that a cut could change."""
    modules = []
    for module in model.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        modules.append((id(module), module.training, [len(group) for group in hooks]))
    parameters = []
    for parameter in model.parameters():
        gradient = None if parameter.grad is None else parameter.grad.tolist()
        parameters.append((parameter.data_ptr(), parameter.requires_grad, gradient))
    state = {name: value.tolist() for name, value in model.state_dict().items()}
    return {"modules": modules, "parameters": parameters, "state": state}


@pytest.fixture
def trace(network: tuple[nn.Module, str], images: Tensor) -> ab.Trace:
    return ab.trace(*network, images, TARGETS)


def test_trace_head_and_forward_equal_the_model(network, images, trace):
    expected = eval_logits(network[0], images)
    close(trace.logits, expected)
    close(trace.scores, expected[torch.arange(3), TARGETS])
    activations, gradients = literal_gradients(*network, images, TARGETS)
    close(trace.activations, activations)
    close(trace.gradients, gradients)
    assert torch.equal(ab.trace(*network, images).targets, expected.argmax(1))
    before = trace.activations.clone()
    close(trace.head(trace.activations), expected)
    for image, logits in zip(images.split(1), expected.split(1), strict=True):
        close(trace.forward(image), logits)
    rows = torch.tensor([2, 0, 2, 1])  # side values follow their image
    close(trace.head(trace.activations[rows], rows), trace.logits[rows])
    close(trace[1:3].head(trace[1:3].activations), trace.logits[1:3])
    assert torch.equal(trace.activations, before)


def test_hooks_are_used_only_where_fx_tracing_fails(images):
    for name, build in NETWORKS.items():
        cut = ab.cut(build().double(), "conv")
        cut.trace(images)
        is_graph = isinstance(cut.trunk_and_head.parts, GraphParts)
        assert is_graph == (name != "deciding"), cut.trunk_and_head.capture


def test_model_is_unchanged(network, images):
    model, _ = network
    model.train()
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    list(model.parameters())[-1].requires_grad_(False)
    before = snapshot(model)
    trace = ab.trace(*network, images)
    assert trace.ablation_drops.shape == (3, 4)
    trace.forward(images.requires_grad_())[0, 0].backward()
    assert snapshot(model) == before
    with pytest.raises(ab.BenchError, match="Invalid target 5; the model's classes are 0 to 4"):
        ab.trace(*network, images, torch.tensor([0, 1, 5]))
    with pytest.raises(ab.BenchError, match=r"takes 3 channels, and these images .* have 2"):
        ab.trace(*network, images[:, :2])
    assert snapshot(model) == before


def test_weight_updates_are_visible_in_the_cut(network, images):
    cut = ab.cut(*network)
    before = cut.trace(images).logits
    with torch.no_grad():
        network[0].fc.bias += 1
    close(cut.trace(images).logits, before + 1, 1e-13)


def test_works_inside_inference_mode(network, images, trace):
    with torch.inference_mode():
        inside = ab.trace(copy.deepcopy(network[0]), network[1], images.clone(), TARGETS)
        drops = inside.ablation_drops
    assert torch.equal(inside.gradients, trace.gradients)
    assert torch.equal(drops, trace.ablation_drops)


def test_slice_equals_trace_of_its_images(network, images, trace):
    for rows in (slice(0, 1), slice(1, 3)):
        single = ab.trace(*network, images[rows], TARGETS[rows])
        for name in ("activations", "gradients", "scores", "logits", "targets", "ablation_drops"):
            close(getattr(trace[rows], name), getattr(single, name), 1e-13)


def test_passes_are_counted_in_images(images):
    cut = ab.cut(in_place_head().double(), "conv")
    trace = cut.trace(images)
    assert vars(cut.passes) == {
        "trunk_forward": 3,
        "trunk_backward": 0,
        "head_forward": 3,
        "head_backward": 3,
    }
    assert trace.ablation_drops.any()
    assert cut.passes.head_forward == 3
    trace.forward(images.requires_grad_()).sum().backward()
    assert vars(cut.passes) == {
        "trunk_forward": 6,
        "trunk_backward": 3,
        "head_forward": 6,
        "head_backward": 6,
    }


def test_scaled_trace_equals_trace_of_the_scaled_network(trace):
    logits = trace.head(trace.activations)
    larger = trace.scaled(output=4.0)
    assert torch.equal(larger.head(larger.activations), 4 * logits)
    assert torch.equal(larger.ablation_drops, 4 * trace.ablation_drops)
    assert torch.equal(larger.gradients, 4 * trace.gradients)
    wider = trace.scaled(inputs=2.0)
    assert torch.equal(wider.activations, 2 * trace.activations)
    assert torch.equal(wider.head(wider.activations), logits)
    assert torch.equal(wider.ablation_drops, trace.ablation_drops)
    contributions = wider.gradients * wider.activations
    assert torch.equal(contributions, trace.gradients * trace.activations)


def test_again_keeps_unset_arguments_and_a_cut_of_another_model_is_cached_and_counted(
    network, images, trace
):
    other = copy.deepcopy(network[0])
    with torch.no_grad():
        other.fc.weight.neg_()
    again = trace.again(model=other)
    assert torch.equal(again.targets, trace.targets)
    assert torch.equal(again.activations, trace.activations)
    expected = ab.trace(other, network[1], images, TARGETS).gradients
    torch.testing.assert_close(again.gradients, expected)
    assert torch.equal(trace.again(targets=TARGETS + 0).scores, trace.scores)
    kept = trace.cut_model.once("other", lambda: trace.cut_model.on(other))
    assert trace.cut_model.once("other", lambda: pytest.fail("computed again")) is kept
    before = trace.passes.trunk_forward
    assert torch.equal(trace.again(model=kept).gradients, trace.again(model=other).gradients)
    assert trace.passes.trunk_forward - before == 2 * len(images)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_precision_of_the_trunk(precision, images):
    model = crossing()
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    trace = ab.cut(model, "conv", precision=precision).trace(images.float())
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == flags
    for values in (trace.activations, trace.scores, trace.ablation_drops):
        assert values.dtype == torch.float32
    expected = eval_logits(model, images.float())
    # bf16 keeps 8 bits; the head still runs in float32.
    close(trace.logits, expected, 3e-2 if precision == "bf16" else 1e-6)
    if precision == "bf16":
        assert (trace.logits - expected).abs().max() > 1e-5  # the trunk did run in bf16


def test_non_finite_image_does_not_affect_the_others(network, images):
    with_nan = images.clone()
    with_nan[1, 0, 0, 0] = torch.nan
    targets = torch.tensor([1, 1, 1])
    trace = ab.trace(*network, with_nan, targets)
    clean = ab.trace(*network, images, targets)
    assert trace.scores[1].isnan()
    close(trace.ablation_drops[[0, 2]], clean.ablation_drops[[0, 2]])


def test_in_place_first_layer_does_not_modify_images(images):
    conv = nn.Conv2d(3, 4, 3)
    model = nn.Sequential(nn.ReLU(inplace=True), conv, nn.Flatten(), nn.Linear(64, 5)).double()
    before = images.clone()
    trace = ab.trace(model, "1", images)
    trace.forward(images)
    assert torch.equal(images, before)
    assert torch.equal(trace.images, before)


def test_cut_is_freed_without_garbage_collection():
    """A notebook makes a cut at every call."""
    cut = ab.cut(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), "0")
    assert cut.at("0") is cut
    reference = weakref.ref(cut)
    gc.disable()
    try:
        del cut
        assert reference() is None
    finally:
        gc.enable()


def test_padded_rows(images):
    """A method may run the two valid images alone, or add a blank one, which isn't a padded row."""
    torch.manual_seed(1)
    rows = images[[0, 1, 1, 1, 1]]
    trace = ab.trace(in_place_head().double(), "conv", rows, torch.tensor([0, 3, 3, 3, 3]))
    padded = replace(trace, num_padding=3)
    expected = {(0, 1): 0, (0, 2): 0, (0, 3): 1, (1, 5): 3, (2, 5): 2, (4, 5): 0, (0, 5): 3}
    assert {span: padded[slice(*span)].num_padding for span in expected} == expected
    assert padded[::2].num_padding == 1  # images 0, 1, 1
    assert padded.again().num_padding == padded.scaled(2.0).num_padding == 3
    blank = torch.zeros_like(padded.images[:1])
    first = padded.targets[:1]
    assert padded.again(padded.images[:2], padded.targets[:2]).num_valid == 2
    longer = padded.again(torch.cat([padded.images, blank]), torch.cat([padded.targets, first]))
    replaced = padded.again(torch.cat([padded.images[:4], blank]))
    other_class = padded.again(targets=torch.cat([padded.targets[:4], first]))
    assert longer.num_padding == 0
    assert replaced.num_padding == 0
    assert other_class.num_padding == 0
    assert padded.again(2 * padded.images).num_padding == 3
    computed = []
    answer = padded.per_image(lambda row: computed.append(row) or padded.scores[row])
    assert torch.equal(answer, padded.scores[[0, 1, 1, 1, 1]])
    assert computed == [0, 1]  # those that are valid
    assert torch.equal(trace.per_image(lambda row: trace.activations[row]), trace.activations)


def draw(trace: ab.Trace, seed: int | str = 0) -> list[int]:
    """Draw a number from the generator of each image."""
    generators = trace.generators(seed)
    return [int(torch.randint(2**62, (), generator=generator)) for generator in generators]


def invert(trace: ab.Trace) -> ab.Trace:
    return trace.again(images=-trace.images)


def with_another_model(trace: ab.Trace) -> ab.Trace:
    return trace.again(images=-trace.images, model=copy.deepcopy(trace.cut_model.model))


def in_float32(trace: ab.Trace) -> ab.Trace:
    return ab.trace(trace.cut_model.model.float(), trace.layer, trace.images.float())


DERIVED = {  # traces of the same images, whatever became of their pixels
    "of noisy images": lambda trace: trace.again(images=trace.images + 1e-6),
    "of inverted noisy images": lambda trace: invert(trace.again(images=2 * trace.images)),
    "of mirrored images": lambda trace: trace.again(images=trace.images.flip(3)),
    "of other classes": lambda trace: trace.again(targets=trace.targets.flip(0)),
    "of another model": with_another_model,
    "at another layer": lambda trace: invert(trace).at("conv"),
    "scaled": lambda trace: invert(trace).scaled(2.0, 3.0),
    "in float32": in_float32,
    "padded": lambda trace: invert(replace(trace, num_padding=1)),
}


@pytest.mark.parametrize("derive", DERIVED.values(), ids=DERIVED)
def test_what_is_drawn_belongs_to_the_image_as_first_traced(network, images, derive):
    trace = ab.trace(copy.deepcopy(network[0]), network[1], images.float().double(), TARGETS)
    expected = draw(trace)
    derived = derive(trace)
    assert draw(derived) == expected
    assert draw(derived[1:]) == draw(trace[1:]) == expected[1:]
    for row in range(3):
        assert draw(derived[row : row + 1]) == [expected[row]]
    assert len({*expected, *draw(derived, 1), *draw(derived, "0 nearby")}) == 9


def test_other_images_than_versions_of_these_draw_their_own(network, images, trace):
    """These are another number of images, and images that a cut traces first."""
    expected = draw(trace)
    assert draw(trace.again(images[:2], TARGETS[:2])) == expected[:2]
    rows = [1, 1, 0, 2]
    assert draw(trace.again(images[rows], TARGETS[rows])) == [expected[row] for row in rows]
    assert draw(trace.cut_model.trace(images.flip(0), TARGETS)) == expected[::-1]


CHANNELS = {  # values of a channel: (weight of a total of 6, dead, guarded, guarded in float64)
    (1.0, 2.0): (2.0, False, False, False),
    (-1.0, -3.0): (-1.5, False, False, False),  # a negative sum
    (0.0, 0.0): (0.0, True, False, False),
    (1.0, -1.0): (0.0, False, True, True),
    (1.0, -1.0 + 1e-7): (0.0, False, True, False),  # a sum within float32's rounding of zero
    (1e-9, 2e-9): (2e9, False, False, False),  # small, but all of one sign
}
F = torch.tensor(list(CHANNELS))[None, :, None]


def test_guarded_division_by_hand():
    expected, dead, guarded, in_float64 = zip(*CHANNELS.values(), strict=True)
    weights = guarded_divide(torch.full((1, 6), 6.0), F)
    assert weights.shape == (1, 6, 1, 1)
    torch.testing.assert_close(weights.flatten(), torch.tensor(expected), rtol=1e-6, atol=0)
    assert tuple(dead_channels(F)[0].tolist()) == dead
    assert tuple(guarded_channels(F)[0].tolist()) == guarded
    assert tuple(guarded_channels(F.double())[0].tolist()) == in_float64
    assert guarded_channels(torch.tensor([[[[1.0, -1.0 + 1e-13]]]], dtype=torch.float64)).all()
    assert guarded_divide(torch.tensor([[torch.nan]]), F[:, :1]).isnan().all()
    undefined = torch.full((1, 1, 1, 2), torch.nan)
    assert guarded_divide(torch.tensor([[1.0]]), undefined).isnan().all()


def test_the_tolerance_is_a_few_times_the_rounding():
    """Sums of which float32 knows two digits are divided by; those that are its rounding alone
    aren't.
    """
    ratios = torch.tensor([1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 3e-6, 3e-7], dtype=torch.float64)
    channels = torch.stack([1 + ratios, -1 + ratios], 1)[None, :, None]  # |sum F| = ratio x sum |F|
    assert guarded_channels(channels.float())[0].tolist() == [False] * 6 + [True]
    assert not guarded_channels(channels).any()
    weights = guarded_divide(2 * ratios.float()[None], channels.float()).flatten()
    torch.testing.assert_close(weights, torch.tensor([1.0] * 6 + [0.0]), rtol=0.05, atol=0)
