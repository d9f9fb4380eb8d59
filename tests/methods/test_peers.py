"""Tests of methods from other libraries: selection by name, isolation, counted passes, versions,
absent libraries, several layers, a transformer's blocks and captum's options.
"""

import importlib
import importlib.util
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError

import pytest
import torch
import torch.nn.functional as functional
import yaml
from torch import nn
from torchvision.models import VisionTransformer

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cli import listing
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.methods.occlusion import occlusion
from axiom_bench.records import sources
from axiom_bench.records.entries import Facts
from axiom_bench.records.sources import Sources
from axiom_bench.run import keys as facts
from axiom_bench.run import manifest, spine
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.keys import method_key
from axiom_bench.run.result import JobResult
from axiom_bench.testing import CASES, Case, method_checks
from axiom_bench.testing.cases import OTHER_CASES, run_checks
from tests.methods.plain import normal, seeded, upsampled

NAMES = plugins.names(plugins.PEERS)
LIBRARIES = ("pytorch_grad_cam", "torchcam", "captum")
CHECKS = (
    method_checks.finite,
    method_checks.shape_is_declared,
    method_checks.dtype_follows,
    method_checks.is_detached,
    method_checks.leaves_trace_alone,
    method_checks.leaves_model_alone,
    method_checks.deterministic,
    method_checks.works_without_autograd,
    method_checks.needs_drops_claim_holds,
)
EXACT = 1e-12  # float64: sums of a few dozen terms
# The libraries add 1e-7 or 1e-8 to divisors, which are down to 1e-4 here; grad-cam resizes in
# float32.
EPSILONS = 1e-3


def peer(name: str) -> plugins.Plugin:
    """Return the method. If its library is absent, skip the test."""
    pytest.importorskip(name.partition("@")[2], reason="make peers")
    return methods.get(name)


