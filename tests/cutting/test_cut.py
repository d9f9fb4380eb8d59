"""The cut model equals the model, and doesn't modify it."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.trunk_and_head import GraphParts
from tests.cutting.conftest import NETWORKS, Crossing, InPlaceHead


def eval_logits(model: nn.Module, images: Tensor) -> Tensor:
    """The model's logits, image by image, from an untouched copy."""
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        return torch.cat([twin(image) for image in images.split(1)])


def literal_gradients(model: nn.Module, layer: str, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Activations and gradients by a forward hook on a deep copy, image by image; the layer's last call counts."""
    twin = copy.deepcopy(model).eval()
    activations, gradients = [], []
    for image, target in zip(images.split(1), targets, strict=True):
        outputs: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: Tensor, outputs: list[Tensor] = outputs) -> Tensor:
            output.retain_grad()
            outputs.append(output)
            return output.clone()

        handle = twin.get_submodule(layer).register_forward_hook(keep)
        twin(image)[0, target].backward()
        handle.remove()
        activations.append(outputs[-1].detach())
        gradients.append(outputs[-1].grad)
    return torch.cat(activations), torch.cat(gradients)


def test_trace_equals_the_model(network, images):
    model, layer = network
    trace = ab.trace(model, layer, images, torch.tensor([0, 3, 4]))
    expected = eval_logits(model, images)
    # 1e-14: the batch and the single images may take other kernels; float64 rounds at 1e-16 of a value near 1.
    torch.testing.assert_close(trace.logits, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(trace.scores, expected[torch.arange(3), trace.targets], rtol=0, atol=1e-14)
    activations, gradients = literal_gradients(model, layer, images, trace.targets)
    torch.testing.assert_close(trace.activations, activations, rtol=0, atol=1e-14)
    torch.testing.assert_close(trace.gradients, gradients, rtol=0, atol=1e-14)


def test_head_and_forward_equal_the_model(network, images):
    model, layer = network
    trace = ab.trace(model, layer, images)
    expected = eval_logits(model, images)
    torch.testing.assert_close(trace.head(trace.activations), expected, rtol=0, atol=1e-14)
    for image, logits in zip(images.split(1), expected.split(1), strict=True):
        torch.testing.assert_close(trace.forward(image), logits, rtol=0, atol=1e-14)


def test_targets_default_to_the_predicted_class(network, images):
    model, layer = network
    trace = ab.trace(model, layer, images)
    assert torch.equal(trace.targets, eval_logits(model, images).argmax(1))


def test_side_values_follow_their_image(network, images):
    model, layer = network
    trace = ab.trace(model, layer, images)
    rows = torch.tensor([2, 0, 2, 1])
    torch.testing.assert_close(trace.head(trace.activations[rows], rows), trace.logits[rows], rtol=0, atol=1e-14)
    part = trace[1:3]
    torch.testing.assert_close(part.head(part.activations), trace.logits[1:3], rtol=0, atol=1e-14)


def test_head_does_not_modify_activations(network, images):
    model, layer = network
    trace = ab.trace(model, layer, images)
    before = trace.activations.clone()
    trace.head(trace.activations)
    assert torch.equal(trace.activations, before)


def test_hooks_are_used_only_where_fx_tracing_fails(images):
    for name, (build, layer) in NETWORKS.items():
        cut = ab.cut(build().double(), layer)
        cut.trace(images)
        assert isinstance(cut.trunk_and_head.parts, GraphParts) == (name != "deciding")


def snapshot(model: nn.Module) -> dict[str, object]:
    """The state of a model that a cut could change."""
    return {
        "mode": [module.training for module in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        "grad": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "modules": [id(module) for module in model.modules()],
        "pointers": [p.data_ptr() for p in model.parameters()],
    }


def assert_unchanged(model: nn.Module, before: dict[str, object]) -> None:
    after = snapshot(model)
    state, state_before = after.pop("state"), before.pop("state")
    grads, grads_before = after.pop("grad"), before.pop("grad")
    assert after == before
    assert all(torch.equal(state[name], value) for name, value in state_before.items())
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(grads, grads_before, strict=True))


def test_model_is_unchanged(network, images):
    model, layer = network
    model.train()
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    list(model.parameters())[-1].requires_grad_(False)
    before = snapshot(model)
    trace = ab.trace(model, layer, images)
    assert trace.ablation_drops.shape == (3, 4)
    trace.forward(images.requires_grad_())[0, 0].backward()
    assert_unchanged(model, before)


def test_model_is_unchanged_after_an_exception(network, images):
    model, layer = network
    before = snapshot(model)
    with pytest.raises(ab.BenchError, match="Invalid target 5; the model's classes are 0 to 4"):
        ab.trace(model, layer, images, torch.tensor([0, 1, 5]))
    with pytest.raises(RuntimeError):
        ab.trace(model, layer, images[:, :2])
    assert_unchanged(model, before)


def test_weight_updates_are_visible_in_the_cut(network, images):
    model, layer = network
    cut = ab.cut(model, layer)
    before = cut.trace(images).logits
    with torch.no_grad():
        model.fc.bias += 1
    torch.testing.assert_close(cut.trace(images).logits, before + 1, rtol=0, atol=1e-13)


def test_works_inside_inference_mode(network, images):
    model, layer = network
    expected = ab.trace(model, layer, images, torch.tensor([0, 3, 4]))
    with torch.inference_mode():
        inside = ab.trace(copy.deepcopy(model), layer, images.clone(), torch.tensor([0, 3, 4]))
        drops = inside.ablation_drops
    assert torch.equal(inside.gradients, expected.gradients)
    assert torch.equal(drops, expected.ablation_drops)


def test_slice_equals_trace_of_its_images(network, images):
    model, layer = network
    trace = ab.trace(model, layer, images, torch.tensor([0, 3, 4]))
    for rows in (slice(0, 1), slice(1, 3)):
        single = ab.trace(model, layer, images[rows], trace.targets[rows])
        for name in ("activations", "gradients", "scores", "logits", "targets", "ablation_drops"):
            torch.testing.assert_close(getattr(trace[rows], name), getattr(single, name), rtol=0, atol=1e-13)


def test_passes_are_counted_in_images(images):
    cut = ab.cut(InPlaceHead().double(), "conv")
    trace = cut.trace(images)
    assert vars(cut.passes) == {"trunk_forward": 3, "trunk_backward": 0, "head_forward": 3, "head_backward": 3}
    assert trace.ablation_drops.any()
    assert cut.passes.head_forward == 3
    trace.forward(images.requires_grad_()).sum().backward()
    assert vars(cut.passes) == {"trunk_forward": 6, "trunk_backward": 3, "head_forward": 6, "head_backward": 6}


def test_scaled_trace_equals_trace_of_the_scaled_network(network, images):
    model, layer = network
    trace = ab.trace(model, layer, images)
    larger = trace.scaled(output=4.0)
    assert torch.equal(larger.head(larger.activations), 4 * trace.head(trace.activations))
    assert torch.equal(larger.ablation_drops, 4 * trace.ablation_drops)
    assert torch.equal(larger.gradients, 4 * trace.gradients)
    wider = trace.scaled(inputs=2.0)
    assert torch.equal(wider.activations, 2 * trace.activations)
    assert torch.equal(wider.head(wider.activations), trace.head(trace.activations))
    assert torch.equal(wider.ablation_drops, trace.ablation_drops)
    assert torch.equal(wider.gradients * wider.activations, trace.gradients * trace.activations)


def test_again_keeps_unset_arguments(network, images):
    model, layer = network
    trace = ab.trace(model, layer, images)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.fc.weight.neg_()
    again = trace.again(model=other)
    assert torch.equal(again.targets, trace.targets)
    assert torch.equal(again.activations, trace.activations)
    torch.testing.assert_close(again.gradients, ab.trace(other, layer, images, trace.targets).gradients)
    assert torch.equal(trace.again(targets=trace.targets + 0).scores, trace.scores)


def test_cut_of_another_model_is_cached_and_counted(network, images):
    model, layer = network
    trace = ab.trace(model, layer, images)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.fc.weight.neg_()
    kept = trace.cut_model.once("other", lambda: trace.cut_model.on(other))
    assert trace.cut_model.once("other", lambda: pytest.fail("computed again")) is kept
    before = trace.passes.trunk_forward
    again = trace.again(model=kept)
    assert torch.equal(again.gradients, trace.again(model=other).gradients)
    assert trace.passes.trunk_forward - before == 2 * len(images)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_precision_of_the_trunk(precision, images):
    model = Crossing()
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    trace = ab.cut(model, "conv", precision=precision).trace(images.float())
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == flags
    assert trace.activations.dtype == trace.scores.dtype == trace.ablation_drops.dtype == torch.float32
    expected = eval_logits(model, images.float())
    # bf16 keeps 8 bits; the head still runs in float32.
    tolerance = 3e-2 if precision == "bf16" else 1e-6
    torch.testing.assert_close(trace.logits, expected, rtol=0, atol=tolerance)
    if precision == "bf16":
        assert (trace.logits - expected).abs().max() > 1e-5  # the trunk did run in bf16


def test_non_finite_image_does_not_affect_the_others(network, images):
    model, layer = network
    with_nan = images.clone()
    with_nan[1, 0, 0, 0] = torch.nan
    trace, clean = (
        ab.trace(model, layer, with_nan, torch.tensor([1, 1, 1])),
        ab.trace(model, layer, images, torch.tensor([1, 1, 1])),
    )
    assert trace.scores[1].isnan()
    torch.testing.assert_close(trace.ablation_drops[[0, 2]], clean.ablation_drops[[0, 2]], rtol=0, atol=1e-14)


def test_in_place_first_layer_does_not_modify_images(images):
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 5)).double()
    before = images.clone()
    trace = ab.trace(model, "1", images)
    trace.forward(images)
    assert torch.equal(images, before)
    assert torch.equal(trace.images, before)


def test_cut_is_freed_without_garbage_collection(images):
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
