"""Methods of activations and gradients: their formulas in loops, and closed forms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.numerics import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.fem import fem
from axiom_bench.methods.finer_cam import finer_cam, nearest_classes
from axiom_bench.methods.shapley_cam import shapley_cam
from axiom_bench.methods.smooth_grad_cam_pp import smooth_grad_cam_pp
from axiom_bench.testing import CASES, Case
from tests.methods.plain import generator_of, gradient_of, maps_of

ROUNDING = 1e-11  # of the largest value: float64, a few products of sums of some hundred terms


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=ROUNDING * expected.abs().max().item())


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request) -> Case:
    return request.param


# LayerCAM and the elementwise Grad-CAM


def test_layer_cam_and_elementwise_in_loops(case):
    maps, trace = maps_of(case), case.trace()
    layer, elementwise = (methods.get(name)(trace) for name in ("layer_cam", "grad_cam_elementwise"))
    signs: set[bool] = set()
    for row in range(case.rows):
        gradient = gradient_of(case, maps, row, row % 3)
        for k, y, x in itertools.product(*(range(size) for size in gradient.shape)):
            g, F = gradient[k, y, x].item(), maps[row, k, y, x].item()
            assert layer[row, k, y, x].item() == pytest.approx(max(g, 0.0), rel=1e-12)
            assert (elementwise[row, k, y, x].item() * F) == pytest.approx(max(g * F, 0.0), rel=1e-12, abs=1e-18)
            signs.add(g > 0)
    assert signs == {True, False}


def test_elementwise_equals_layer_cam_after_a_relu():
    for name in ("pooled", "dense"):
        trace = CASES[name].trace()
        expected = methods.get("layer_cam")(trace) * trace.activations
        assert torch.equal(methods.get("grad_cam_elementwise")(trace) * trace.activations, expected)


def test_layer_cam_and_elementwise_differ_on_signed_activations(readout):
    """One pixel, g = (2, 2, -1) at F = (3, -5, -7): relu(g) F = (6, -10, 0), and relu(g F) = (6, 0, 7)."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(3, 1))
    with torch.no_grad():
        head[1].weight.copy_(torch.tensor([[2.0, 2.0, -1.0]]))
    trace = readout(head, torch.tensor([3.0, -5.0, -7.0]).view(1, 3, 1, 1))
    assert (methods.get("layer_cam")(trace) * trace.activations).flatten().tolist() == [6, -10, 0]
    assert (methods.get("grad_cam_elementwise")(trace) * trace.activations).flatten().tolist() == [6, 0, 7]


# FEM


@pytest.mark.parametrize("deviations", [2.0, 1.0])
def test_fem_in_loops(case, deviations):
    maps = maps_of(case)
    actual = fem(case.trace(), deviations).raw
    marked = 0
    for row, image in enumerate(maps.tolist()):
        expected = torch.zeros(maps.shape[-2:], dtype=torch.float64)
        for channel in image:
            values = [value for line in channel for value in line]
            mean = sum(values) / len(values)
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
            for y, line in enumerate(channel):
                for x, value in enumerate(line):
                    if value > mean + deviations * deviation:
                        expected[y, x] += mean
                        marked += 1
        torch.testing.assert_close(actual[row], expected, rtol=0, atol=1e-14)
    assert marked > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, -3.3, 1e-3])
def test_fem_of_a_constant_channel_is_zero(value, dtype, readout):
    """Its mean is rounded, and no position stands out by that."""
    trace = readout(nn.Sequential(nn.Flatten(), nn.Linear(3 * 35, 2)), torch.full((1, 3, 5, 7), value))
    trace = replace(trace, activations=torch.full((1, 3, 5, 7), value, dtype=dtype))
    assert not fem(trace).raw.any()


# ShapleyCAM


class Quadratic(nn.Module):
    """logits_c = F^T A_c F / 2 + b_c F, A_c symmetric."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(8)
        A = torch.randn(2, inputs, inputs, dtype=torch.float64, generator=generator)
        self.A = nn.Parameter(A + A.mT)
        self.b = nn.Parameter(torch.randn(2, inputs, dtype=torch.float64, generator=generator))

    def forward(self, maps: Tensor) -> Tensor:
        flat = maps.flatten(1)
        squares = [(flat @ self.A[c] * flat).sum(1) / 2 for c in range(2)]
        return torch.stack(squares, 1) + flat @ self.b.T


class Attention(nn.Module):
    """Positions attend to each other, in torch's one function for it."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.classes = nn.Linear(3, 3 * 8), nn.Linear(8, 2)

    def forward(self, maps: Tensor) -> Tensor:
        q, k, v = self.inputs(maps.flatten(2).mT).chunk(3, -1)
        return self.classes(functional.scaled_dot_product_attention(q, k, v).mean(1))


