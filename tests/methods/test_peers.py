"""Methods of other libraries: selection by name, isolation, counted passes, versions, absent
libraries, several layers, a transformer's blocks and captum's options.
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
from axiom_bench.records import sources
from axiom_bench.records.entries import Facts
from axiom_bench.records.sources import Sources
from axiom_bench.run import keys as facts
from axiom_bench.run import manifest, spine
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.keys import method_key
from axiom_bench.run.result import JobResult
from axiom_bench.testing import CASES, Case, method_checks
from axiom_bench.testing.cases import run_checks
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
EXACT = 1e-12  # float64: sums of some dozen terms
# they add 1e-7 or 1e-8 to what they divide by, here down to 1e-4; grad-cam resizes in float32
EPSILONS = 1e-3


def peer(name: str) -> plugins.Plugin:
    """The method; skips where its library is absent."""
    pytest.importorskip(name.partition("@")[2], reason="make peers")
    return methods.get(name)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_nothing_else_needs_to_be_imported_first(library):
    """Beside a CPU-only torch, torchvision can't be imported as it is, see
    `data.torchvision_import`.
    """
    pytest.importorskip(library, reason="make peers")
    name = next(name for name in NAMES if name.endswith(f"@{library}"))
    code = f"import axiom_bench as ab; ab.methods.get({name!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def minmax(maps: torch.Tensor) -> torch.Tensor:
    """Each map (B, h, w) from 0 to 1."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / maps.amax((1, 2), keepdim=True)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_file_names_method_and_library(name):
    method, _, library = name.partition("@")
    about = yaml.safe_load((plugins.conf_folder() / "peers" / f"{name}.yaml").read_text())[name]
    assert method
    assert about["_target_"] in [
        f"axiom_bench.methods.peers.{each}.{each}" for each in LIBRARIES if each == library
    ]
    assert about["library"] in about["title"]
    assert about["on_score_scale"] is False  # their maps are scaled, so the axioms can't apply


@pytest.mark.parametrize("library", LIBRARIES)
def test_missing_library_error_message(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)  # what makes Python's import fail
    monkeypatch.delitem(sys.modules, f"axiom_bench.methods.peers.{library}", raising=False)
    with pytest.raises(
        BenchError, match=r"imported .*: pip install '\.\[peers\]' in axiom-bench's checkout\.$"
    ) as error:
        plugins.from_config(
            "method", "peer", {"_target_": f"axiom_bench.methods.peers.{library}.{library}"}
        )
    assert "\n" not in str(error.value)


@cache
def chosen(*words: str) -> set[str]:
    return set(spine.configuration(list(words))["method"])


@pytest.mark.slow
def test_peers_are_chosen_by_name():
    some = {"grad_cam@torchcam", "xgrad_cam@pytorch_grad_cam"}
    assert not set(NAMES) & (set(methods.names()) | chosen("method=all"))
    assert chosen("method=[xgrad_cam]", f"peers=[{','.join(some)}]") == {"xgrad_cam", *some}
    assert chosen(f"peers=[{','.join(some)}]") == chosen() | some
    assert chosen("method=[xgrad_cam]", "peers=all") == {"xgrad_cam", *NAMES}
    with pytest.raises(
        BenchError, match="no peer 'xgradcam@torchcam'; did you mean 'xgrad_cam@torchcam'"
    ):
        chosen("peers=[xgradcam@torchcam]")
    assert len(listing.listing("peers")) == len(NAMES)


@pytest.mark.slow
def test_kinds_of_spoiling_are_chosen_by_name_and_degree():
    names = set(plugins.names(plugins.SPOILED))
    assert not names & (set(methods.names()) | chosen("method=all"))
    assert chosen("method=[xgrad_cam]", "spoiled=all") == {"xgrad_cam", *names}
    of_noise = {f"noise_{percent}" for percent in (25, 50, 75, 100)}
    assert chosen("method=[xgrad_cam]", "spoiled=[truth,noise]") == {
        "xgrad_cam",
        "truth",
        *of_noise,
    }
    few = ("spoiled=[noise]", "spoiled.noise.degrees=[0.1,0.75]")
    assert chosen("method=[xgrad_cam]", *few) == {"xgrad_cam", "noise_10", "noise_75"}
    # a control and a kind of one name
    both = chosen("method=[other_image]", "spoiled=[other_image]")
    assert both == {"other_image", *(f"other_image_{percent}" for percent in (25, 50, 75, 100))}
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
    assert all(
        line.endswith("pip install '.[peers]' in axiom-bench's checkout")
        for line in listing.listing("peers")
    )


@pytest.mark.parametrize("name", NAMES)
def test_common_checks(name):
    run_checks(peer(name), CHECKS, {"pooled": CASES["pooled"]}, {})


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
        ("grad_cam@pytorch_grad_cam", (1, 1, 1, 1)),  # down to the first layer: loss.backward()
        ("grad_cam@torchcam", (1, 0, 1, 1)),
        ("grad_cam@captum", (1, 0, 1, 1)),
        ("eigen_cam@pytorch_grad_cam", (1, 0, 1, 0)),
        (
            "ablation_cam@pytorch_grad_cam",
            (6, 0, 6, 0),
        ),  # for the activations, for the scores, for each of 4 channels
    ],
)
def test_passes_are_counted(name, passes):
    method, trace = peer(name), Case().trace()
    before = asdict(trace.passes)
    method(trace)
    assert (
        tuple((after - before[kind]) / 3 for kind, after in asdict(trace.passes).items()) == passes
    )


