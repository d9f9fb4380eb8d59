"""What scripts/audit_peers.py measures of other libraries: values, batches, degenerate maps, what they leave, time.

They are called as their documentation says, on plain networks, without the adapters' sandbox.
"""

from __future__ import annotations

import copy
import importlib
import io
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as functional
import yaml
from torch import Tensor, nn

from axiom_bench.cutting.cut_model import cut
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.explanation.heatmap import heatmap


@dataclass(frozen=True)
class Network:
    """A network in eval mode, its target layer, a batch of images (B, 3, H', W') and the classes to explain (B,)."""

    title: str
    model: nn.Module
    layer: str
    images: Tensor
    targets: Tensor

    def first(self, count: int) -> Network:
        """The same with fewer images."""
        return replace(self, images=self.images[:count], targets=self.targets[:count])

    def to(self, dtype: torch.dtype) -> Network:
        """A copy of another type."""
        return replace(self, model=copy.deepcopy(self.model).to(dtype), images=self.images.to(dtype))

    def fresh(self) -> Network:
        """A copy that a library may leave something on."""
        return replace(self, model=copy.deepcopy(self.model))


@dataclass(frozen=True)
class Pair:
    """A library's method and ours. settings: what both are given so that they are the same method; said in the table.

    passes_per_channel: forward passes of the whole network for each channel, 0 for the others.
    """

    name: str
    ours: Plugin
    params: Mapping[str, Any]
    said: str = ""
    unit: str = "1"
    passes_per_channel: int = 0

    @property
    def library(self) -> str:
        """The library's import name."""
        return self.name.partition("@")[2]


@dataclass(frozen=True)
class Alike:
    """Settings under which two are the same method, where their defaults differ.

    unit: of their raw map, in ours: "1", "H W" (pixels of the layer), or "" where there is no one factor.
    """

    ours: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""
    unit: str = "1"


NO_NOISE = 1e-30  # torch's normal distribution refuses 0
ALIKE = {
    "cam@torchcam": Alike(said="raw: ours times H W", unit="H W"),
    "guided_grad_cam@captum": Alike(unit=""),  # ours multiplies by a heatmap whose maximum is 1
    "finer_cam@pytorch_grad_cam": Alike({"gamma": 1.0}, said="gamma 1"),
    "is_cam@torchcam": Alike({"steps": 2}, {"num_samples": 2}, "2 steps"),
    "ss_cam@torchcam": Alike({"samples": 2, "sigma": 0.0}, {"num_samples": 2, "std": NO_NOISE}, "2 samples, no noise"),
    "smooth_grad_cam_pp@torchcam": Alike(
        {"samples": 4, "sigma": 0.0}, {"num_samples": 4, "std": NO_NOISE}, "4 samples, no noise"
    ),
}
PASSES_PER_CHANNEL = {"ablation_cam": 1, "score_cam": 1, "is_cam": 2, "ss_cam": 2}


def pairs() -> Iterator[Pair]:
    """Every file of conf/peers/ whose method this project has. Raises BenchError where a library is absent."""
    for name in plugins.names(plugins.PEERS):
        method = name.partition("@")[0]
        if method not in plugins.names("method"):
            continue
        alike = ALIKE.get(name, Alike())
        config = yaml.safe_load((plugins.conf_folder() / "method" / f"{method}.yaml").read_text())[method]
        params = {**(config.get("params") or {}), **alike.ours}
        ours = plugins.from_config("method", method, {**config, "params": params})
        theirs = dict(plugins.load("method", name).params)
        if "options" in theirs:
            theirs["options"] = {**theirs["options"], **alike.theirs}
        yield Pair(name, ours, theirs, alike.said, alike.unit, PASSES_PER_CHANNEL.get(method, 0))


@contextmanager
def quiet() -> Iterator[None]:
    """Without their progress bars and warnings, and with the same random draws each time."""
    nothing = io.StringIO()
    with redirect_stdout(nothing), redirect_stderr(nothing), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        yield