@pytest.mark.slow
@pytest.mark.parametrize("library", [*LIBRARIES, "captum_pixels"])
def test_nothing_else_needs_to_be_imported_first(library):
    """Check the import in a fresh process. With a CPU-only torch, torchvision needs the workaround
    of `data.torchvision_import`.
    """
    pytest.importorskip(library.removesuffix("_pixels"), reason="make peers")
    code = f"import axiom_bench.methods.peers.{library}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def minmax(maps: torch.Tensor) -> torch.Tensor:
    """Scale each map (B, h, w) to [0, 1]."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / maps.amax((1, 2), keepdim=True)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_file_names_method_and_library(name):
    method, _, library = name.partition("@")
    path = plugins.conf_folder() / "peers" / f"{name}.yaml"
    entry = yaml.safe_load(path.read_text())[name]
    assert method
    assert library in LIBRARIES
    module = entry["_target_"].rpartition(".")[0].removeprefix("axiom_bench.methods.peers.")
    assert module in (library, f"{library}_pixels")
    assert entry["library"] in entry["title"]
    assert entry["on_score_scale"] is False  # the maps are scaled, so the axioms can't apply


@pytest.mark.parametrize("library", LIBRARIES)
def test_missing_library_error_message(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)  # makes Python's import fail
    monkeypatch.delitem(sys.modules, f"axiom_bench.methods.peers.{library}", raising=False)
    config = {"_target_": f"axiom_bench.methods.peers.{library}.{library}"}
    message = r"imported .*: pip install '\.\[peers\]' in axiom-bench's checkout\.$"
    with pytest.raises(BenchError, match=message) as error:
        plugins.from_config("method", "peer", config)
    assert "\n" not in str(error.value)


@cache
def chosen(*settings: str) -> set[str]:
    """Return the names of the methods that the settings of a command choose."""
    return set(spine.configuration(list(settings))["method"])


@pytest.mark.slow
def test_peers_are_chosen_by_name():
    some = {"grad_cam@torchcam", "xgrad_cam@pytorch_grad_cam"}
    assert not set(NAMES) & (set(methods.names()) | chosen("method=all"))
    assert chosen("method=[xgrad_cam]", f"peers=[{','.join(some)}]") == {"xgrad_cam", *some}
    assert chosen(f"peers=[{','.join(some)}]") == chosen() | some
    assert chosen("method=[xgrad_cam]", "peers=all") == {"xgrad_cam", *NAMES}
    message = "no peer 'xgradcam@torchcam'; did you mean 'xgrad_cam@torchcam'"
    with pytest.raises(BenchError, match=message):
        chosen("peers=[xgradcam@torchcam]")
    assert len(listing.listing("peers")) == len(NAMES)


@pytest.mark.slow
def test_kinds_of_spoiling_are_chosen_by_name_and_degree():
    names = set(plugins.names(plugins.SPOILED))
    assert not names & (set(methods.names()) | chosen("method=all"))
    assert chosen("method=[xgrad_cam]", "spoiled=all") == {"xgrad_cam", *names}
    truth_and_noise = chosen("method=[xgrad_cam]", "spoiled=[truth,noise]")
    noises = {f"noise_{percent}" for percent in (25, 50, 75, 100)}
    assert truth_and_noise == {"xgrad_cam", "truth", *noises}

    two_degrees = chosen(
        "method=[xgrad_cam]", "spoiled=[noise]", "spoiled.noise.degrees=[0.1,0.75]"
    )
    assert two_degrees == {"xgrad_cam", "noise_10", "noise_75"}

    # A control and a kind of spoiling have the same name.
    both = chosen("method=[other_image]", "spoiled=[other_image]")
    other_images = {f"other_image_{percent}" for percent in (25, 50, 75, 100)}
    assert both == {"other_image", *other_images}
    with pytest.raises(BenchError, match="no spoiled explainer 'noize'; did you mean 'noise'"):
        chosen("spoiled=[noize]")


def test_listing_does_not_import_the_libraries(monkeypatch):
    for library in LIBRARIES:
        monkeypatch.setitem(sys.modules, library, None)
    lines = listing.listing("peers")
    assert len(lines) == len(NAMES)

    def absent(library: str) -> str:
        raise PackageNotFoundError(library)

    monkeypatch.setattr(listing, "version", absent)
    for line in listing.listing("peers"):
        assert line.endswith("pip install '.[peers]' in axiom-bench's checkout")


# Parameters that decide how often a method runs the network, not what it does.
FEWER_SAMPLES = {"n_samples": 60, "perturbations_per_eval": 20}
FEWER = {
    "lime@captum": {"options": FEWER_SAMPLES},
    "kernel_shap@captum": {"options": FEWER_SAMPLES},
    "occlusion@captum": {"stride": 0.125},
}


@pytest.mark.parametrize("name", NAMES)
def test_common_checks(name):
    method = plugins.with_params("method", peer(name).name, FEWER.get(name, {}))
    run_checks(method, CHECKS, {"pooled": CASES["pooled"]}, {})


@pytest.mark.parametrize("name", ["grad_cam", "hires_cam"])  # signed maps at the layer
def test_raw_maps_equal_the_formula(name):
    trace = CASES["dense"].trace()
    expected = (methods.get(name)(trace) * trace.activations).sum(1)
    torch.testing.assert_close(peer(f"{name}@captum")(trace).raw, expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", ["grad_cam", "xgrad_cam"])
def test_scaled_maps_equal_the_scaled_formula(name):
    trace = CASES["dense"].trace()
    expected = minmax((methods.get(name)(trace) * trace.activations).sum(1).clamp(min=0))
    torch.testing.assert_close(peer(f"{name}@torchcam")(trace).raw, expected, rtol=0, atol=EPSILONS)
    actual = peer(f"{name}@pytorch_grad_cam")(trace).raw
    torch.testing.assert_close(actual, minmax(upsampled(expected, (8, 12))), rtol=0, atol=EPSILONS)


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        # loss.backward() reaches the first layer.
        ("grad_cam@pytorch_grad_cam", (1, 1, 1, 1)),
        ("grad_cam@torchcam", (1, 0, 1, 1)),
        ("grad_cam@captum", (1, 0, 1, 1)),
        ("eigen_cam@pytorch_grad_cam", (1, 0, 1, 0)),
        # One pass for the activations, one for the scores, and one for each of 4 channels.
        ("ablation_cam@pytorch_grad_cam", (6, 0, 6, 0)),
    ],
)
def test_passes_are_counted(name, passes):
    method = peer(name)
    trace = Case().trace()
    before = asdict(trace.passes)
    method(trace)
    after = asdict(trace.passes)
    assert tuple((after[kind] - before[kind]) / 3 for kind in after) == passes


@pytest.mark.parametrize(
    ("case", "window", "stride"),
    [
        (CASES["dense"], 3, 2),
        (CASES["signed"], 4, 3),
        (CASES["pooled"], 8, 1),
        (OTHER_CASES["signals"], 5, 3),
        (OTHER_CASES["volumes"], 2, 1),
    ],
)
def test_occlusion_is_that_of_captum(case, window, stride):
    attr = pytest.importorskip("captum.attr", reason="make peers")
    trace = case.trace()
    actual = occlusion(trace, window=window, stride=stride).raw
    expected = attr.Occlusion(case.model()).attribute(
        trace.images,
        sliding_window_shapes=(3, *[window] * len(case.size)),
        strides=(3, *[stride] * len(case.size)),
        target=trace.targets,
    )
    # captum adds drops of about 1 in float32
    torch.testing.assert_close(actual, expected[:, 0].double(), rtol=0, atol=1e-6)


def test_libraries_run_torch_pooling_and_leave_no_hooks():
    method = peer("grad_cam@torchcam")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    trace = ab.trace(network.double().eval(), "1", normal(2, 3, 8, 8))
    model = trace.cut_model.model
    kinds = [type(module) for module in model]
    called_kinds = []

    def record(module, *_):
        called_kinds.append(type(module))

    handle = nn.modules.module.register_module_forward_hook(record)
    try:
        method(trace)
    finally:
        handle.remove()

    assert nn.MaxPool2d in called_kinds
    assert [type(module) for module in model] == kinds
    assert not any(module._forward_hooks for module in model.modules())


class Tokens(nn.Module):
    """A network whose convolution's 3 x 4 positions become tokens (B, 12, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 2, stride=2)
        self.tokens = nn.Identity()
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(60, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.tokens(self.convolution(images).flatten(2).transpose(1, 2)))