def test_libraries_run_torch_pooling_and_leave_no_hooks():
    method = peer("grad_cam@torchcam")
    model = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
        .double()
        .eval()
    )
    trace = ab.trace(model, "1", normal(2, 3, 8, 8))
    model = trace.cut_model.model
    kinds, seen = [type(module) for module in model], []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, *_: seen.append(type(module))
    )
    try:
        method(trace)
    finally:
        handle.remove()
    assert nn.MaxPool2d in seen
    assert [type(module) for module in model] == kinds
    assert not any(module._forward_hooks for module in model.modules())


class Tokens(nn.Module):
    """A convolution whose 3 x 4 positions are handed on as tokens (B, 12, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.tokens = nn.Conv2d(3, 5, 2, stride=2), nn.Identity()
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
            case.model(), case.layer, [(case.images(), None)], ["cam@torchcam"], ["confidence_drop"]
        )
    assert set(rows["status"]) == {"not_applicable"}


def test_library_version_is_in_the_manifest_and_the_key(monkeypatch):
    method = peer("grad_cam@torchcam")
    shared = Facts(methods={method.name: manifest.method_entry(method)}, device="cpu", precision={})
    written = manifest.assemble(
        [JobResult("job", facts=shared)], Settings.of(spine.configuration([]))
    )
    assert written.versions["torchcam"] == sources.version_of("torchcam")
    before = method_key(method, Sources())
    monkeypatch.setattr(facts, "version_of", lambda library: "999")
    assert method_key(method, Sources()) != before


BLOCK = "encoder.layers.encoder_layer_0"


def of_class(library: str, **params: object) -> plugins.Plugin:
    """A class of a library that has no YAML; skips where the library is absent."""
    pytest.importorskip(library, reason="make peers")
    target = f"axiom_bench.methods.peers.{library}.{library}"
    return plugins.from_config("method", "peer", {"_target_": target, "params": params})


@pytest.mark.parametrize("library", ["pytorch_grad_cam", "torchcam"])
def test_refine_cam_is_the_product_over_layers(library):
    trace = CASES["dense"].trace()
    module = {"torchcam": "torchcam.methods"}.get(library, library)
    pytest.importorskip(library, reason="make peers")
    options = {"base_method": importlib.import_module(module).LayerCAM}
    actual = of_class(library, extractor="RefineCAM", layers=["features.1"], options=options)(
        trace
    ).raw
    maps = [(at.gradients.relu() * at.activations).sum(1) for at in (trace, trace.at("features.1"))]
    # torchcam's is that of the largest layer, grad-cam's that of the image
    size = tuple(actual.shape[1:])
    expected = minmax(torch.stack([minmax(upsampled(minmax(raw), size)) for raw in maps]).prod(0))
    if library == "torchcam":  # doesn't scale again after resizing; both layers have the same size
        expected = minmax(minmax(maps[0]) * minmax(maps[1]))
    torch.testing.assert_close(actual, expected, rtol=0, atol=EPSILONS)


@pytest.mark.parametrize("library", ["pytorch_grad_cam", "torchcam"])
def test_unknown_layer_error_message(library):
    with pytest.raises(BenchError, match=r"no layer 'nope'.*set params\.layers"):
        of_class(library, extractor="RefineCAM", layers=["nope"])(CASES["dense"].trace())


def test_legrad_is_the_rectified_gradient_of_the_attention():
    model, images = (
        seeded(lambda: VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3)),
        normal(2, 3, 32, 32),
    )
    torch.nn.init.normal_(model.heads.head.weight)
    trace = ab.trace(model, BLOCK, images, reshape="tokens")
    actual = of_class("torchcam", extractor="LeGrad")(trace).raw
    block = model.get_submodule(BLOCK)
    tokens = model._process_input(images)
    tokens = (
        torch.cat([model.class_token.expand(2, -1, -1), tokens], 1) + model.encoder.pos_embedding
    )
    attention = block.self_attention
    q, k, v = functional.linear(
        block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias
    ).chunk(3, 2)
    q, k, v = (part.unflatten(2, (2, 8)).transpose(1, 2) for part in (q, k, v))
    A = (q @ k.mT / 8**0.5).softmax(-1).detach().requires_grad_()
    tokens = tokens + attention.out_proj((A @ v).transpose(1, 2).flatten(2))
    tokens = tokens + block.mlp(block.ln_2(tokens))
    # a block is scored by the mean of its tokens
    scores = model.heads(model.encoder.ln(tokens.mean(1)))
    (gradient,) = torch.autograd.grad(scores.gather(1, trace.targets[:, None].clone()).sum(), A)
    expected = gradient.relu().mean((1, 2))[:, 1:].unflatten(1, (4, 4))
    # float64, but for the 1e-8 that torchcam adds to the maximum
    torch.testing.assert_close(actual, minmax(expected), rtol=0, atol=1e-6)


def test_interpolation_of_captum_is_an_option():
    trace = CASES["dense"].trace()
    expected = methods.get("guided_grad_cam")(trace).raw
    actual = of_class(
        "captum", extractor="GuidedGradCam", options={"interpolate_mode": "bilinear"}
    )(trace).raw
    shown = expected.flatten(1).amax(1) > 0
    # ours multiplies by a heatmap of maximum 1
    scale = actual[shown].amax((1, 2)) / expected[shown].amax((1, 2))
    assert shown.any()
    assert not actual[~shown].any()
    torch.testing.assert_close(
        actual[shown], expected[shown] * scale[:, None, None], rtol=0, atol=1e-12
    )