def theirs(pair: Pair, network: Network, **more: Any) -> Tensor:
    """Their maps (B, h, w), as they return them."""
    extract = importlib.import_module(f"axiom_bench.methods.peers.{pair.library}").extract
    layer = network.model.get_submodule(network.layer)
    with quiet():
        maps = extract(network.model, layer, network.images.clone(), network.targets, **pair.params, **more)
    return torch.as_tensor(maps).detach()


def theirs_raw(pair: Pair, network: Network) -> Tensor | None:
    """Their maps before scaling and resizing; None where they can't be seen, or have no unit of ours."""
    if not pair.unit:
        return None
    if pair.library == "captum":
        return theirs(pair, network)
    if pair.library == "torchcam":
        return theirs(pair, network, normalized=False)
    library = importlib.import_module("pytorch_grad_cam")
    kind = getattr(library, pair.params["extractor"])
    if kind in (library.FullGrad, library.FinerCAM):  # which have no such step
        return None
    maps: list[Any] = []

    class Recording(kind):
        def get_cam_image(self, *arguments: Any) -> Any:
            maps.append(super().get_cam_image(*arguments))
            return maps[-1]

    target = importlib.import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    with quiet():
        cam = Recording(network.model, [network.model.get_submodule(network.layer)], **pair.params["options"])
        cam(network.images.clone(), [target(one) for one in network.targets.tolist()])
    return torch.as_tensor(maps[0]).detach()


def ours_raw(pair: Pair, network: Network) -> Tensor:
    """Our signed map (B, h, w), from a fresh cut."""
    trace = cut(network.model, network.layer).trace(network.images, network.targets)
    raw = Explanation.of(trace, pair.ours(trace)).raw_map
    assert raw is not None
    return raw


