"""Tiny seeded networks with images: what the common suites run methods and metrics on; and how
checks are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial, wraps
from math import prod
from typing import Any, TypeVar

import torch
import torch.nn.modules.module as torch_module
from torch import Tensor, nn

from axiom_bench.cutting.numerics import axes, over_space
from axiom_bench.cutting.trace import CutModel, Trace, cut
from axiom_bench.embedded.planted import channel_shapley
from axiom_bench.errors import unknown
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import PEERS, SPOILED, Plugin
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.testing.other_device import OtherDevice

CLASSES = 3
SETTINGS: Mapping[str, Callable[[], object]] = {
    "torch.use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled,
    "torch.set_float32_matmul_precision": torch.get_float32_matmul_precision,
    "torch.set_default_dtype": torch.get_default_dtype,
    "torch.set_default_device": torch.get_default_device,
    "torch.set_num_threads": torch.get_num_threads,
    "torch.set_flush_denormal": lambda: bool(torch.tensor(1e-310, dtype=torch.float64).mul(1) == 0),
    "torch.autocast": lambda: [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")],
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
    """Two convolutions with in-place ReLUs, the first of stride 2, and a head over `channels` maps,
    for images of a size (H', W'), or signals and volumes. Along a side of 1 it has kernels of 1, so
    that it is as without that side.
    """

    def __init__(self, head: str, channels: int, size: tuple[int, ...]) -> None:
        super().__init__()
        convolution, pool = (
            getattr(nn, f"{name}{len(size)}d") for name in ("Conv", "AdaptiveAvgPool")
        )
        kernel, stride = (tuple(1 if side == 1 else each for side in size) for each in (3, 2))
        padding = tuple(each // 2 for each in kernel)
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
        """Weight (K, 5, 3, 3) and bias (K,) of the convolution that computes the K channels."""
        return self.get_parameter("features.2.weight"), self.get_parameter("features.2.bias")

    @property
    def readout(self) -> Tensor:
        """Weight of the head's first linear layer, as a view (outputs, K, ...)."""
        weight = next(module.weight for module in self.head if isinstance(module, nn.Linear))
        return weight.unflatten(1, (len(self.filters[1]), -1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H', W') -> logits (B, 3)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class TellingNetwork(TinyNetwork):
    """A network that tells its true contributions; see TracedNetwork.true_contributions."""

    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor:
        """Shapley values of the channels, shared among their positions by |F|: F's shape; exact
        where pooled.
        """
        values = [
            channel_shapley(partial(self._scores, F, c), F.new_ones(1, len(F)))
            for F, c in zip(activations, targets.tolist(), strict=True)
        ]
        magnitude = activations.abs()
        totals = magnitude.sum(axes(magnitude), keepdim=True)
        return (
            over_space(torch.cat(values), magnitude)
            * magnitude
            / totals.masked_fill(totals == 0, 1)
        )

    def _scores(self, activations: Tensor, target: int, joined: Tensor) -> Tensor:
        """The target's logit with the channels that have joined, the others zero: (N,) from joined
        (N, K).
        """
        logits: Tensor = self.head(
            activations * over_space(joined.to(activations), activations[None])
        )
        return logits[:, target].double()


@dataclass(frozen=True)
class Case:
    """A tiny seeded network and images for it; `dataclasses.replace` changes single fields.

    head: "dense" (flatten, linear, ReLU, linear) or "pooled" (global average pooling, linear).
    layer: "features.3", a ReLU, or "features.2", the convolution before it, whose maps are signed.
    size: (H', W') of the images, (L',) or (D', H', W'); the layer's maps are half as large. tells:
    whether the network tells its true contributions.
    """

    head: str = "dense"
    layer: str = "features.3"
    channels: int = 4
    size: tuple[int, ...] = (8, 12)
    rows: int = 3
    dtype: torch.dtype = torch.float64
    tells: bool = False

    def model(self) -> TinyNetwork:
        """The network, with the same weights at each call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            build = TellingNetwork if self.tells else TinyNetwork
            network = build(self.head, self.channels, self.size)
        return network.to(self.dtype).eval()

    def other_images(self) -> Tensor:
        """(rows, 3, *size), another image for each of `images`, the same at each call."""
        return self.images(3)

    def images(self, seed: int = 2) -> Tensor:
        """(rows, 3, *size), the same at each call."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(self.rows, 3, *self.size, generator=generator, dtype=torch.float64).to(
            self.dtype
        )

    def trace(self, model: nn.Module | None = None, device: OtherDevice | None = None) -> Trace:
        """The trace of the images, with other images; row i explains class i modulo 3.

        model: None for the case's own, cut once for all of its traces. device: which holds images
        and model; None: the CPU.
        """
        images, others, targets = (
            self.images(),
            self.other_images(),
            torch.arange(self.rows) % CLASSES,
        )
        if model is None and device is None:
            cut_model = own_cut(self)
        else:
            model = model or self.model()
            if device is not None:
                device.put(*model.parameters(), *model.buffers(), images, others, targets)
            cut_model = cut(model, self.layer)
        return replace(cut_model.trace(images, targets), other_images=others)


CASES = {"pooled": Case("pooled"), "dense": Case(), "signed": Case(layer="features.2")}
OTHER_CASES = {
    "signals": Case(layer="features.2", size=(12,)),
    "volumes": Case("pooled", size=(4, 6, 2)),
}


