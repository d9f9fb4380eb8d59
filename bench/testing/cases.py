"""Tiny seeded networks with images, on which the common suites run, and the running of checks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial, wraps
from math import prod
from typing import Protocol, TypeVar

import torch
import torch.nn.modules.module as torch_module
from torch import Tensor, nn

from axiom_bench.cutting.cut_model import CutModel, cut
from axiom_bench.cutting.numerics import axes, over_space
from axiom_bench.cutting.trace import Trace
from axiom_bench.embedded.planted import channel_shapley
from axiom_bench.errors import unknown_name
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import PEERS, SPOILED, AnyPlugin
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.testing.other_device import OtherDevice

CLASSES = 3


def _flushes_denormals() -> bool:
    """Return whether torch computes with denormal numbers as with 0."""
    return bool(torch.tensor(1e-310, dtype=torch.float64).mul(1) == 0)


def _autocast_states() -> list[bool]:
    """Return whether autocast is enabled on the CPU and on a GPU."""
    return [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")]


# torch's settings, by what sets them, and the functions that read them.
SETTINGS: Mapping[str, Callable[[], object]] = {
    "torch.use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled,
    "torch.set_float32_matmul_precision": torch.get_float32_matmul_precision,
    "torch.set_default_dtype": torch.get_default_dtype,
    "torch.set_default_device": torch.get_default_device,
    "torch.set_num_threads": torch.get_num_threads,
    "torch.set_flush_denormal": _flushes_denormals,
    "torch.autocast": _autocast_states,
    "torch.inference_mode": torch.is_inference_mode_enabled,
}
TRACE_TENSORS = (
    "images",
    "other_images",
    "activations",
    "gradients",
    "scores",
    "logits",
    "targets",
    "ablation_drops",
)


class TinyNetwork(nn.Module):
    """Two convolutions with in-place ReLUs, the first of stride 2, and a head over `channels` maps.

    The network is for images of a size (H', W'), or signals and volumes. Along a side of 1 it has
    kernels of 1, so that it is the same as without that side.
    """

    def __init__(self, head: str, channels: int, size: tuple[int, ...]) -> None:
        super().__init__()
        convolution = getattr(nn, f"Conv{len(size)}d")
        pool = getattr(nn, f"AdaptiveAvgPool{len(size)}d")
        kernel = tuple(1 if side == 1 else 3 for side in size)
        stride = tuple(1 if side == 1 else 2 for side in size)
        padding = tuple(length // 2 for length in kernel)
        self.features = nn.Sequential(
            convolution(3, 5, kernel, stride=stride, padding=padding),
            nn.ReLU(inplace=True),
            convolution(5, channels, kernel, padding=padding),
            nn.ReLU(inplace=True),
        )
        if head == "pooled":
            self.head = nn.Sequential(pool(1), nn.Flatten(), nn.Linear(channels, CLASSES))
        else:
            inputs = channels * prod(-(-side // 2) for side in size)
            self.head = nn.Sequential(
                nn.Flatten(), nn.Linear(inputs, 6), nn.ReLU(inplace=True), nn.Linear(6, CLASSES)
            )

    @property
    def filters(self) -> tuple[Tensor, Tensor]:
        """The weight (K, 5, 3, 3) and bias (K,) of the convolution that computes the K channels."""
        return self.get_parameter("features.2.weight"), self.get_parameter("features.2.bias")

    @property
    def readout(self) -> Tensor:
        """The weight of the head's first linear layer, as a view (outputs, K, ...)."""
        layers = (module for module in self.head if isinstance(module, nn.Linear))
        weight: Tensor = next(layers).weight
        readout: Tensor = weight.unflatten(1, (len(self.filters[1]), -1))
        return readout

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (B, 3) of images (B, 3, H', W')."""
        logits: Tensor = self.head(self.features(images))
        return logits


class TellingNetwork(TinyNetwork):
    """A network that reports its true contributions; see TracedNetwork.true_contributions."""

    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor:
        """Compute the channels' Shapley values, shared among their positions by |F|: F's shape.

        The contributions are exact if the head pools.
        """
        shapley_values = []
        for F, target in zip(activations, targets.tolist(), strict=True):
            scores = partial(self._scores, F, target)
            shapley_values.append(channel_shapley(scores, F.new_ones(1, len(F))))
        magnitude = activations.abs()
        totals = magnitude.sum(axes(magnitude), keepdim=True)
        spread = over_space(torch.cat(shapley_values), magnitude)
        return spread * magnitude / totals.masked_fill(totals == 0, 1)

    def _scores(self, activations: Tensor, target: int, joined: Tensor) -> Tensor:
        """Compute the target's logit (N,) with only the channels that have joined, (N, K)."""
        masks = over_space(joined.to(activations), activations[None])
        logits: Tensor = self.head(activations * masks)
        return logits[:, target].double()


