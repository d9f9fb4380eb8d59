"""Methods that take another method: each against loops over numbers, and compositions of them."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.methods.ablation_cam import ablation_cam
from axiom_bench.methods.augmented import augmented
from axiom_bench.methods.fused import fused
from axiom_bench.methods.grad_cam import grad_cam
from axiom_bench.methods.guided import guided, guided_gradient
from axiom_bench.methods.hires_cam import hires_cam
from axiom_bench.methods.shared.wrapping import heatmap_of, raw_map_of
from axiom_bench.methods.smoothed import smoothed
from axiom_bench.methods.xgrad_cam import xgrad_cam
from axiom_bench.records import sources
from axiom_bench.records.sources import Sources
from axiom_bench.run.jobs.facts import method_key
from axiom_bench.testing import CASES, check_method
from tests.methods.plain import Lines, generator_of, model_of, resized

ROUNDING = 1e-12  # of maps whose maximum is about 1: float64, over sums of some hundred terms
POOLED = CASES["pooled"]  # takes images of any size


def xgrad_map(image: Tensor, target: int, layer: int = 3) -> Lines:
    """The XGrad-CAM map of one image at `features.<layer>`, by the formula, from autograd on the plain network."""
    model = model_of(POOLED)
    steps = list(model.features) + list(model.head)
    F = nn.Sequential(*steps[: layer + 1])(image[None]).detach().clone().requires_grad_()
    score = nn.Sequential(*steps[layer + 1 :])(F.clone())[0, target]
    (g,) = torch.autograd.grad(score, F)
    maps, gradients = F[0].tolist(), g[0].tolist()
    raw = [[0.0] * len(maps[0][0]) for _ in maps[0]]
    for map_k, gradient_k in zip(maps, gradients, strict=True):
        weighted = sum(a * b for u, v in zip(map_k, gradient_k, strict=True) for a, b in zip(u, v, strict=True))
        total = sum(map(sum, map_k))
        weight = weighted / total if total else 0.0  # a small copy may leave a channel dead
        for y, line in enumerate(map_k):
            for x, value in enumerate(line):
                raw[y][x] += weight * value
    return raw


def scaled_heatmap(raw: Lines, height: int, width: int) -> Lines:
    """ReLU, resize, divide by the maximum."""
    lines = resized([[max(value, 0.0) for value in line] for line in raw], height, width)
    maximum = max(map(max, lines))
    return [[value / maximum for value in line] for line in lines] if maximum > 0 else lines


def mean(maps: list[Lines]) -> Lines:
    shape = range(len(maps[0])), range(len(maps[0][0]))
    return [[sum(lines[y][x] for lines in maps) / len(maps) for x in shape[1]] for y in shape[0]]


def assert_rows(actual: Tensor, expected: list[Lines]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=ROUNDING)


def test_smoothed_equals_the_mean_over_noisy_copies():
    actual = smoothed(POOLED.trace(), wrapped=xgrad_cam, samples=3, sigma=0.2, seed=5).raw
    expected = []
    for i, image in enumerate(POOLED.images()):
        generator = generator_of(image, 5)
        spread = max(image.flatten().tolist()) - min(image.flatten().tolist())
        copies = []
        for _ in range(3):
            noise = torch.randn(image.shape, generator=generator, dtype=torch.float64)
            copies.append(xgrad_map(image + 0.2 * spread * noise, i))
        expected.append(mean(copies))
    assert_rows(actual, expected)


def test_augmented_equals_the_mean_of_mapped_back_heatmaps():
    """Sizes 8 x 12, 4 x 6 and 12 x 18, each mirrored too."""
    actual = augmented(POOLED.trace(), wrapped=xgrad_cam, scales=(0.5, 1.0, 1.5)).raw
    expected = []
    for i, image in enumerate(POOLED.images()):
        copies = []
        for height, width in ((4, 6), (8, 12), (12, 18)):
            channels = [resized(channel, height, width) for channel in image.tolist()]
            for mirrored in (False, True):
                pixels = [[line[::-1] for line in channel] if mirrored else channel for channel in channels]
                lines = scaled_heatmap(xgrad_map(torch.tensor(pixels, dtype=torch.float64), i), height, width)
                back = [line[::-1] for line in lines] if mirrored else lines
                copies.append(resized(back, 8, 12))
        expected.append(mean(copies))
    assert_rows(actual, expected)


def test_fused_combines_heatmaps_of_layers():
    trace = POOLED.trace()
    layers = [[scaled_heatmap(xgrad_map(image, i, layer), 8, 12) for layer in (1, 3)]
              for i, image in enumerate(POOLED.images())]  # fmt: skip
    assert_rows(fused(trace, ["features.1"], xgrad_cam).raw, [mean(maps) for maps in layers])
    largest = [[[max(pair) for pair in zip(*lines, strict=True)] for lines in zip(*maps, strict=True)]
               for maps in layers]  # fmt: skip
    assert_rows(fused(trace, ["features.1"], xgrad_cam, fusion="maximum").raw, largest)
    products = [[[math.prod(pair) for pair in zip(*lines, strict=True)] for lines in zip(*maps, strict=True)]
                for maps in layers]  # fmt: skip
    assert_rows(fused(trace, ["features.1"], xgrad_cam, fusion="product").raw, products)


@pytest.mark.parametrize("layers", [["features.3", "features.1"], ["features.1", "features.1"], ("features.1",)])
def test_fused_ignores_repeated_layers(layers):
    expected = fused(POOLED.trace(), ["features.1"], xgrad_cam).raw
    assert torch.equal(fused(POOLED.trace(), layers, xgrad_cam).raw, expected)


@pytest.mark.parametrize("name", ["xgrad_cam", "grad_cam"])
def test_guided_equals_the_product_with_the_heatmap(name):
    trace = POOLED.trace()
    gradient = guided_gradient(trace).tolist()
    heat = heatmap_of(methods.get(name), trace).tolist()
    expected = [
        [[sum(abs(rgb[c][y][x]) for c in range(3)) * lines[y][x] for x in range(12)] for y in range(8)]
        for rgb, lines in zip(gradient, heat, strict=True)
    ]
    assert_rows(methods.get(f"guided_{name}")(trace).raw, expected)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_raw_map_of_weights_and_maps(case):
    """Weights of a layer and maps of pixels alike, of a function or of an entry of conf/."""
    trace = case.trace()
    expected = (trace.gradients.mean((2, 3), keepdim=True) * trace.activations).sum(1)
    for wrapped in (grad_cam, methods.get("grad_cam")):
        assert torch.equal(raw_map_of(wrapped, trace), expected)
    assert torch.equal(raw_map_of(methods.get("centered"), trace), methods.get("centered")(trace).raw)


def test_augmented_of_a_mirrored_image_is_mirrored():
    trace = POOLED.trace()
    actual = augmented(trace.again(images=trace.images.flip(-1)), scales=(1.0, 0.5)).raw
    torch.testing.assert_close(actual, augmented(trace, scales=(1.0, 0.5)).raw.flip(-1), rtol=0, atol=ROUNDING)


def test_single_copy_equals_the_wrapped_method():
    trace = POOLED.trace()
    before = asdict(trace.passes)
    assert torch.equal(augmented(trace, mirrored=False).raw, heatmap_of(xgrad_cam, trace))
    assert asdict(trace.passes) == before
    torch.testing.assert_close(
        smoothed(trace, samples=2, sigma=0).raw, raw_map_of(xgrad_cam, trace), rtol=0, atol=ROUNDING
    )


def test_noise_depends_on_seed_and_image():
    trace = POOLED.trace()
    same = trace.again(images=trace.images[:1].repeat(3, 1, 1, 1), targets=torch.zeros(3, dtype=torch.long))
    rows = smoothed(same, samples=1).raw
    torch.testing.assert_close(rows[1:], rows[:-1], rtol=0, atol=ROUNDING)
    assert not torch.allclose(smoothed(trace, samples=1).raw, smoothed(trace, samples=1, seed=1).raw)


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
    smaller = torch.nn.functional.interpolate(trace.images, size=(4, 6), mode="bilinear", align_corners=False)
    single = ab.trace(POOLED.model(), POOLED.layer, smaller, trace.targets)
    expected = torch.nn.functional.interpolate(
        heatmap_of(ablation_cam, single)[:, None], size=(8, 12), mode="bilinear", align_corners=False
    )[:, 0]
    actual = augmented(trace, ablation_cam, mirrored=False, scales=(0.5,)).raw
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)  # drops are differences of scores


PARTIALS = {
    "fused": partial(fused, layers=["features.1"], wrapped=xgrad_cam),
    "augmented": partial(augmented, wrapped=hires_cam, scales=(1.0, 2.0)),
    "guided over augmented": partial(guided, wrapped=augmented),
    "augmented over smoothed": partial(augmented, wrapped=partial(smoothed, samples=2)),
    "smoothed over fused": partial(
        smoothed, wrapped=partial(fused, layers=["features.1"], wrapped=grad_cam), samples=2
    ),
}


@pytest.mark.parametrize(
    "name", [name if name == "augmented" else pytest.param(name, marks=pytest.mark.slow) for name in PARTIALS]
)
def test_wrappers_pass_the_common_suite(name):
    check_method(PARTIALS[name])


def test_nested_wrappers():
    trace = POOLED.trace()
    product = guided_gradient(trace).abs().sum(1) * ab.heatmap(augmented(trace).raw, (8, 12))
    assert torch.equal(guided(trace, augmented).raw, product)


@pytest.mark.parametrize(
    ("name", "traces"),
    [("fused", 1), ("augmented", 3), ("augmented over smoothed", 5), ("smoothed over fused", 4)],
)
def test_passes_of_compositions(name, traces):
    """Each further trace is a trunk pass, a head pass and the head's gradient; the trace itself is there already."""
    trace = POOLED.trace()
    before = asdict(trace.passes)
    PARTIALS[name](trace)
    actual = {key: (count - before[key]) / len(trace) for key, count in asdict(trace.passes).items()}
    assert actual == {"trunk_forward": traces, "trunk_backward": 0, "head_forward": traces, "head_backward": traces}


