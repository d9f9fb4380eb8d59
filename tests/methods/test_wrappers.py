"""Methods and controls that take another method: compositions of them, their keys, passes and
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
from axiom_bench.methods.refine_cam import finer_layers, refine_cam
from axiom_bench.methods.saliency import saliency
from axiom_bench.methods.shared.wrapping import heatmap_of, raw_map_of
from axiom_bench.methods.smoothed import smoothed
from axiom_bench.methods.xgrad_cam import xgrad_cam
from axiom_bench.records import sources
from axiom_bench.records.sources import Sources
from axiom_bench.run.keys import method_key
from axiom_bench.testing import CASES, check_method
from tests.methods.plain import normal, seeded, upsampled

ROUNDING = 1e-12  # of maps whose maximum is about 1: float64, over sums of some hundred terms
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
    assert torch.equal(augmented(trace, mirrored=False).raw, heatmap_of(xgrad_cam, trace))
    assert asdict(trace.passes) == before
    torch.testing.assert_close(
        smoothed(trace, samples=2, sigma=0).raw, raw_map_of(xgrad_cam, trace), rtol=0, atol=ROUNDING
    )


def test_copies_explain_the_target_of_the_image():
    """Also where the copy's prediction is another one."""
    seen = []

    def spy(trace):
        seen.append(trace.targets.tolist())
        return trace.gradients

    trace = POOLED.trace()
    smoothed(trace, spy, samples=2, sigma=5.0)
    augmented(trace, spy, scales=(0.5,))
    fused(trace, ["features.1"], spy)
    assert seen == [[0, 1, 2]] * 6


def test_drops_of_a_resized_copy_are_exact():
    """The cut has looked at the head with maps of one size; copies bring others."""
    trace = POOLED.trace()
    _ = trace.ablation_drops
    smaller = torch.nn.functional.interpolate(
        trace.images, size=(4, 6), mode="bilinear", align_corners=False
    )
    single = ab.trace(POOLED.model(), POOLED.layer, smaller, trace.targets)
    actual = augmented(trace, ablation_cam, mirrored=False, scales=(0.5,)).raw
    expected = upsampled(heatmap_of(ablation_cam, single), (8, 12))
    # drops are differences of scores
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


OVER_LAYERS = partial(fused, layers=["features.1"])
PARTIALS = {  # and the traces of each
    "fused": (partial(OVER_LAYERS, wrapped=xgrad_cam), 1),
    "augmented": (partial(augmented, wrapped=hires_cam, scales=(1.0, 2.0)), 3),
    "guided over augmented": (partial(guided, wrapped=augmented), None),
    "augmented over smoothed": (partial(augmented, wrapped=partial(smoothed, samples=2)), 5),
    "smoothed over fused": (
        partial(smoothed, wrapped=partial(OVER_LAYERS, wrapped=grad_cam), samples=2),
        4,
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "augmented" else pytest.mark.slow)
        for name in PARTIALS
    ],
)
def test_wrappers_pass_the_common_suite(name):
    check_method(PARTIALS[name][0])


def test_nested_wrappers():
    trace = POOLED.trace()
    product = guided_gradient(trace).abs().sum(1) * ab.heatmap(augmented(trace).raw, (8, 12))
    assert torch.equal(guided(trace, augmented).raw, product)
    # in conf/, or a path to a function
    for wrapped in (
        "grad_cam",
        "axiom_bench.methods.grad_cam.grad_cam",
    ):
        assert torch.equal(entry(wrapped=wrapped)(trace).raw, guided(trace, grad_cam).raw)


@pytest.mark.parametrize(("method", "traces"), [each for each in PARTIALS.values() if each[1]])
def test_passes_of_compositions(method, traces):
    """Each further trace is a trunk pass, a head pass and the head's gradient; the trace itself is
    there already.
    """
    trace = POOLED.trace()
    before = asdict(trace.passes)
    method(trace)
    actual = {
        key: (count - before[key]) / len(trace) for key, count in asdict(trace.passes).items()
    }
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
    """Directly, and through another wrapper."""
    load, changed = plugins.load, False
    smoothed_random = {
        "_target_": "axiom_bench.methods.smoothed.smoothed",
        "params": {"wrapped": "random"},
    }

    def loaded(kind: str, name: str) -> plugins.Plugin:
        if name == "smoothed_random":
            return plugins.from_config(kind, name, smoothed_random)
        plugin = load(kind, name)
        return (
            replace(plugin, params={**plugin.params, "seed": 1})
            if changed and name == "random"
            else plugin
        )

    monkeypatch.setattr(plugins, "load", loaded)
    before = method_key(entry(wrapped=wrapped), Sources())
    assert method_key(entry(wrapped=wrapped), Sources()) == before
    changed = True
    assert method_key(entry(wrapped=wrapped), Sources()) != before