SMOOTH_HEADS: dict[str, Callable[[], nn.Module]] = {
    "softplus": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 7), nn.Softplus(), nn.Linear(7, 2)),
    "gelu, max pooling": lambda: nn.Sequential(
        nn.Conv2d(3, 5, 2), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)
    ),
    "silu in place": lambda: nn.Sequential(nn.SiLU(inplace=True), nn.Flatten(), nn.Linear(36, 2)),
    "with relu, relu6 and max pooling": lambda: nn.Sequential(
        nn.MaxPool2d(2, 1),
        nn.Conv2d(3, 5, 2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(10, 6),
        nn.GELU(),
        nn.Linear(6, 4),
        nn.ReLU6(),
        nn.Linear(4, 4),
        nn.Tanh(),
        nn.Linear(4, 2),
    ),
    "quadratic": lambda: Quadratic(36),
    "attention": Attention,
}


@pytest.fixture
def maps() -> Tensor:
    """(2, 3, 3, 4), of both signs."""
    return torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


def built(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(10)
        return build().double().eval()


@pytest.mark.parametrize("build", SMOOTH_HEADS.values(), ids=SMOOTH_HEADS)
def test_shapley_cam_equals_the_full_hessian(build, maps, readout):
    head = built(build)
    actual = shapley_cam(readout(head, maps, target=1))
    for row in range(len(maps)):

        def score(flat: Tensor) -> Tensor:
            return head(flat.clone().view(1, 3, 3, 4))[0, 1]

        flat = maps[row].flatten()
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            hessian = torch.autograd.functional.hessian(score, flat)
            gradient = torch.autograd.functional.jacobian(score, flat)
        assert hessian.abs().max() > 1e-4
        for k in range(3):
            weight = 0.0
            for i in range(12 * k, 12 * (k + 1)):
                product = sum(hessian[i, j].item() * flat[j].item() for j in range(36))
                weight += (gradient[i].item() - product / 2) / 12
            assert actual[row, k].item() == pytest.approx(weight, rel=1e-10, abs=1e-13)


def test_shapley_cam_equals_shapley_values_of_a_quadratic_game(readout):
    """Maps of one pixel: channel k's contribution against the mean over all orders of what joining adds."""
    head, maps = Quadratic(3), torch.tensor([[0.7, -1.2, 2.0]], dtype=torch.float64)[..., None, None]
    trace = readout(head, maps, target=1)
    contributions = (shapley_cam(trace) * trace.activations).flatten()

    def value(players: tuple[int, ...]) -> float:
        present = torch.zeros_like(maps)
        present[:, list(players)] = maps[:, list(players)]
        return head(present)[0, 1].item()

    expected = [0.0, 0.0, 0.0]
    orders = list(itertools.permutations(range(3)))
    for order in orders:
        for place, player in enumerate(order):
            expected[player] += (value(order[: place + 1]) - value(order[:place])) / len(orders)
    assert contributions.tolist() == pytest.approx(expected, rel=1e-12)
    assert contributions.sum().item() == pytest.approx(trace.scores.item(), rel=1e-12)


def test_shapley_cam_equals_grad_cam_on_a_piecewise_linear_head(case):
    trace = case.trace()
    assert torch.equal(shapley_cam(trace), methods.get("grad_cam")(trace))


class Clamped(nn.Module):
    """Hardsigmoid by another function, which torch differentiates twice."""

    def forward(self, x: Tensor) -> Tensor:
        return (x / 6 + 0.5).clamp(0, 1)


def test_shapley_cam_with_hardsigmoid(maps, readout):
    """As MobileNetV3's hardsigmoid."""

    def head(gate: nn.Module) -> nn.Module:
        return built(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 6), gate, nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 2))
        )

    actual, expected = (readout(head(gate), 3 * maps) for gate in (nn.Hardsigmoid(), Clamped()))
    # 1e-7: torch's hardsigmoid multiplies by a sixth in float32, whatever its input.
    torch.testing.assert_close(shapley_cam(actual), shapley_cam(expected), rtol=1e-7, atol=1e-15)
    assert not torch.allclose(shapley_cam(actual), actual.gradients.mean(XY, keepdim=True), rtol=1e-3)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_shapley_cam_with_attention_and_without_autograd(mode, maps, readout):
    trace = readout(built(Attention), maps)
    expected = shapley_cam(trace)
    backends = torch.backends.cuda.flash_sdp_enabled()
    with mode():
        assert torch.equal(shapley_cam(trace), expected)
    assert torch.backends.cuda.flash_sdp_enabled() == backends


# Finer-CAM


@pytest.mark.parametrize(("gamma", "references"), [(0.6, 3), (1.0, 1), (1.0, 2), (0.0, 2)])
def test_finer_cam_in_loops(gamma, references, maps, readout):
    """Seven classes, so that there is a choice; target 2 has neighbours above and below."""
    head = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Linear(9, 7)))
    actual = finer_cam(readout(head, maps, target=2), gamma, references)
    sides = set()
    for row in range(len(maps)):
        leaf = maps[row : row + 1].clone().requires_grad_()
        logits = head(leaf)[0]
        others = sorted((abs(logits[c].item() - logits[2].item()), c) for c in range(7) if c != 2)
        chosen = [c for _, c in others[:references]]
        sides |= {logits[c].item() > logits[2].item() for c in chosen}
        gradients = [torch.autograd.grad(logits[c], leaf, retain_graph=True)[0][0] for c in (2, *chosen)]
        for k in range(3):
            comparisons = []
            for reference in gradients[1:]:
                terms = [
                    gradients[0][k, y, x].item() - gamma * reference[k, y, x].item() for y in range(3) for x in range(4)
                ]
                comparisons.append(sum(terms) / 12)
            assert actual[row, k].item() == pytest.approx(sum(comparisons) / len(chosen), rel=1e-11, abs=1e-15)
    assert references == 1 or sides == {True, False}


