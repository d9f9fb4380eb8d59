"""Tests of methods and controls that wrap another method: their compositions, keys, passes and
layers.
"""

from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
import torchvision
from torch import nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.finer_layers import finer_layers
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.methods.ablation_cam import ablation_cam
from axiom_bench.methods.augmented import augmented
from axiom_bench.methods.fused import fused
from axiom_bench.methods.grad_cam import grad_cam
from axiom_bench.methods.grad_cam_pp import grad_cam_pp
from axiom_bench.methods.guided import guided, guided_gradient
from axiom_bench.methods.hires_cam import hires_cam
from axiom_bench.methods.other_image import other_image
from axiom_bench.methods.refine_cam import MAX_FINER_LAYERS, refine_cam
from axiom_bench.methods.saliency import saliency
from axiom_bench.methods.shared.wrapping import wrapped_heatmap, wrapped_raw_map
from axiom_bench.methods.smoothed import smoothed
from axiom_bench.methods.xgrad_cam import xgrad_cam
from axiom_bench.records import sources
from axiom_bench.records.sources import Sources
from axiom_bench.run.keys import method_key
from axiom_bench.testing import CASES, check_method
from tests.methods.plain import normal, seeded, upsampled

ROUNDING = 1e-12  # maps with a maximum of about 1: float64, sums of a few hundred terms
POOLED = CASES["pooled"]  # takes images of any size


@pytest.mark.parametrize(
    "layers", [["features.3", "features.1"], ["features.1", "features.1"], ("features.1",)]
)
def test_fused_ignores_repeated_layers(layers):
    expected = fused(POOLED.trace(), ["features.1"], xgrad_cam).raw
    assert torch.equal(fused(POOLED.trace(), layers, xgrad_cam).raw, expected)


def test_single_copy_equals_the_wrapped_method():
    trace = POOLED.trace()
    before = asdict(trace.passes)
    assert torch.equal(augmented(trace, mirrored=False).raw, wrapped_heatmap(xgrad_cam, trace))
    assert asdict(trace.passes) == before
    unsmoothed = smoothed(trace, samples=2, sigma=0).raw
    torch.testing.assert_close(unsmoothed, wrapped_raw_map(xgrad_cam, trace), rtol=0, atol=ROUNDING)


def test_copies_explain_the_target_of_the_image():
    """Check that copies keep the image's target, even if their prediction is another class."""
    explained_targets = []

    def spy(trace):
        explained_targets.append(trace.targets.tolist())
        return trace.gradients

    trace = POOLED.trace()
    smoothed(trace, spy, samples=2, sigma=5.0)
    augmented(trace, spy, scales=(0.5,))
    fused(trace, ["features.1"], spy)
    assert explained_targets == [[0, 1, 2]] * 6


def test_drops_of_a_resized_copy_are_exact():
    """Check copies whose maps have another size than those for which the model was cut."""
    trace = POOLED.trace()
    _ = trace.ablation_drops
    smaller = upsampled(trace.images.flatten(0, 1), (4, 6)).unflatten(0, (-1, 3))
    smaller_trace = ab.trace(POOLED.model(), POOLED.layer, smaller, trace.targets)
    actual = augmented(trace, ablation_cam, mirrored=False, scales=(0.5,)).raw
    expected = upsampled(wrapped_heatmap(ablation_cam, smaller_trace), (8, 12))
    # Drops are differences of scores.
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


OVER_LAYERS = partial(fused, layers=["features.1"])
COMPOSITIONS = {
    "fused": partial(OVER_LAYERS, wrapped=xgrad_cam),
    "augmented": partial(augmented, wrapped=hires_cam, scales=(1.0, 2.0)),
    "guided over augmented": partial(guided, wrapped=augmented),
    "augmented over smoothed": partial(augmented, wrapped=partial(smoothed, samples=2)),
    "smoothed over fused": partial(
        smoothed, wrapped=partial(OVER_LAYERS, wrapped=grad_cam), samples=2
    ),
}
# The number of further traces that a composition needs.
NUM_TRACES = {
    "fused": 1,
    "augmented": 3,
    "augmented over smoothed": 5,
    "smoothed over fused": 4,
}
COMMON_SUITE_PARAMS = [
    pytest.param(name, marks=[] if name == "augmented" else pytest.mark.slow)
    for name in COMPOSITIONS
]