@dataclass(frozen=True)
class Case:
    """A tiny seeded network and images for it; `dataclasses.replace` changes single fields."""

    head: str = "dense"
    """"dense" (flatten, linear, ReLU, linear) or "pooled" (global average pooling, linear)."""
    layer: str = "features.3"
    """The target layer: "features.3", a ReLU, or "features.2", the convolution before it, whose
    maps are signed."""
    channels: int = 4
    """The number of channels of the layer."""
    size: tuple[int, ...] = (8, 12)
    """(H', W') of the images, (L',) or (D', H', W'). The layer's maps are half as large."""
    rows: int = 3
    """The number of images."""
    dtype: torch.dtype = torch.float64
    """The type of network and images."""
    tells: bool = False
    """True if the network reports its true contributions."""
    change: Callable[[TinyNetwork], None] | None = None
    """A function that changes the new network's weights in place, or None. All plug-ins share the
    cut of the changed network, because a cut takes longer than most checks."""

    def build(self) -> TinyNetwork:
        """Build the network before its change, with the same weights at each call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            build = TellingNetwork if self.tells else TinyNetwork
            network = build(self.head, self.channels, self.size)
        return network.to(self.dtype).eval()

    def model(self) -> TinyNetwork:
        """Build the network and apply `change`, with the same weights at each call."""
        network = self.build()
        if self.change is not None:
            with torch.no_grad():
                self.change(network)
        return network

    def other_images(self) -> Tensor:
        """Return another image for each of `images`, (rows, 3, *size), the same at each call."""
        return self.images(3)

    def images(self, seed: int = 2) -> Tensor:
        """Return the images, (rows, 3, *size), the same at each call."""
        generator = torch.Generator().manual_seed(seed)
        shape = (self.rows, 3, *self.size)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype)

    def trace(self, model: nn.Module | None = None, device: OtherDevice | None = None) -> Trace:
        """Trace the images, with other images; row i explains class i modulo 3.

        Args:
            model: The model, or None for the case's own, which is traced once. Each result is then
                a copy of this trace, on which nothing is computed yet.
            device: The device that holds images and model, or None for the CPU.

        Returns:
            The trace.
        """
        if model is None and device is None:
            return _cached_trace(self)
        model = model or self.model()
        images = self.images()
        other_images = self.other_images()
        targets = torch.arange(self.rows) % CLASSES
        if device is not None:
            device.put(*model.parameters(), *model.buffers(), images, other_images, targets)
        trace = cut(model, self.layer).trace(images, targets)
        return replace(trace, other_images=other_images)


def same_weights(model: TinyNetwork) -> None:
    """Change nothing: a case with this change has a second network of the same weights."""


CASES = {"pooled": Case("pooled"), "dense": Case(), "signed": Case(layer="features.2")}
OTHER_CASES = {
    "signals": Case(layer="features.2", size=(12,)),
    "volumes": Case("pooled", size=(4, 6, 2)),
}


@contextmanager
def assert_unchanged(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Raise AssertionError if a tensor is written to inside, even if it is restored."""
    before = {name: (tensor._version, tensor.clone()) for name, tensor in tensors.items()}
    yield
    for name, (version, values) in before.items():
        is_same = tensors[name]._version == version and torch.equal(tensors[name], values)
        assert is_same, f"{name} was overwritten"


@contextmanager
def assert_model_unchanged(model: nn.Module) -> Iterator[None]:
    """Raise AssertionError if the network or torch's settings change inside."""
    before = model_state(model) | {name: read() for name, read in SETTINGS.items()}
    yield
    after = model_state(model) | {name: read() for name, read in SETTINGS.items()}
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    assert not changed, f"it changes what others run: {', '.join(changed)}"