@pytest.mark.parametrize("name", ["grad_cam@pytorch_grad_cam", "grad_cam@torchcam"])
def test_tokens_are_passed_as_maps(name):
    trace = ab.trace(seeded(Tokens), "tokens", normal(2, 3, 6, 8), reshape="tokens")
    expected = minmax((methods.get("grad_cam")(trace) * trace.activations).sum(1).clamp(min=0))
    actual = peer(name)(trace).raw
    if actual.shape != expected.shape:
        expected = minmax(upsampled(expected, (6, 8)))
    torch.testing.assert_close(actual, expected, rtol=0, atol=EPSILONS)
    with pytest.raises(BenchError, match="can't see tokens as maps"):
        peer("grad_cam@captum")(trace)


def test_failing_library_gives_not_applicable_rows():
    peer("cam@torchcam")
    case = CASES["dense"]  # two linear layers
    with pytest.warns(UserWarning, match="torchcam's CAM fails on this network"):
        rows = ab.evaluate(
            case.model(),
            case.layer,
            [(case.images(), None)],
            methods=["cam@torchcam"],
            metrics=["confidence_drop"],
        )
    assert set(rows["status"]) == {"not_applicable"}


def test_library_version_is_in_the_manifest_and_the_key(monkeypatch):
    method = peer("grad_cam@torchcam")
    entries = {method.name: manifest.method_entry(method)}
    result = JobResult("job", facts=Facts(methods=entries, device="cpu", precision={}))
    written = manifest.assemble([result], Settings.of(spine.configuration([])))
    assert written.versions["torchcam"] == sources.version_of("torchcam")
    before = method_key(method, Sources())
    monkeypatch.setattr(facts, "version_of", lambda library: "999")
    assert method_key(method, Sources()) != before


BLOCK = "encoder.layers.encoder_layer_0"


