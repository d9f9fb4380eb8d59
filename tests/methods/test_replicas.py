"""Each method against its definition, spelled out in loops over numbers, on networks run without the engine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods
from axiom_bench.testing import CASES, Case


@dataclass(frozen=True)
class Row:
    """One image, its maps F[k][y][x], gradients g, score S, the scores S_k, and the class's row of a linear head."""

    image: Tensor
    F: list
    g: list
    S: float
    S_k: list[float]
    linear: list[float] | None

    def pixels(self) -> Iterator[tuple[int, int]]:
        return ((y, x) for y in range(len(self.F[0])) for x in range(len(self.F[0][0])))


def rows_of(case: Case) -> Iterator[Row]:
    """Autograd on the plain network, an image and a channel at a time."""
    model = case.model()
    steps = list(model.features) + list(model.head)
    cut = int(case.layer.split(".")[1]) + 1
    trunk, head = nn.Sequential(*steps[:cut]), nn.Sequential(*steps[cut:])
    for i, image in enumerate(case.images()):
        target = i % 3
        maps = trunk(image[None]).detach().clone().requires_grad_()
        score = head(maps.clone())[0, target]
        (gradient,) = torch.autograd.grad(score, maps)
        ablated = []
        for k in range(case.channels):
            without = maps.detach().clone()
            without[0, k] = 0
            ablated.append(head(without)[0, target].item())
        linear = model.head[-1].weight[target].tolist() if case.head == "pooled" else None
        yield Row(image, maps[0].tolist(), gradient[0].tolist(), score.item(), ablated, linear)


def total(map_k: list) -> float:
    return sum(sum(line) for line in map_k)


def grad_cam(row: Row, k: int) -> float:
    return total(row.g[k]) / sum(1 for _ in row.pixels())


def grad_cam_pp(row: Row, k: int) -> float:
    weight = 0.0
    for y, x in row.pixels():
        g = row.g[k][y][x]
        denominator = 2 * g**2 + g**3 * total(row.F[k])
        alpha = g**2 / denominator if denominator != 0 else 0.0
        weight += alpha * max(g, 0.0)
    return weight


def xgrad_cam(row: Row, k: int) -> float:
    return sum(row.g[k][y][x] * row.F[k][y][x] for y, x in row.pixels()) / total(row.F[k])


def ablation_cam(row: Row, k: int) -> float:
    return (row.S - row.S_k[k]) / row.S


def ablation_cam_axiomatic(row: Row, k: int) -> float:
    return (row.S - row.S_k[k]) / total(row.F[k])


def cam(row: Row, k: int) -> float:
    assert row.linear is not None
    return row.linear[k] / sum(1 for _ in row.pixels())


def uniform(row: Row, k: int) -> float:
    return 1.0


def random(row: Row, k: int) -> float:
    numbers = row.image.flatten().tolist()
    pixels = b"".join(torch.tensor(number, dtype=torch.float32).numpy().tobytes() for number in numbers)
    seed = int(hashlib.sha256(b"0 " + pixels).hexdigest()[:16], 16)
    return torch.randn(len(row.F), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)[k].item()


CHANNEL_WEIGHTS = (grad_cam, grad_cam_pp, xgrad_cam, ablation_cam, ablation_cam_axiomatic, uniform, random)
PAIRS = [(replica, name) for replica in CHANNEL_WEIGHTS for name in CASES] + [(cam, "pooled")]


@pytest.mark.parametrize(("replica", "name"), PAIRS, ids=lambda value: getattr(value, "__name__", value))
def test_channel_weights_equal_loops(replica: Callable[[Row, int], float], name: str):
    case = CASES[name]
    weights = methods.get(replica.__name__)(case.trace())
    for actual, row in zip(weights, rows_of(case), strict=True):
        expected = [replica(row, k) for k in range(case.channels)]
        # Drops are differences of two scores: their rounding is that of the score, 1e-16, over sums of about 0.1.
        assert actual.flatten().tolist() == pytest.approx(expected, rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_hires_cam_equals_loops(case):
    weights = methods.get("hires_cam")(case.trace())
    for actual, row in zip(weights, rows_of(case), strict=True):
        for k, map_k in enumerate(row.g):
            for y, x in row.pixels():
                assert actual[k, y, x].item() == pytest.approx(map_k[y][x], rel=1e-12)


def test_centered_equals_loops():
    raw = methods.get("centered")(CASES["dense"].trace()).raw
    height, width = CASES["dense"].size
    for y in range(height):
        for x in range(width):
            across, down = (x - (width - 1) / 2) / width, (y - (height - 1) / 2) / height
            expected = math.exp(-(across**2) / (2 * 0.25**2)) * math.exp(-(down**2) / (2 * 0.25**2))
            assert raw[:, y, x].tolist() == pytest.approx([expected] * 3, rel=1e-12)