def model_state(model: nn.Module) -> dict[str, object]:
    """Return all that a method or metric could leave behind on a model, by name.

    The state has the bits of parameters, gradients and buffers, and what makes modules compute
    otherwise.
    """
    state: dict[str, object] = {}
    for name, hooks in _hooks(vars(torch_module)):
        state[f"hooks of all modules ({name})"] = hooks
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        bits = [_bits(tensor), None if tensor.grad is None else _bits(tensor.grad)]
        state[f"the network's {name}"] = (id(tensor), tensor.requires_grad, bits)
    for name, module in model.named_modules():
        attributes = vars(module)
        facts: dict[str, object] = {}
        for key in getattr(module, "__constants__", ()):
            if key in attributes:
                facts[key] = repr(attributes[key])
        facts.update(_hooks(attributes))
        facts["training mode"] = module.training
        facts["forward"] = attributes.get("forward")  # set if a plug-in replaces the method
        facts["class"] = type(module)
        for fact, value in facts.items():
            state[f"the network's {name} ({fact})"] = value
    return state


def _bits(tensor: Tensor) -> bytes:
    """Return the bits of a tensor's values."""
    return tensor.detach().clone().numpy().tobytes()


def _hooks(attributes: Mapping[str, object]) -> Iterator[tuple[str, list[object]]]:
    """Yield the hooks among a module's attributes, by the attribute's name."""
    for name, value in attributes.items():
        if name.endswith("hooks") and isinstance(value, dict):
            yield name, list(value.values())


class NetworkCase(Hashable, Protocol):
    """A case with its own network, whose cut several checks share."""

    @property
    def layer(self) -> str:
        """The target layer's name."""

    def model(self) -> nn.Module:
        """Return the network."""


def cached_cut(case: NetworkCase) -> CutModel:
    """Return the network of `case.model()`, cut once at `case.layer`.

    It is cut again if a plug-in left something behind on it.
    """
    cut_model, state = _cut_with_state(case)
    if model_state(cut_model.model) != state:
        _cut_with_state.cache_clear()
        cut_model, _ = _cut_with_state(case)
    return cut_model


@cache
def _cut_with_state(case: NetworkCase) -> tuple[CutModel, dict[str, object]]:
    """Cut the case's network, and return its state, too."""
    cut_model = cut(case.model(), case.layer)
    # The state of the cut's copy, whose parameters need no gradient.
    return cut_model, model_state(cut_model.model)


def _cached_trace(case: Case) -> Trace:
    """Return a copy of the case's trace, on which nothing is computed yet.

    The images are traced again if a plug-in has overwritten a tensor of the trace or of the
    network, even with equal values, because the trace's graph no longer has a gradient then.
    """
    cut_model = cached_cut(case)
    kept = _kept_trace(case, cut_model)
    if not kept.is_unchanged():
        _kept_trace.cache_clear()
        kept = _kept_trace(case, cut_model)
    return replace(kept.trace)


@dataclass(frozen=True, eq=False)
class KeptTrace:
    """A trace for several plug-ins, with what they mustn't change."""

    trace: Trace
    """The trace, on which nothing is computed."""
    values: Mapping[str, Tensor]
    """Copies of its tensors."""
    versions: tuple[int, ...]
    """How often each parameter of the network was written to."""

    def is_unchanged(self) -> bool:
        """Return True if no tensor of the trace and no parameter was written to."""
        if _versions(self.trace.cut_model.model) != self.versions:
            return False
        return all(
            torch.equal(getattr(self.trace, name), self.values[name]) for name in self.values
        )


def _versions(model: nn.Module) -> tuple[int, ...]:
    return tuple(parameter._version for parameter in model.parameters())


@cache
def _kept_trace(case: Case, cut_model: CutModel) -> KeptTrace:
    """Trace the case's images."""
    targets = torch.arange(case.rows) % CLASSES
    trace = replace(cut_model.trace(case.images(), targets), other_images=case.other_images())
    values = {}
    for name in TRACE_TENSORS:
        if name != "ablation_drops":  # they are computed on the copies
            values[name] = getattr(trace, name).clone()
    return KeptTrace(trace, values, _versions(cut_model.model))