def test_finer_cam_with_fewer_classes_than_references(case):
    trace = case.trace()
    assert torch.equal(finer_cam(trace, references=3), finer_cam(trace, references=2))  # three classes in all
    assert nearest_classes(trace, 9).shape == (case.rows, 2)
    assert not (nearest_classes(trace, 9) == trace.targets[:, None]).any()


def test_finer_cam_ties_go_to_the_first(readout):
    head = nn.Sequential(nn.Flatten(), nn.Linear(3, 5))
    with torch.no_grad():
        head[1].weight.zero_()
        head[1].bias.copy_(torch.tensor([1.0, 3.0, 2.0, 1.0, 3.0]))
    trace = readout(head, torch.ones(2, 3, 1, 1), target=2)
    assert nearest_classes(trace, 3).tolist() == [[0, 1, 3]] * 2


def test_finer_cam_with_gamma_zero_equals_grad_cam(case):
    assert torch.equal(finer_cam(case.trace(), gamma=0), methods.get("grad_cam")(case.trace()))


def test_finer_cam_error_messages(readout):
    single_class = readout(nn.Sequential(nn.Flatten(), nn.Linear(3, 1)), torch.ones(1, 3, 1, 1))
    with pytest.raises(BenchError, match="needs a second class"):
        finer_cam(single_class)
    with pytest.raises(BenchError, match="Invalid references=0"):
        finer_cam(CASES["dense"].trace(), references=0)


# Smooth Grad-CAM++


def test_smooth_grad_cam_pp_in_loops(case):
    samples, sigma, seed = 3, 0.2, 7
    actual = smooth_grad_cam_pp(case.trace(), samples, sigma, seed)
    maps = maps_of(case)
    for row, image in enumerate(case.images()):
        spread = image.max().item() - image.min().item()
        draw = generator_of(image, seed)
        noise = [torch.randn(image.shape, generator=draw, dtype=torch.float64) for _ in range(samples)]
        copies = [image + sigma * spread * each for each in noise]
        gradients = [gradient_of(case, maps_of(case, copy[None]), 0, row % 3) for copy in copies]
        assert not torch.equal(gradients[0], gradients[1]) or case.head == "pooled"
        for k in range(case.channels):
            weight = 0.0
            for y, x in itertools.product(range(maps.shape[2]), range(maps.shape[3])):
                g = [gradient[k, y, x].item() for gradient in gradients]
                D1, D2, D3 = (sum(value**power for value in g) / samples for power in (1, 2, 3))
                denominator = 2 * D2 + D3 * maps[row, k].sum().item()
                alpha = D2 / denominator if denominator != 0 else 0.0
                weight += alpha * max(D1, 0.0)
            assert actual[row, k].item() == pytest.approx(weight, rel=1e-10, abs=1e-14)


def test_smooth_grad_cam_pp_without_noise_equals_grad_cam_pp(case):
    trace = case.trace()
    assert_equal(smooth_grad_cam_pp(trace, samples=2, sigma=0.0), methods.get("grad_cam_pp")(trace))


def test_smooth_grad_cam_pp_with_tiny_gradients(readout):
    """Of 1e-15, whose third power float32 doesn't hold: alpha = 1 / 2, as the sum of F is nothing beside 1 / g."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).float()
    with torch.no_grad():
        head[1].weight.fill_(1e-15)
    maps = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    trace = readout(head, maps)
    single = ab.trace(trace.cut_model.model.float(), "layer", maps, torch.zeros(2, dtype=torch.long))
    assert single.dtype == torch.float32
    assert smooth_grad_cam_pp(single, samples=2).flatten().tolist() == pytest.approx([2e-15] * 6, rel=1e-5)


def test_smooth_grad_cam_pp_depends_on_the_seed():
    trace = CASES["dense"].trace()
    first, again, other = (smooth_grad_cam_pp(trace, samples=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(BenchError, match="Invalid samples=0"):
        smooth_grad_cam_pp(trace, samples=0)


def test_contributions_sum_to_the_score_on_a_linear_head(maps, readout):
    """S = w F: ShapleyCAM with constant weights in a channel, as behind pooling, conserves it; Finer-CAM the margin."""
    head = built(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4, bias=False)))
    trace: Trace = readout(head, maps, target=3)
    shapley = (shapley_cam(trace) * trace.activations).sum((1, 2, 3))
    torch.testing.assert_close(shapley, trace.scores, rtol=1e-12, atol=0)
    margin = trace.scores - 0.6 * trace.logits[:, :3].mean(1)
    finer = (finer_cam(trace) * trace.activations).sum((1, 2, 3))
    torch.testing.assert_close(finer, margin, rtol=1e-12, atol=0)
    assert (trace.activations.sum(XY) != 0).all()