@pytest.mark.parametrize("name", COMMON_SUITE_PARAMS)
def test_wrappers_pass_the_common_suite(name):
    check_method(COMPOSITIONS[name])


def test_nested_wrappers():
    trace = POOLED.trace()
    product = guided_gradient(trace).abs().sum(1) * ab.heatmap(augmented(trace).raw, (8, 12))
    assert torch.equal(guided(trace, augmented).raw, product)
    # A method can be named by its name in conf/, or by the path of its function.
    for wrapped in ("grad_cam", "axiom_bench.methods.grad_cam.grad_cam"):
        assert torch.equal(entry(wrapped=wrapped)(trace).raw, guided(trace, grad_cam).raw)


@pytest.mark.parametrize(("name", "traces"), NUM_TRACES.items())
def test_passes_of_compositions(name, traces):
    """Check that each further trace costs a trunk pass, a head pass and the head's gradient. The
    original trace costs nothing.
    """
    trace = POOLED.trace()
    before = asdict(trace.passes)
    COMPOSITIONS[name](trace)
    after = asdict(trace.passes)
    actual = {kind: (after[kind] - before[kind]) / len(trace) for kind in after}
    assert actual == {
        "trunk_forward": traces,
        "trunk_backward": 0,
        "head_forward": traces,
        "head_backward": traces,
    }


def test_guided_gradient_is_shared():
    trace = POOLED.trace()
    methods.get("guided_xgrad_cam")(trace)
    before = asdict(trace.passes)
    methods.get("guided_grad_cam")(trace)
    assert asdict(trace.passes) == before


def entry(target: str = "axiom_bench.methods.guided.guided", **params: object) -> plugins.Plugin:
    return plugins.from_config("method", "mine", {"_target_": target, "params": params})


def test_key_depends_on_the_wrapped_method():
    path = "axiom_bench.methods.grad_cam.grad_cam"
    names = ("xgrad_cam", "grad_cam", path, "augmented_xgrad_cam", "smoothed_xgrad_cam")
    keys = [method_key(entry(wrapped=name), Sources()) for name in names]
    assert len(set(keys)) == len(names)
    assert method_key(entry(wrapped="grad_cam"), Sources()) == keys[1]
    assert entry().inner.call is xgrad_cam  # the default


@pytest.mark.parametrize("wrapped", ["random", "smoothed_random"])
def test_key_depends_on_the_parameters_of_the_wrapped_method(wrapped, monkeypatch):
    """Check a method that is wrapped directly, and through another wrapper."""
    load = plugins.load
    is_changed = False
    smoothed_random = {
        "_target_": "axiom_bench.methods.smoothed.smoothed",
        "params": {"wrapped": "random"},
    }

    def loaded(kind: str, name: str) -> plugins.Plugin:
        if name == "smoothed_random":
            return plugins.from_config(kind, name, smoothed_random)
        plugin = load(kind, name)
        if is_changed and name == "random":
            return replace(plugin, params={**plugin.params, "seed": 1})
        return plugin

    monkeypatch.setattr(plugins, "load", loaded)
    before = method_key(entry(wrapped=wrapped), Sources())
    assert method_key(entry(wrapped=wrapped), Sources()) == before
    is_changed = True
    assert method_key(entry(wrapped=wrapped), Sources()) != before