SomeCase = TypeVar("SomeCase")
Check = Callable[[AnyPlugin, SomeCase], None]
SomePlugin = TypeVar("SomePlugin")
Result = TypeVar("Result")


def cache_latest(
    function: Callable[[SomePlugin, SomeCase], Result],
) -> Callable[[SomePlugin, SomeCase], Result]:
    """Decorate a function of a plug-in and a case whose result several checks need.

    For the latest plug-in, each case's result is kept.
    """
    latest: dict[SomeCase, tuple[SomePlugin, Result]] = {}

    @wraps(function)
    def call(plugin: SomePlugin, case: SomeCase) -> Result:
        if case not in latest or latest[case][0] is not plugin:
            latest[case] = plugin, function(plugin, case)
        return latest[case][1]

    return call


def run_checks(
    plugin: AnyPlugin,
    checks: Sequence[Check[SomeCase]],
    cases: Mapping[str, SomeCase],
    exempt: Mapping[str, str],
    mistakes: tuple[type[Exception], ...] = (AssertionError,),
) -> None:
    """Run every check on every case.

    Args:
        plugin: A method or a metric.
        checks: Functions of the plug-in and a case, which raise one of `mistakes` if they fail.
        cases: The cases by the names that messages give them, such as "the dense network".
        exempt: {name of a check: reason}. Such a check must fail.
        mistakes: The errors that mean a failed check. Another error passes through, with the
            check's name as a note.

    Raises:
        AssertionError: If a check fails, or an exempt one doesn't. The message has the names of
            check and case, what was expected and measured, and what to write.
        BenchError: If an exempt check doesn't exist.
    """
    names = [check.__name__ for check in checks]
    for name in exempt:
        if name not in names:
            raise unknown_name("check", name, names)
    for check in checks:
        messages = [_message(check, plugin, name, case, mistakes) for name, case in cases.items()]
        failures = [message for message in messages if message is not None]
        # An exemption that nothing needs is an error, so that none outlives its reason.
        if check.__name__ in exempt:
            assert failures, (
                f"{plugin.name} is exempt from {check.__name__}, and passes it: remove the "
                "exemption"
            )
        else:
            assert not failures, "\n".join([*failures, remedy(plugin, check.__name__, failures[0])])


def yaml_place(plugin: AnyPlugin) -> str:
    """Return where a plug-in's metadata are written: its file, or a user's group of settings."""
    kind = "method" if isinstance(plugin.spec, MethodSpec) else "metric"
    if isinstance(plugin.spec, MethodSpec) and plugin.spec.spoiling is not None:
        return f"conf/{SPOILED}/{plugin.spec.spoiling}.yaml"
    for folder in (kind, PEERS):
        if plugin.name in plugins.names(folder):
            return f"conf/{folder}/{plugin.name}.yaml"
    return f"{kind}.{plugin.name}"


def remedy(plugin: AnyPlugin, check: str, failure: str) -> str:
    """Return the sentence that says what to do about a failed check, unless the failure does."""
    if "Write `" in failure:
        return ""
    if plugin.bare:
        exemption = f'pass exempt={{"{check}": "the reason"}}'
    else:
        exemption = f'write `exempt: {{{check}: "the reason"}}` in {yaml_place(plugin)}'
    return f"Fix {plugin.target}. If it fails by its nature, {exemption}."


def _message(
    check: Check[SomeCase],
    plugin: AnyPlugin,
    name: str,
    case: SomeCase,
    mistakes: tuple[type[Exception], ...],
) -> str | None:
    """Return the message of a failed check, or None if it passes."""
    try:
        check(plugin, case)
    except mistakes as error:
        expected = _expectation(check)
        measured = " ".join(str(error).split())
        return f"{plugin.name} fails {check.__name__} on {name}: {expected} {measured}".rstrip()
    except Exception as error:
        error.add_note(f"in {check.__name__}, on {name}")
        raise
    return None


def _expectation(check: Check[SomeCase]) -> str:
    """Return a check's docstring as a statement: without "Check that", on one line."""
    docstring = " ".join((check.__doc__ or "").split())
    statement = docstring.removeprefix("Check that ")
    return statement[:1].upper() + statement[1:]