def test_guided_gradient_is_shared():
    trace = POOLED.trace()
    methods.get("guided_xgrad_cam")(trace)
    before = asdict(trace.passes)
    methods.get("guided_grad_cam")(trace)
    assert asdict(trace.passes) == before


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda trace: fused(trace, []), "needs a list of layers"),
        (lambda trace: fused(trace, "features.1"), "needs a list of layers"),
        (lambda trace: fused(trace, ["feature.1"], grad_cam), "no layer 'feature.1'; did you mean 'features.1'"),
        (lambda trace: fused(trace, ["features.1"], grad_cam, "max"), "no fusion 'max'"),
        (
            lambda trace: guided(trace, "grad_cam"),
            r"give a callable, such as methods\.get\('grad_cam'\)",
        ),
        (lambda trace: smoothed(trace, samples=0), "Invalid samples=0"),
        (lambda trace: augmented(trace, scales=[]), "Invalid scales="),
        (lambda trace: augmented(trace, scales=[0.5, 0]), "Invalid scales="),
        (lambda trace: augmented(CASES["dense"].trace(), scales=[0.5]), r"doesn't take images of 4 x 6 pixels \(mat1"),
    ],
)
def test_error_messages(call, sentence):
    with pytest.raises(BenchError, match=sentence) as caught:
        call(POOLED.trace())
    assert "\n" not in str(caught.value)