def as_theirs(pair: Pair, raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Our raw map after what the library does to its own: ReLU and min-max scaling, then grad-cam resizes.

    captum does neither; both are divided by their largest absolute value.
    """
    if pair.library == "captum":
        return largest_is_one(raw)
    scaled = min_max(raw.relu())
    if pair.library == "torchcam":
        return scaled
    return min_max(functional.interpolate(scaled[:, None], size, mode="bilinear", align_corners=False)[:, 0])


def min_max(maps: Tensor) -> Tensor:
    """Each map (B, h, w) from 0 to 1; a constant one is 0."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return largest_is_one(maps)


def largest_is_one(maps: Tensor) -> Tensor:
    """Each map (B, h, w) divided by its largest absolute value, where that isn't 0."""
    highest = maps.abs().amax((1, 2), keepdim=True)
    return maps / highest.where(highest > 0, torch.ones_like(highest))


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """The largest |found - expected| of an image, in units of its largest |expected|; of the worst image."""
    found = found.to(expected)
    differences, units = (found - expected).abs().flatten(1).amax(1), expected.abs().flatten(1).amax(1)
    return float((differences / units.where(units > 0, torch.ones_like(units))).max())


@dataclass(frozen=True)
class Values:
    """Largest relative differences to ours; None: can't be seen."""

    raw: float | None
    shown: float


def values(pair: Pair, network: Network) -> Values:
    """The raw map, and the map that they return."""
    expected, raw = ours_raw(pair, network), theirs_raw(pair, network.fresh())
    size = (network.images.shape[-2], network.images.shape[-1])
    rectified = expected if pair.library != "torchcam" else expected.relu()
    if pair.unit == "H W":
        rectified = rectified * rectified[0].numel()
    shown = theirs(pair, network.fresh())
    return Values(
        None if raw is None else largest_difference(raw, rectified),
        largest_difference(
            largest_is_one(shown) if pair.library == "captum" else shown, as_theirs(pair, expected, size)
        ),
    )


def batch_dependence(pair: Pair, network: Network) -> float:
    """Their maps of a batch against those of its images one by one."""
    together = theirs(pair, network.fresh())
    alone = [
        theirs(pair, replace(network.fresh(), images=image, targets=target))
        for image, target in zip(network.images.split(1), network.targets.split(1), strict=True)
    ]
    return largest_difference(together, torch.cat(alone))


def described(call: Callable[[], Tensor]) -> str:
    """What maps hold, or the error."""
    try:
        maps = call()
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
        return type(error).__name__
    if not maps.isfinite().all():
        return "NaN"
    if not maps.any():
        return "zeros"
    if maps.min() == maps.max():
        return f"{maps.max().item():.2g} everywhere"
    return f"{maps.min().item():.2g} to {maps.max().item():.2g}"


def degenerate(pair: Pair, network: Network) -> tuple[str, str]:
    """What they return, and what our heatmap is."""
    size = (network.images.shape[-2], network.images.shape[-1])
    return described(lambda: theirs(pair, network.fresh())), described(lambda: heatmap(ours_raw(pair, network), size))


def without_gradients(pair: Pair, network: Network) -> tuple[str, str]:
    """Whether they work where the parameters are frozen, and under torch.no_grad()."""
    frozen = network.fresh()
    frozen.model.requires_grad_(False)
    with_frozen = described(lambda: theirs(pair, frozen))
    with torch.no_grad():
        under_no_grad = described(lambda: theirs(pair, network.fresh()))
    return with_frozen, under_no_grad


class Fuse(nn.Module):
    """Passes logits on, and raises at its `limit`-th pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passes, self.limit = 0, -1

    def forward(self, logits: Tensor) -> Tensor:
        self.passes += 1
        if self.passes == self.limit:
            raise RuntimeError("the last pass fails")
        return logits


def documented(pair: Pair, network: Network) -> None:
    """The call of their documentation, with `with` where it has one."""
    if pair.library != "pytorch_grad_cam":
        theirs(pair, network)
        return
    library = importlib.import_module("pytorch_grad_cam")
    target = importlib.import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    kind = getattr(library, pair.params["extractor"])
    with quiet(), kind(network.model, [network.model.get_submodule(network.layer)], **pair.params["options"]) as cam:
        cam(network.images.clone(), [target(one) for one in network.targets.tolist()])


def left_behind(pair: Pair, network: Network) -> tuple[str, str]:
    """What is changed on a user's model in training mode, after a call, and after an error in the call's last pass."""

    def after(limit: int) -> tuple[str, int]:
        fuse = Fuse()
        model = nn.Sequential(*copy.deepcopy(network.model), fuse).train()
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        fuse.limit, before, raised = limit, _state(model), ""
        try:
            documented(pair, replace(network, model=model))
        except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
            raised = "" if limit > 0 else f"raises {type(error).__name__}"
        now = _state(model)
        changed = [raised] * bool(raised) + [name for name in before if before[name] != now[name]]
        return ", ".join(changed) or "nothing", fuse.passes

    normal, passes = after(-1)
    return normal, after(passes)[0]


def _state(model: nn.Module) -> dict[str, Any]:
    modules = list(model.modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modules": [id(module) for module in modules],
        "hooks": sum(len(getattr(module, kind)) for module in modules for kind in hooks),
        "mode": model.training,
        "gradients": [None if one.grad is None else one.grad.tolist() for one in model.parameters()],
        "requires_grad": [one.requires_grad for one in model.parameters()],
    }


@dataclass(frozen=True)
class Times:
    """Milliseconds an image, ours with the trace; the median ratio of the rounds; their whole passes an image."""

    ours: float
    theirs: float
    ratio: float
    passes: float


def times(pair: Pair, network: Network, rounds: int) -> Times:
    """Both from images to heatmaps, in turn, after a call of each."""
    whole, count, network = cut(network.model, network.layer), len(network.images), network.fresh()

    def our_heatmap() -> object:
        trace = whole.trace(network.images, network.targets)
        return Explanation.of(trace, pair.ours(trace)).heatmap

    rows = []
    handle = network.model.register_forward_hook(lambda _, __, logits: rows.append(len(logits)))
    theirs(pair, network)
    handle.remove()
    our_heatmap()
    measured = [(_seconds(our_heatmap), _seconds(lambda: theirs(pair, network))) for _ in range(rounds)]
    ours_ms, theirs_ms = (1000 * statistics.median(column) / count for column in zip(*measured, strict=True))
    return Times(ours_ms, theirs_ms, statistics.median(t / o for o, t in measured), sum(rows) / count)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