@contextmanager
def unchanged(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Raises AssertionError, with the tensor's name, where one is written to inside, even if it is
    restored.
    """
    before = {name: (tensor._version, tensor.clone()) for name, tensor in tensors.items()}
    yield
    for name, (version, values) in before.items():
        is_same = tensors[name]._version == version and torch.equal(tensors[name], values)
        assert is_same, f"{name} was overwritten"


@contextmanager
def leaves_alone(model: nn.Module) -> Iterator[None]:
    """Raises AssertionError where the network or torch's settings change inside."""
    before = model_state(model) | {name: read() for name, read in SETTINGS.items()}
    yield
    after = model_state(model) | {name: read() for name, read in SETTINGS.items()}
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    assert not changed, f"it changes what others run: {', '.join(changed)}"


def model_state(model: nn.Module) -> dict[str, object]:
    """All that a method or metric could leave behind on a model, by name: the bits of parameters,
    gradients and buffers, and what makes modules compute otherwise.
    """
    state: dict[str, object] = {
        f"hooks of all modules ({name})": hooks for name, hooks in _hooks(vars(torch_module))
    }
    for name, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        bits = [
            None if each is None else each.detach().clone().numpy().tobytes()
            for each in (tensor, tensor.grad)
        ]
        state[f"the network's {name}"] = (id(tensor), tensor.requires_grad, bits)
    for name, module in model.named_modules():
        own = vars(module)
        constants = {
            key: repr(own[key]) for key in getattr(module, "__constants__", ()) if key in own
        }
        facts = {
            **constants,
            **dict(_hooks(own)),
            "training mode": module.training,
            "forward": own.get("forward"),
        }
        state |= {
            f"the network's {name} ({fact})": value
            for fact, value in {**facts, "class": type(module)}.items()
        }
    return state


def _hooks(names: Mapping[str, Any]) -> Iterator[tuple[str, list[object]]]:
    return (
        (key, list(value.values()))
        for key, value in names.items()
        if key.endswith("hooks") and isinstance(value, dict)
    )


def own_cut(case: Any) -> CutModel:
    """The network of `case.model()`, cut at `case.layer` once, and anew where a plug-in left
    something behind on it.
    """
    cut_model, state = _cut_with_state(case)
    if model_state(cut_model.model) != state:
        _cut_with_state.cache_clear()
        cut_model, _ = _cut_with_state(case)
    return cut_model


@cache
def _cut_with_state(case: Any) -> tuple[CutModel, dict[str, object]]:
    cut_model = cut(case.model(), case.layer)
    return cut_model, model_state(
        cut_model.model
    )  # of the cut's copy, whose parameters need no gradient


SomeCase = TypeVar("SomeCase")
Check = Callable[[Plugin, SomeCase], None]
Result = TypeVar("Result")


def once(function: Callable[[Any, SomeCase], Result]) -> Callable[[Any, SomeCase], Result]:
    """A function of a plug-in and a case that several checks need: of the latest plug-in each
    case's result is kept.
    """
    latest: dict[SomeCase, tuple[Any, Result]] = {}

    @wraps(function)
    def call(plugin: Any, case: SomeCase) -> Result:
        if case not in latest or latest[case][0] is not plugin:
            latest[case] = plugin, function(plugin, case)
        return latest[case][1]

    return call


def run_checks(
    plugin: Plugin,
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
            raise unknown("check", name, names)
    for check in checks:
        messages = [_message(check, plugin, name, case, mistakes) for name, case in cases.items()]
        failures = [message for message in messages if message is not None]
        if check.__name__ in exempt:
            assert failures, (
                f"{plugin.name} is exempt from {check.__name__}, and passes it: remove the "
                "exemption"
            )
        else:
            assert not failures, "\n".join([*failures, remedy(plugin, check.__name__, failures[0])])


def yaml_place(plugin: Plugin) -> str:
    """Return where the metadata of a plug-in are written: its file, or the group of settings of a
    user's own.
    """
    kind = "method" if isinstance(plugin.spec, MethodSpec) else "metric"
    if isinstance(plugin.spec, MethodSpec) and plugin.spec.spoiling is not None:
        return f"conf/{SPOILED}/{plugin.spec.spoiling}.yaml"
    for folder in (kind, PEERS):
        if plugin.name in plugins.names(folder):
            return f"conf/{folder}/{plugin.name}.yaml"
    return f"{kind}.{plugin.name}"


def remedy(plugin: Plugin, check: str, failure: str) -> str:
    """Return the sentence that says what to do about a failed check, unless the failure itself says
    what to write.
    """
    if "Write `" in failure:
        return ""
    if plugin.bare:
        exemption = f'pass exempt={{"{check}": "the reason"}}'
    else:
        exemption = f'write `exempt: {{{check}: "the reason"}}` in {yaml_place(plugin)}'
    return f"Fix {plugin.target}. If it fails by its nature, {exemption}."


def _message(
    check: Check[SomeCase],
    plugin: Plugin,
    name: str,
    case: SomeCase,
    mistakes: tuple[type[Exception], ...],
) -> str | None:
    """Return the message of a failed check, or None if it passes."""
    try:
        check(plugin, case)
    except mistakes as error:
        expected = " ".join((check.__doc__ or "").split())
        measured = " ".join(str(error).split())
        return f"{plugin.name} fails {check.__name__} on {name}: {expected} {measured}".rstrip()
    except Exception as error:
        error.add_note(f"in {check.__name__}, on {name}")
        raise
    return None