def test_missing_layers_error_message():
    with pytest.raises(BenchError, match=r"missing a required argument: 'layers'; .* method\.fused\.params\.KEY=VALUE"):
        plugins.from_config("method", "fused", {"_target_": "axiom_bench.methods.fused.fused"})


@pytest.mark.parametrize("wrapped", ["grad_cam", "axiom_bench.methods.grad_cam.grad_cam"])
def test_wrapped_method_by_name_and_by_path(wrapped):
    """By its name in conf/, or by a dotted path to a function."""
    trace = POOLED.trace()
    assert torch.equal(entry(wrapped=wrapped)(trace).raw, guided(trace, grad_cam).raw)


def test_unknown_wrapped_method():
    with pytest.raises(BenchError, match="did you mean 'grad_cam'"):
        entry(wrapped="gradcam")


def entry(target: str = "axiom_bench.methods.guided.guided", **params: object) -> plugins.Plugin:
    return plugins.from_config("method", "mine", {"_target_": target, "params": params})


def test_key_depends_on_the_wrapped_method():
    names = (
        "xgrad_cam",
        "grad_cam",
        "axiom_bench.methods.grad_cam.grad_cam",
        "augmented_xgrad_cam",
        "smoothed_xgrad_cam",
    )
    keys = [method_key(entry(wrapped=name), Sources()) for name in names]
    assert len(set(keys)) == len(names)
    assert method_key(entry(wrapped="grad_cam"), Sources()) == keys[1]
    assert entry().inner is not None
    assert entry().inner.call is xgrad_cam  # the default


@pytest.mark.parametrize("wrapped", ["random", "smoothed_random"])
def test_key_depends_on_the_parameters_of_the_wrapped_method(wrapped, monkeypatch):
    """Directly, and through another wrapper."""
    load, changed = plugins.load, False

    def loaded(kind: str, name: str) -> plugins.Plugin:
        if name == "smoothed_random":
            return plugins.from_config(
                kind, name, {"_target_": "axiom_bench.methods.smoothed.smoothed", "params": {"wrapped": "random"}}
            )
        plugin = load(kind, name)
        return replace(plugin, params={**plugin.params, "seed": 1}) if changed and name == "random" else plugin

    monkeypatch.setattr(plugins, "load", loaded)
    before = method_key(entry(wrapped=wrapped), Sources())
    assert method_key(entry(wrapped=wrapped), Sources()) == before
    changed = True
    assert method_key(entry(wrapped=wrapped), Sources()) != before


def test_key_depends_on_the_source_of_the_wrapped_method(monkeypatch):
    """Of its module and of all that this imports; another module's change doesn't change it."""
    plugin = entry("axiom_bench.methods.smoothed.smoothed", wrapped="guided_grad_cam")
    before = method_key(plugin, Sources())
    parsed = sources._parsed
    for module, same in (
        ("axiom_bench.methods.grad_cam", False),
        ("axiom_bench.methods.guided", False),
        ("axiom_bench.methods.cam", True),
    ):

        def changed(path, state, name, module=module):
            digest, imports = parsed(path, state, name)
            return digest + "!" * (name == module), imports

        monkeypatch.setattr(sources, "_parsed", changed)
        assert (method_key(plugin, Sources()) == before) == same
