"""Plain versions of the tiny networks and of pieces of methods: float64, one image at a time,
without the engine.

The module also sets up methods with few runs, and lists the checks that need only one network.
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
# float64: resizing, a tiny network and sums of a few hundred terms; scores are about 1 in size.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}
# Drops are differences of scores, divided by sums of about 0.1.
QUOTIENTS = {"rtol": 1e-9, "atol": 1e-12}
# Parameters that decide how often a method runs the network, not what it computes.
FEWER = {"masks": 20, "steps": 3, "iterations": 4, "samples": 2}

# Checks whose result depends on the network's head.
HEAD_CHECKS = (
    method_checks.channel_equivariant,
    method_checks.dead_channel_is_silent,
    method_checks.takes_zero_activations,
    method_checks.takes_negative_scores,
    method_checks.score_scale_claim_holds,
)
# Checks of the engine and the trace: one network is enough for them.
CHECKS_OF_ANY_NETWORK = tuple(check for check in METHOD_CHECKS if check not in HEAD_CHECKS)


@cache
def with_fewer(name: str) -> Plugin:
    """Return the method of conf/method, with the parameters of FEWER that it has."""
    params = plugins.load("method", name).params
    return plugins.with_params("method", name, {key: FEWER[key] for key in FEWER.keys() & params})


def run_each(
    method: Plugin,
    checks: Iterable[Check[Case]],
    networks: Callable[[Check[Case]], Mapping[str, Case]],
) -> None:
    """Run each check on its networks. A check that the method's YAML exempts must fail on one of
    them.
    """
    exempt = exemptions(method)
    for check in checks:
        cases = networks(check)
        if not cases:
            continue
        check_name = check.__name__
        check_exemptions = {check_name: exempt[check_name]} if check_name in exempt else {}
        run_checks(method, [check], cases, check_exemptions)


@cache
def model_of(case: Case) -> TinyNetwork:
    """Return the case's network, which no test changes."""
    return case.model()


def trunk_of(case: Case) -> nn.Sequential:
    index = int(case.layer.split(".")[1])
    return model_of(case).features[: index + 1]


def head_of(case: Case) -> nn.Sequential:
    model = model_of(case)
    return nn.Sequential(*model.features[len(trunk_of(case)) :], *model.head)


def maps_of(case: Case, images: Tensor | None = None) -> Tensor:
    """Return the activations (B, K, H, W) of images (B, 3, H', W'), or of the case's images."""
    with torch.no_grad():
        return trunk_of(case)(case.images() if images is None else images).clone()


def class_score(logits: list[float], target: int, score: str) -> float:
    """Return the class's logit or probability."""
    if score == "logit":
        return logits[target]
    return math.exp(logits[target]) / sum(map(math.exp, logits))


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
        """Return the class score of another image (3, H, W)."""
        with torch.no_grad():
            logits = model_of(self.case)(image[None])[0].tolist()
        return class_score(logits, self.target, score)

    def score_at(self, maps: Tensor, score: str = "logit") -> float:
        """Return the class score of other maps (K, h, w)."""
        with torch.no_grad():
            logits = head_of(self.case)(maps[None].clone())[0].tolist()
        return class_score(logits, self.target, score)

    def gradient(self, model: nn.Module, at: Tensor) -> Tensor:
        """Return the gradient of the class's logit, by autograd."""
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
        """The drops S - S_k (K,): S_k is the score without channel k."""
        scores = []
        for k in range(len(self.F)):
            without_k = self.F.index_fill(0, torch.tensor(k), 0)
            scores.append(self.score_at(without_k))
        return self.S - torch.tensor(scores, dtype=torch.float64)

    @cached_property
    def masks(self) -> list[Tensor]:
        """Each channel's map, resized to the image and scaled to [0, 1]."""
        return [self.mask(plane) for plane in self.F]

    def mask(self, plane: Tensor) -> Tensor:
        lines = resized(plane.tolist(), *self.case.size)
        return scaled(torch.tensor(lines, dtype=torch.float64))


@cache
def rows_of(case: Case) -> list[Row]:
    images_targets_maps = zip(case.images(), (0, 1, 2), maps_of(case), strict=True)
    return [Row(case, image, target, maps) for image, target, maps in images_targets_maps]


def parameter_id(value: object) -> str | None:
    """Return the test id of a method or of its parameters in a table."""
    if isinstance(value, dict):
        return ",".join(f"{key}={setting}" for key, setting in value.items()) or "defaults"
    if isinstance(value, str):
        return value
    return getattr(value, "__name__", None)


def assert_formula(
    case: Case, method: Callable, formula: Callable[[Row], Tensor | list], **tolerance: float
) -> None:
    """Check that the method's weights or maps equal the formula's, computed for each image by
    itself.
    """
    answer = method(case.trace())
    actual = answer.raw if isinstance(answer, Map) else answer
    answers = [torch.as_tensor(formula(row), dtype=torch.float64) for row in rows_of(case)]
    expected = torch.stack(answers)
    if actual.shape[2:] == (1, 1) and expected.ndim == 2:
        actual = actual[..., 0, 0]
    torch.testing.assert_close(actual, expected, **(CLOSE | tolerance))


def generator_of(image: Tensor, seed: int) -> torch.Generator:
    """Return a generator that is seeded by the image's pixels in float32 and a number."""
    pixels = image.float().numpy().tobytes()
    digest = hashlib.sha256(f"{seed} ".encode() + pixels).hexdigest()
    return torch.Generator().manual_seed(int(digest[:16], 16))


def resized(lines: Lines, height: int, width: int) -> Lines:
    """Resize bilinearly, with pixel centres at halves, clamped at the border."""

    def taps(position: int, size: int, source: int) -> tuple[int, int, float]:
        coordinate = (position + 0.5) * source / size - 0.5
        coordinate = min(max(coordinate, 0.0), source - 1)
        low = int(coordinate)
        return low, min(low + 1, source - 1), coordinate - low

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
    """Scale a plane to [0, 1]. A constant plane becomes zeros."""
    low = plane.min().item()
    high = plane.max().item()
    return (plane - low) / (high - low) if high > low else torch.zeros_like(plane)


def upsampled(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a plane (h, w), or each of several (B, h, w), bilinearly."""
    maps = plane[None] if plane.ndim == 2 else plane
    maps = functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    return maps[0] if plane.ndim == 2 else maps


def seeded(build: Callable[[], nn.Module], seed: int = 8) -> nn.Module:
    """Build a module in float64, with the parameters that torch draws from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().double().eval()


def normal(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def linear(*weights: list[float], bias: float = 0.0) -> nn.Sequential:
    """Return a head: the flattened maps times these rows of weights, plus the bias."""
    layer = nn.Linear(len(weights[0]), len(weights)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights, dtype=torch.float64))
        layer.bias.fill_(bias)
    return nn.Sequential(nn.Flatten(), layer)