@pytest.mark.parametrize(
    ("module", "same"), [("grad_cam", False), ("guided", False), ("cam", True)]
)
def test_key_depends_on_the_source_of_the_wrapped_method(module, same, monkeypatch):
    """Check that the key depends on the method's module and on the modules that it imports, but not
    on other modules.
    """
    plugin = entry("axiom_bench.methods.smoothed.smoothed", wrapped="guided_grad_cam")
    before = method_key(plugin, Sources())
    parsed = sources._parsed

    def changed(path, state, name):
        digest, imports = parsed(path, state, name)
        if name == f"axiom_bench.methods.{module}":
            digest += "!"
        return digest, imports

    monkeypatch.setattr(sources, "_parsed", changed)
    assert (method_key(plugin, Sources()) == before) == same


TRACE = CASES["dense"].trace()


def test_controls_are_marked_as_such():
    for name in ("negated", "other_image", "shuffled_channels"):
        assert methods.get(name).spec.control


def test_other_image_is_the_map_of_another_image():
    """Check that the other image's map explains the class that the network predicts for it."""
    model = CASES["dense"].model()
    others = CASES["dense"].other_images()
    other = TRACE.again(images=others, targets=model(others).argmax(1))
    assert torch.equal(other_image(TRACE).raw, (xgrad_cam(other) * other.activations).sum(1))
    assert torch.equal(other_image(TRACE, wrapped=saliency).raw, saliency(other).raw)
    single = replace(TRACE, other_images=None)
    message = "needs another image of the data set, and there is none"
    with pytest.raises(BenchError, match=message):
        other_image(single)


def three_resolutions() -> ab.Trace:
    """Return a trace of a network with a convolution and a ReLU at each of 16, 8 and 4 pixels."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 4), (4, 5), (5, 6)):
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        layers.append(nn.ReLU(inplace=True))
        layers.append(nn.MaxPool2d(2))
    head = nn.Sequential(nn.Flatten(), nn.Linear(24, 3))
    model = nn.Sequential(nn.Sequential(*layers), head).double().eval()
    return ab.trace(model, "0.8", normal(2, 3, 16, 16), [0, 2])


def test_last_module_of_each_finer_resolution():
    trace = three_resolutions()
    for layer, finer in (("0.8", ("0.7", "0.4", "0.1")), ("0.5", ("0.4", "0.1")), ("0.1", ())):
        assert finer_layers(trace.at(layer), MAX_FINER_LAYERS) == finer
    assert finer_layers(trace.at("0.8"), 1) == ("0.7",)
    methods.get("refine_cam")(trace)
    assert not any(module._forward_hooks for module in trace.cut_model.model.modules())


def test_stages_of_a_resnet_are_the_authors_layers():
    model = seeded(torchvision.models.resnet18)
    trace = ab.trace(model, "layer4", normal(1, 3, 64, 64))
    assert finer_layers(trace, MAX_FINER_LAYERS) == ("layer3", "layer2", "layer1")


@pytest.mark.parametrize("wrapped", [grad_cam_pp, grad_cam])
def test_product_of_heatmaps_of_the_layers(wrapped):
    trace = three_resolutions()
    expected = torch.ones(2, 16, 16, dtype=torch.float64)
    for layer in ("0.8", "0.7", "0.4", "0.1"):
        layer_trace = trace.at(layer)
        raw_map = (wrapped(layer_trace) * layer_trace.activations).sum(1)
        expected *= ab.heatmap(raw_map, (16, 16))
    for layers in (None, ["0.1", "0.4", "0.7"]):
        actual = refine_cam(trace, layers, wrapped).raw
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    # A network of one resolution has only the heatmap itself.
    assert torch.equal(refine_cam(TRACE, None, wrapped).raw, wrapped_heatmap(wrapped, TRACE))


def test_a_transformers_layers_are_set_by_hand():
    model = seeded(lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3))
    layer = "encoder.layers.encoder_layer_1.ln_1"
    trace = ab.trace(model, layer, normal(1, 3, 32, 32), reshape="tokens")
    with pytest.raises(BenchError, match="set the layers of refine_cam"):
        refine_cam(trace)
    assert refine_cam(trace, ["encoder.layers.encoder_layer_0.ln_1"]).raw.shape == (1, 32, 32)