@pytest.mark.parametrize(
    ("module", "same"), [("grad_cam", False), ("guided", False), ("cam", True)]
)
def test_key_depends_on_the_source_of_the_wrapped_method(module, same, monkeypatch):
    """Of its module and of all that this imports; another module's change doesn't change it."""
    plugin = entry("axiom_bench.methods.smoothed.smoothed", wrapped="guided_grad_cam")
    before, parsed = method_key(plugin, Sources()), sources._parsed

    def changed(path, state, name):
        digest, imports = parsed(path, state, name)
        return digest + "!" * (name == f"axiom_bench.methods.{module}"), imports

    monkeypatch.setattr(sources, "_parsed", changed)
    assert (method_key(plugin, Sources()) == before) == same


TRACE = CASES["dense"].trace()


def test_controls_are_marked_as_such():
    assert all(
        methods.get(name).spec.control for name in ("negated", "other_image", "shuffled_channels")
    )


def test_other_image_is_the_map_of_another_image():
    """Of the class that the plain network predicts there."""
    model, others = CASES["dense"].model(), CASES["dense"].other_images()
    other = TRACE.again(images=others, targets=model(others).argmax(1))
    assert torch.equal(other_image(TRACE).raw, (xgrad_cam(other) * other.activations).sum(1))
    assert torch.equal(other_image(TRACE, wrapped=saliency).raw, saliency(other).raw)
    with pytest.raises(
        BenchError, match="explains another image of the data set, and there is none"
    ):
        other_image(replace(TRACE, other_images=None))


def three_resolutions() -> ab.Trace:
    """Maps of 16, 8 and 4 pixels; a convolution and a ReLU at each."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 4), (4, 5), (5, 6)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    model = (
        nn.Sequential(nn.Sequential(*layers), nn.Sequential(nn.Flatten(), nn.Linear(24, 3)))
        .double()
        .eval()
    )
    return ab.trace(model, "0.8", normal(2, 3, 16, 16), [0, 2])


def test_last_module_of_each_finer_resolution():
    trace = three_resolutions()
    for layer, finer in (("0.8", ("0.7", "0.4", "0.1")), ("0.5", ("0.4", "0.1")), ("0.1", ())):
        assert finer_layers(trace.at(layer)) == finer
    methods.get("refine_cam")(trace)
    assert not any(module._forward_hooks for module in trace.cut_model.model.modules())


def test_stages_of_a_resnet_are_the_authors_layers():
    model = seeded(torchvision.models.resnet18)
    assert finer_layers(ab.trace(model, "layer4", normal(1, 3, 64, 64))) == (
        "layer3",
        "layer2",
        "layer1",
    )


@pytest.mark.parametrize("wrapped", [grad_cam_pp, grad_cam])
def test_product_of_heatmaps_of_the_layers(wrapped):
    trace, expected = three_resolutions(), torch.ones(2, 16, 16, dtype=torch.float64)
    for other in map(trace.at, ("0.8", "0.7", "0.4", "0.1")):
        expected *= ab.heatmap((wrapped(other) * other.activations).sum(1), (16, 16))
    for layers in (None, ["0.1", "0.4", "0.7"]):
        torch.testing.assert_close(
            refine_cam(trace, layers, wrapped).raw, expected, rtol=0, atol=1e-12
        )
    # there is one resolution
    assert torch.equal(refine_cam(TRACE, None, wrapped).raw, heatmap_of(wrapped, TRACE))


def test_a_transformers_layers_are_set_by_hand():
    model = seeded(lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3))
    trace = ab.trace(
        model, "encoder.layers.encoder_layer_1.ln_1", normal(1, 3, 32, 32), reshape="tokens"
    )
    with pytest.raises(BenchError, match="set the layers of refine_cam"):
        refine_cam(trace)
    assert refine_cam(trace, ["encoder.layers.encoder_layer_0.ln_1"]).raw.shape == (1, 32, 32)
