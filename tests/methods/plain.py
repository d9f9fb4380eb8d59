"""The tiny networks run without the engine, and pieces of methods spelled out: float64, one image
at a time.

Also methods with few of the runs that some take, and the checks that one network is enough for.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.explanation.explanation import Map
from axiom_bench.testing import CASES, METHOD_CHECKS, Case, exemptions, method_checks
from axiom_bench.testing.cases import Check, TinyNetwork, run_checks

Lines = list[list[float]]
EACH_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# float64: resizing, a tiny network and sums of some hundred terms; scores are of the size of 1.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}
# drops are differences of scores, divided by sums of about 0.1
QUOTIENTS = {
    "rtol": 1e-9,
    "atol": 1e-12,
}
# Parameters that decide how often a method runs the network, not what it does.
FEWER = {"masks": 20, "steps": 3, "iterations": 4, "samples": 2}

OF_THE_HEAD = (
    method_checks.channel_equivariant,
    method_checks.dead_channel_is_silent,
    method_checks.takes_zero_activations,
    method_checks.takes_negative_scores,
    method_checks.score_scale_claim_holds,
)
OF_ANY_NETWORK = tuple(check for check in METHOD_CHECKS if check not in OF_THE_HEAD)


@cache
def with_fewer(name: str) -> Plugin:
    """The method of conf/method, with FEWER where it has such parameters."""
    params = plugins.load("method", name).params
    return plugins.with_params("method", name, {key: FEWER[key] for key in FEWER.keys() & params})


def run_each(
    method: Plugin,
    checks: Iterable[Check[Case]],
    networks: Callable[[Check[Case]], Mapping[str, Case]],
) -> None:
    """Each check on its networks; a check that the method's YAML exempts must fail on one of
    them.
    """
    exempt = exemptions(method)
    for check in checks:
        if cases := networks(check):
            of_check = {name: exempt[name] for name in exempt.keys() & {check.__name__}}
            run_checks(method, [check], cases, of_check)


@cache
def model_of(case: Case) -> TinyNetwork:
    """The case's network, which no test changes."""
    return case.model()


def trunk_of(case: Case) -> nn.Sequential:
    return model_of(case).features[: int(case.layer.split(".")[1]) + 1]


def head_of(case: Case) -> nn.Sequential:
    return nn.Sequential(*model_of(case).features[len(trunk_of(case)) :], *model_of(case).head)


def maps_of(case: Case, images: Tensor | None = None) -> Tensor:
    """Activations (B, K, H, W) of images (B, 3, H', W'); None: the case's."""
    with torch.no_grad():
        return trunk_of(case)(case.images() if images is None else images).clone()


def chosen(logits: list[float], target: int, score: str) -> float:
    """The class's logit or probability."""
    return (
        logits[target]
        if score == "logit"
        else math.exp(logits[target]) / sum(map(math.exp, logits))
    )


@dataclass(frozen=True)
class Row:
    """An image of a case (3, H, W), its class and its maps (K, h, w), explained by running the
    plain network.
    """

    case: Case
    image: Tensor
    target: int
    F: Tensor

    def score(self, image: Tensor, score: str = "logit") -> float:
        """Of another image (3, H, W)."""
        with torch.no_grad():
            return chosen(model_of(self.case)(image[None])[0].tolist(), self.target, score)

    def score_at(self, maps: Tensor, score: str = "logit") -> float:
        """Of other maps (K, h, w)."""
        with torch.no_grad():
            return chosen(head_of(self.case)(maps[None].clone())[0].tolist(), self.target, score)

    def gradient(self, model: nn.Module, at: Tensor) -> Tensor:
        """Of the class's logit, by autograd."""
        leaf = at[None].clone().requires_grad_()
        return torch.autograd.grad(model(leaf.clone())[0, self.target], leaf)[0][0]

    def pixel_gradient(self, image: Tensor) -> Tensor:
        return self.gradient(model_of(self.case), image)

    @cached_property
    def g(self) -> Tensor:
        return self.gradient(head_of(self.case), self.F)

    @cached_property
    def S(self) -> float:
        return self.score_at(self.F)

    @cached_property
    def drops(self) -> Tensor:
        """S - S_k (K,)."""
        without = [
            self.score_at(self.F.index_fill(0, torch.tensor(k), 0)) for k in range(len(self.F))
        ]
        return self.S - torch.tensor(without, dtype=torch.float64)

    @cached_property
    def masks(self) -> list[Tensor]:
        """Each map resized and from 0 to 1."""
        return [self.mask(plane) for plane in self.F]

    def mask(self, plane: Tensor) -> Tensor:
        return scaled(torch.tensor(resized(plane.tolist(), *self.case.size), dtype=torch.float64))


