"""The common suite of CAM methods, the project's own and a user's: `check_method(my_cam)`.

Each check is a named function of a method and a Case, a tiny network with images; it returns, or raises AssertionError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.division import dead_channels
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin, passes_of
from axiom_bench.evaluation.score_scale import on_score_scale
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.explanation.explanation import Method
from axiom_bench.explanation.heatmap import Map

ROUNDING = 1e-12  # of the largest value: float64, over sums of some hundred terms


class TinyNetwork(nn.Module):
    """Two convolutions with in-place ReLUs, the first of stride 2, and a head over `channels` maps."""

    def __init__(self, head: str, channels: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 5, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(5, channels, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        if head == "pooled":
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))
        else:
            inputs = channels * map_size[0] * map_size[1]
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 6), nn.ReLU(inplace=True), nn.Linear(6, 3))

    @property
    def filters(self) -> tuple[Tensor, Tensor]:
        """What makes the channels: the weight (K, 5, 3, 3) and bias (K,) of the convolution."""
        return self.get_parameter("features.2.weight"), self.get_parameter("features.2.bias")

    @property
    def readout(self) -> Tensor:
        """What the head reads the channels with: the first linear layer's weight, seen as (outputs, K, ...)."""
        weight = next(module.weight for module in self.head if isinstance(module, nn.Linear))
        return weight.unflatten(1, (len(self.filters[1]), -1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H', W') -> logits (B, 3)."""
        logits: Tensor = self.head(self.features(images))
        return logits


@dataclass(frozen=True)
class Case:
    """A tiny seeded network and images for it; `dataclasses.replace` varies one thing at a time.

    head: "dense" (flatten, linear, ReLU, linear) or "pooled" (global average pooling, linear).
    layer: "features.3", a ReLU, or "features.2", the convolution before it, whose maps are signed.
    size: of the images; the maps' is half of it.
    """

    head: str = "dense"
    layer: str = "features.3"
    channels: int = 4
    size: tuple[int, int] = (8, 12)
    rows: int = 3
    dtype: torch.dtype = torch.float64

    def model(self) -> TinyNetwork:
        """The network, the same at each call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            network = TinyNetwork(self.head, self.channels, (-(-self.size[0] // 2), -(-self.size[1] // 2)))
        return network.to(self.dtype).eval()

    def images(self) -> Tensor:
        """(rows, 3, *size), the same at each call."""
        generator = torch.Generator().manual_seed(2)
        return torch.randn(self.rows, 3, *self.size, generator=generator, dtype=torch.float64).to(self.dtype)

    def trace(self, model: nn.Module | None = None) -> Trace:
        """Row i explains class i modulo 3."""
        return ab.trace(model or self.model(), self.layer, self.images(), torch.arange(self.rows) % 3)


CASES = {"pooled": Case("pooled"), "dense": Case(), "signed": Case(layer="features.2")}


def finite(method: Method, case: Case) -> None:
    """Weights, map and heatmap hold no NaN and no infinity."""
    trace = case.trace()
    answer = method(trace)
    assert _values(answer).isfinite().all()
    assert ab.heatmap(_raw_map(answer, trace), case.size).isfinite().all()


def shape_is_declared(method: Method, case: Case) -> None:
    """Weights are (B, K, 1, 1) or (B, K, H, W); a Map is (B, h, w)."""
    trace = case.trace()
    _assert_shape(method(trace), trace)


def dtype_follows(method: Method, case: Case) -> None:
    """float64 in, float64 out; float32 in, float32 out."""
    for dtype in (torch.float64, torch.float32):
        found = _values(method(replace(case, dtype=dtype).trace())).dtype
        assert found == dtype, f"{dtype} activations gave {found}"


def is_detached(method: Method, case: Case) -> None:
    """The answer holds on to no autograd graph, whose memory a long run would keep."""
    assert not _values(method(case.trace())).requires_grad


def leaves_trace_alone(method: Method, case: Case) -> None:
    """Nothing that the next method reads has changed."""
    trace = case.trace()
    names = ("images", "activations", "gradients", "scores", "logits", "targets", "ablation_drops")
    before = {name: getattr(trace, name).clone() for name in names}
    method(trace)
    for name, value in before.items():
        assert torch.equal(getattr(trace, name), value), f"trace.{name} was overwritten"


def leaves_model_alone(method: Method, case: Case) -> None:
    """Parameters, gradients, requires_grad, modes and hooks are as they were."""
    model = case.model().train()
    model.filters[0].requires_grad_(False)
    before = _state(model)
    method(case.trace(model))
    assert _state(model) == before


def deterministic(method: Method, case: Case) -> None:
    """The same bits again, and the global random state is neither read nor moved."""
    trace = case.trace()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        first = _values(method(trace))
        assert torch.equal(torch.get_rng_state(), before), "the global random state moved; use a torch.Generator"
        torch.manual_seed(1)
        assert torch.equal(_values(method(trace)), first), "a second call gave another answer"
        assert torch.equal(_values(method(case.trace())), first), "a fresh trace gave another answer"


def batch_invariant(method: Method, case: Case) -> None:
    """An image's answer doesn't depend on what else is in its batch."""
    trace = case.trace()
    rows = [_values(method(trace[i : i + 1])) for i in range(len(trace))]
    _assert_equal(torch.cat(rows), _values(method(trace)))


def order_invariant(method: Method, case: Case) -> None:
    """Images in another order give the answers in that order."""
    forward = case.trace()
    backward = forward.again(images=forward.images.flip(0), targets=forward.targets.flip(0))
    _assert_equal(_values(method(backward)), _values(method(forward)).flip(0))


def channel_equivariant(method: Method, case: Case) -> None:
    """A network whose channels are stored in another order gives the same map, from the same weights in that order."""
    order = torch.arange(case.channels).roll(1)
    model = case.model()
    with torch.no_grad():
        for parameter in model.filters:
            parameter.copy_(parameter[order])
        model.readout.copy_(model.readout[:, order])
    trace, reordered = case.trace(), case.trace(model)
    here, there = method(trace), method(reordered)
    _assert_equal(_raw_map(there, reordered), _raw_map(here, trace))
    if not isinstance(here, Map):
        every = torch.ones_like(trace.activations)
        _assert_equal(_values(there) * every, (here * every)[:, order])


def dead_channel_is_silent(method: Method, case: Case) -> None:
    """Whatever the head would do with a channel that is zero everywhere, the map stays finite and the same."""
    maps = []
    for factor in (1.0, -3.0):
        model = case.model()
        with torch.no_grad():
            for parameter in model.filters:
                parameter[0] = 0
            model.readout[:, 0] *= factor
        trace = case.trace(model)
        maps.append(_raw_map(method(trace), trace))
    assert maps[0].isfinite().all(), "a dead channel made the map NaN or infinite"
    _assert_equal(maps[1], maps[0])


def takes_zero_activations(method: Method, case: Case) -> None:
    """A layer that is zero everywhere: weights of it give an all-zero map, not NaN."""
    model = case.model()
    for parameter in model.filters:
        nn.init.zeros_(parameter)
    trace = case.trace(model)
    answer = method(trace)
    assert _values(answer).isfinite().all()
    if not isinstance(answer, Map):
        assert not _raw_map(answer, trace).any()


def takes_negative_scores(method: Method, case: Case) -> None:
    """Scores far below zero change no shape and give no NaN."""
    model = case.model()
    nn.init.constant_(model.head[-1].bias, -100)  # type: ignore[arg-type]
    trace = case.trace(model)
    assert (trace.scores < 0).all()
    answer = method(trace)
    _assert_shape(answer, trace)
    assert _values(answer).isfinite().all()


def takes_one_channel(method: Method, case: Case) -> None:
    """K = 1."""
    shape_is_declared(method, replace(case, channels=1))
    finite(method, replace(case, channels=1))


def takes_one_pixel(method: Method, case: Case) -> None:
    """H = W = 1, and a single image."""
    shape_is_declared(method, replace(case, size=(2, 2), rows=1))
    finite(method, replace(case, size=(2, 2), rows=1))


def works_without_autograd(method: Method, case: Case) -> None:
    """A caller under no_grad or inference_mode gets the same answer."""
    expected = _values(method(case.trace()))
    for mode in (torch.no_grad, torch.inference_mode):
        trace = case.trace()
        with mode():
            found = _values(method(trace))
        _assert_equal(found, expected)


def score_scale_claim_holds(method: Method, case: Case) -> None:
    """`on_score_scale` says what the check finds; a callable without a YAML file claims nothing."""
    claim = _spec(method).on_score_scale
    if claim is not None:
        found = on_score_scale(method, case.trace())
        assert claim == found, f"on_score_scale is {claim}, and the check finds {found}"


def passes_claim_holds(method: Method, case: Case) -> None:
    """`passes` says what the method costs beyond the trace, for each image; the drops are on a line of their own."""
    if isinstance(method, Plugin) and method.spec.passes:
        trace = case.trace()
        _ = trace.ablation_drops
        before = asdict(trace.passes)
        method(trace)
        found = {name: (count - before[name]) / len(trace) for name, count in asdict(trace.passes).items()}
        live = int((~dead_channels(trace.activations)).sum(1).float().mean())
        claimed = passes_of(method, case.channels, live, trace.activations[0, 0].numel())
        assert claimed == found, f"passes is {claimed} for each image, and {found} were counted"


def needs_drops_claim_holds(method: Method, case: Case) -> None:
    """`needs_drops` says whether the method is the first to ask for `trace.ablation_drops`."""
    claim = _spec(method).needs_drops
    if claim is not None:
        trace = case.trace()
        method(trace)
        found = "ablation_drops" in vars(trace)
        assert claim == found, f"needs_drops is {claim}, and the drops were {'' if found else 'not '}computed"


CHECKS: tuple[Callable[[Method, Case], None], ...] = (
    shape_is_declared,  # first: the others take it for granted
    finite,
    dtype_follows,
    is_detached,
    leaves_trace_alone,
    leaves_model_alone,
    deterministic,
    batch_invariant,
    order_invariant,
    channel_equivariant,
    dead_channel_is_silent,
    takes_zero_activations,
    takes_negative_scores,
    takes_one_channel,
    takes_one_pixel,
    works_without_autograd,
    score_scale_claim_holds,
    passes_claim_holds,
    needs_drops_claim_holds,
)


def check_method(method: str | Method, exempt: Mapping[str, str] | None = None) -> None:
    """Runs every check on every tiny network that the method takes; a network is refused by a BenchError.

    method: a name from `conf/method`, or a callable. exempt: check's name -> the reason why the method breaks it by its
    nature; such a check must fail. A YAML file's own `exempt` counts too.
    Raises AssertionError, with the check's and the network's name, and BenchError for an exempt check that isn't there.
    What the method itself raises passes through, with both names as a note.
    """
    plugin = plugins.of("method", method)
    known = {**exemptions(plugin), **(exempt or {})}
    names = [check.__name__ for check in CHECKS]
    for name in known:
        if name not in names:
            raise unknown("check", name, names)
    cases = accepted_cases(plugin)
    assert cases, f"{plugin.name} refuses all of the tiny networks: {', '.join(CASES)}: {_refusal(plugin, Case())}"
    for check in CHECKS:
        failures = [failure for name, case in cases.items() if (failure := _failure(check, plugin, name, case))]
        if check.__name__ in known:
            assert failures, f"{plugin.name} is exempt from {check.__name__}, and passes it: take the exemption away"
        else:
            assert not failures, "\n".join(failures)


def exemptions(plugin: Plugin) -> dict[str, str]:
    """The checks that a method's YAML file says it breaks by its nature: name -> reason."""
    return dict(plugin.spec.exempt)


def accepted_cases(method: Method) -> dict[str, Case]:
    """Those of CASES that the method doesn't refuse with a BenchError."""
    return {name: case for name, case in CASES.items() if _accepts(method, case)}


def _accepts(method: Method, case: Case) -> bool:
    return _refusal(method, case) is None


def _refusal(method: Method, case: Case) -> BenchError | None:
    """What the method says of a network that it doesn't take."""
    try:
        method(case.trace())
    except BenchError as error:
        return error
    return None


def _failure(check: Callable[[Method, Case], None], plugin: Plugin, name: str, case: Case) -> str | None:
    try:
        check(plugin, case)
    except AssertionError as error:
        expected = " ".join((check.__doc__ or "").split())
        return f"{plugin.name} fails {check.__name__} on the {name} network: {expected} {error}".rstrip()
    except Exception as error:
        error.add_note(f"in {check.__name__}, on the {name} network")
        raise
    return None


def _spec(method: Method) -> MethodSpec:
    return method.spec if isinstance(method, Plugin) else MethodSpec()


def _values(answer: Tensor | Map) -> Tensor:
    return answer.raw if isinstance(answer, Map) else answer


def _raw_map(answer: Tensor | Map, trace: Trace) -> Tensor:
    return answer.raw if isinstance(answer, Map) else (answer * trace.activations).sum(1)


def _assert_shape(answer: Tensor | Map, trace: Trace) -> None:
    B, K, H, W = trace.activations.shape
    assert isinstance(_values(answer), Tensor), f"a {type(answer).__name__} is neither a tensor nor a ab.Map of one"
    found = tuple(_values(answer).shape)
    if isinstance(answer, Map):
        assert (len(found), found[0]) == (3, B), f"the map is {found}, not ({B}, h, w)"
    else:
        assert found in {(B, K, 1, 1), (B, K, H, W)}, f"the weights are {found}, not {(B, K, 1, 1)} or {(B, K, H, W)}"


def _assert_equal(found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING * scale)


def _state(model: nn.Module) -> list[Any]:
    """All that a method could leave behind on a model, comparable with ==."""
    parameters = [(name, p.tolist(), p.requires_grad, p.grad) for name, p in model.named_parameters()]
    modules = [(name, type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
               for name, m in model.named_modules()]  # fmt: skip
    return [parameters, modules]