def peer_class(library: str, **params: object) -> plugins.Plugin:
    """Return a method for a class without a YAML. If its library is absent, skip the test."""
    pytest.importorskip(library, reason="make peers")
    target = f"axiom_bench.methods.peers.{library}.{library}"
    return plugins.from_config("method", "peer", {"_target_": target, "params": params})


@pytest.mark.parametrize("library", ["pytorch_grad_cam", "torchcam"])
def test_refine_cam_is_the_product_over_layers(library):
    trace = CASES["dense"].trace()
    module = {"torchcam": "torchcam.methods"}.get(library, library)
    pytest.importorskip(library, reason="make peers")
    options = {"base_method": importlib.import_module(module).LayerCAM}
    method = peer_class(library, extractor="RefineCAM", layers=["features.1"], options=options)

    actual = method(trace).raw

    maps = []
    for layer_trace in (trace, trace.at("features.1")):
        layer_cam = (layer_trace.gradients.relu() * layer_trace.activations).sum(1)
        maps.append(minmax(layer_cam))
    if library == "pytorch_grad_cam":
        # Maps are resized to the image and scaled again. torchcam keeps the layers' size.
        size = tuple(actual.shape[1:])
        maps = [minmax(upsampled(layer_map, size)) for layer_map in maps]
    expected = minmax(maps[0] * maps[1])
    torch.testing.assert_close(actual, expected, rtol=0, atol=EPSILONS)


@pytest.mark.parametrize("library", ["pytorch_grad_cam", "torchcam"])
def test_unknown_layer_error_message(library):
    method = peer_class(library, extractor="RefineCAM", layers=["nope"])
    with pytest.raises(BenchError, match=r"no layer 'nope'.*set params\.layers"):
        method(CASES["dense"].trace())


def test_legrad_is_the_rectified_gradient_of_the_attention():
    model = seeded(lambda: VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3))
    images = normal(2, 3, 32, 32)
    torch.nn.init.normal_(model.heads.head.weight)
    trace = ab.trace(model, BLOCK, images, reshape="tokens")
    actual = peer_class("torchcam", extractor="LeGrad")(trace).raw

    block = model.get_submodule(BLOCK)
    patches = model._process_input(images)
    tokens = torch.cat([model.class_token.expand(2, -1, -1), patches], 1)
    tokens = tokens + model.encoder.pos_embedding
    attention = block.self_attention
    projected = functional.linear(
        block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias
    )
    q, k, v = projected.chunk(3, 2)
    q, k, v = (part.unflatten(2, (2, 8)).transpose(1, 2) for part in (q, k, v))
    A = (q @ k.mT / 8**0.5).softmax(-1).detach().requires_grad_()
    tokens = tokens + attention.out_proj((A @ v).transpose(1, 2).flatten(2))
    tokens = tokens + block.mlp(block.ln_2(tokens))
    logits = model.heads(model.encoder.ln(tokens.mean(1)))  # LeGrad reads the mean of the tokens
    scores = logits.gather(1, trace.targets[:, None].clone())
    (gradient,) = torch.autograd.grad(scores.sum(), A)
    expected = gradient.relu().mean((1, 2))[:, 1:].unflatten(1, (4, 4))
    # float64, except that torchcam adds 1e-8 to the maximum.
    torch.testing.assert_close(actual, minmax(expected), rtol=0, atol=1e-6)


def test_interpolation_of_captum_is_an_option():
    trace = CASES["dense"].trace()
    expected = methods.get("guided_grad_cam")(trace).raw
    options = {"interpolate_mode": "bilinear"}
    method = peer_class("captum", extractor="GuidedGradCam", options=options)

    actual = method(trace).raw

    has_map = expected.flatten(1).amax(1) > 0
    assert has_map.any()
    assert not actual[~has_map].any()
    actual = actual[has_map]
    expected = expected[has_map]
    # Ours multiplies by a heatmap whose maximum is 1, so the scales differ.
    scale = actual.amax((1, 2)) / expected.amax((1, 2))
    torch.testing.assert_close(actual, expected * scale[:, None, None], rtol=0, atol=1e-12)