@cache
def rows_of(case: Case) -> list[Row]:
    return [Row(case, *each) for each in zip(case.images(), (0, 1, 2), maps_of(case), strict=True)]


def named(value: object) -> str | None:
    """Ids of a table's methods and parameters."""
    if isinstance(value, dict):
        return ",".join(f"{key}={each}" for key, each in value.items()) or "defaults"
    return value if isinstance(value, str) else getattr(value, "__name__", None)


def assert_formula(
    case: Case, method: Callable, formula: Callable[[Row], Tensor | list], **tolerance: float
) -> None:
    """The method's weights or maps are those that the formula gives for each image by itself."""
    answer = method(case.trace())
    actual = answer.raw if isinstance(answer, Map) else answer
    expected = torch.stack(
        [torch.as_tensor(formula(row), dtype=torch.float64) for row in rows_of(case)]
    )
    if actual.shape[2:] == (1, 1) and expected.ndim == 2:
        actual = actual[..., 0, 0]
    torch.testing.assert_close(actual, expected, **{**CLOSE, **tolerance})


def generator_of(image: Tensor, seed: int) -> torch.Generator:
    """Seeded by the image's pixels in float32 and a number."""
    digest = hashlib.sha256(f"{seed} ".encode() + image.float().numpy().tobytes()).hexdigest()[:16]
    return torch.Generator().manual_seed(int(digest, 16))


def resized(lines: Lines, height: int, width: int) -> Lines:
    """Bilinear, pixel centres at halves, clamped at the border."""

    def taps(position: int, size: int, source: int) -> tuple[int, int, float]:
        at = min(max((position + 0.5) * source / size - 0.5, 0.0), source - 1)
        low = int(at)
        return low, min(low + 1, source - 1), at - low

    answer = []
    for y in range(height):
        top, bottom, down = taps(y, height, len(lines))
        line = []
        for x in range(width):
            left, right, across = taps(x, width, len(lines[0]))
            upper = lines[top][left] * (1 - across) + lines[top][right] * across
            lower = lines[bottom][left] * (1 - across) + lines[bottom][right] * across
            line.append(upper * (1 - down) + lower * down)
        answer.append(line)
    return answer


def scaled(plane: Tensor) -> Tensor:
    """From 0 to 1; zeros where it is constant."""
    low, high = plane.min().item(), plane.max().item()
    return (plane - low) / (high - low) if high > low else torch.zeros_like(plane)


def upsampled(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w) -> size, or (B, h, w)."""
    maps = plane[None] if plane.ndim == 2 else plane
    maps = functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    return maps[0] if plane.ndim == 2 else maps


def seeded(build: Callable[[], nn.Module], seed: int = 8) -> nn.Module:
    """In float64, with the parameters that torch draws from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().double().eval()


def normal(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def linear(*weights: list[float], bias: float = 0.0) -> nn.Sequential:
    """Flattened maps times these rows of weights, plus the bias."""
    layer = nn.Linear(len(weights[0]), len(weights)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights, dtype=torch.float64))
        layer.bias.fill_(bias)
    return nn.Sequential(nn.Flatten(), layer)
