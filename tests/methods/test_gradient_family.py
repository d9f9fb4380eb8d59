"""Methods of activations and gradients: their formulas in loops, and closed forms."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

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
from tests.methods.plain import generator_of, gradient_of, linear, maps_of, normal, seeded, uniform

ROUNDING = 1e-11  # of the largest value: float64, a few products of sums of some hundred terms


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=ROUNDING * expected.abs().max().item())


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request) -> Case:
    return request.param


def test_layer_cam_and_elementwise_in_loops(case):
    maps, trace = maps_of(case), case.trace()
    layer, elementwise = (methods.get(name)(trace) for name in ("layer_cam", "grad_cam_elementwise"))
    gradients = torch.stack([gradient_of(case, maps, row, row % 3) for row in range(case.rows)])
    assert set((gradients > 0).flatten().tolist()) == {True, False}
    torch.testing.assert_close(layer, gradients.clamp(min=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(elementwise * maps, (gradients * maps).clamp(min=0), rtol=1e-12, atol=1e-18)


def test_elementwise_equals_layer_cam_after_a_relu():
    for name in ("pooled", "dense"):
        trace = CASES[name].trace()
        layer, elementwise = (methods.get(name)(trace) for name in ("layer_cam", "grad_cam_elementwise"))
        assert torch.equal(elementwise * trace.activations, layer * trace.activations)


def test_layer_cam_and_elementwise_differ_on_signed_activations(readout):
    """One pixel, g = (2, 2, -1) at F = (3, -5, -7): relu(g) F = (6, -10, 0), and relu(g F) = (6, 0, 7)."""
    trace = readout(linear([2.0, 2.0, -1.0]), torch.tensor([3.0, -5.0, -7.0]).view(1, 3, 1, 1))
    for name, expected in (("layer_cam", [6, -10, 0]), ("grad_cam_elementwise", [6, 0, 7])):
        assert (methods.get(name)(trace) * trace.activations).flatten().tolist() == expected


@pytest.mark.parametrize("deviations", [2.0, 1.0])
def test_fem_in_loops(case, deviations):
    actual, expected = fem(case.trace(), deviations).raw, []
    for image in maps_of(case).numpy():
        channels = [(plane > plane.mean() + deviations * plane.std()) * plane.mean() for plane in image]
        expected.append(torch.from_numpy(sum(channels)))
    torch.testing.assert_close(actual, torch.stack(expected), rtol=0, atol=1e-14)
    assert actual.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, -3.3, 1e-3])
def test_fem_of_a_constant_channel_is_zero(value, dtype, readout):
    """Its mean is rounded, and no position stands out by that."""
    trace = readout(linear([1.0] * 105), torch.full((1, 3, 5, 7), value))
    assert not fem(replace(trace, activations=torch.full((1, 3, 5, 7), value, dtype=dtype))).raw.any()


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
        nn.MaxPool2d(2, 1), nn.Conv2d(3, 5, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(10, 6), nn.GELU(),
        nn.Linear(6, 4), nn.ReLU6(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2),
    ),
    "quadratic": lambda: Quadratic(36),
    "attention": Attention,
}  # fmt: skip


@pytest.fixture
def maps() -> Tensor:
    """Of both signs."""
    return normal(2, 3, 3, 4, seed=9)


@pytest.mark.parametrize("build", SMOOTH_HEADS.values(), ids=SMOOTH_HEADS)
def test_shapley_cam_equals_the_full_hessian(build, maps, readout):
    head = seeded(build, 10)
    actual = shapley_cam(readout(head, maps, target=1))
    for row, flat in enumerate(maps.flatten(1)):

        def score(flat: Tensor) -> Tensor:
            return head(flat.clone().view(1, 3, 3, 4))[0, 1]

        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            hessian = torch.autograd.functional.hessian(score, flat)
            gradient = torch.autograd.functional.jacobian(score, flat)
        assert hessian.abs().max() > 1e-4
        expected = (gradient - hessian @ flat / 2).view(3, 12).mean(1)
        torch.testing.assert_close(actual[row].flatten(), expected, rtol=1e-10, atol=1e-13)


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
        last = (nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 2))
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 6), gate, *last)

    gates = (nn.Hardsigmoid(), Clamped())
    actual, expected = (readout(seeded(partial(head, gate)), 3 * maps) for gate in gates)
    # 1e-7: torch's hardsigmoid multiplies by a sixth in float32, whatever its input.
    torch.testing.assert_close(shapley_cam(actual), shapley_cam(expected), rtol=1e-7, atol=1e-15)
    assert not torch.allclose(shapley_cam(actual), actual.gradients.mean(XY, keepdim=True), rtol=1e-3)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_shapley_cam_with_attention_and_without_autograd(mode, maps, readout):
    trace = readout(seeded(Attention), maps)
    expected = shapley_cam(trace)
    backends = torch.backends.cuda.flash_sdp_enabled()
    with mode():
        assert torch.equal(shapley_cam(trace), expected)
    assert torch.backends.cuda.flash_sdp_enabled() == backends


@pytest.mark.parametrize(("gamma", "references"), [(0.6, 3), (1.0, 1), (1.0, 2), (0.0, 2)])
def test_finer_cam_in_loops(gamma, references, maps, readout):
    """Seven classes, so that there is a choice; target 2 has neighbours above and below."""
    head = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Linear(9, 7)), 10)
    trace = readout(head, maps, target=2)
    actual, sides = finer_cam(trace, gamma, references), set()
    for row in range(len(maps)):
        leaf = maps[row : row + 1].clone().requires_grad_()
        logits = head(leaf)[0]
        others = sorted((abs(logits[c].item() - logits[2].item()), c) for c in range(7) if c != 2)
        chosen = [c for _, c in others[:references]]
        sides |= {logits[c].item() > logits[2].item() for c in chosen}
        own, *compared = (torch.autograd.grad(logits[c], leaf, retain_graph=True)[0][0] for c in (2, *chosen))
        expected = sum((own - gamma * reference).mean((1, 2)) for reference in compared) / len(chosen)
        torch.testing.assert_close(actual[row].flatten(), expected, rtol=1e-11, atol=1e-15)
    assert references == 1 or sides == {True, False}
    assert gamma > 0 or torch.equal(actual, methods.get("grad_cam")(trace))


def test_finer_cam_with_fewer_classes_than_references(case):
    trace = case.trace()
    assert torch.equal(finer_cam(trace, references=3), finer_cam(trace, references=2))  # three classes in all
    assert nearest_classes(trace, 9).shape == (case.rows, 2)
    assert not (nearest_classes(trace, 9) == trace.targets[:, None]).any()


def test_finer_cam_ties_go_to_the_first(readout):
    head = linear(*[[0.0] * 3] * 5)
    with torch.no_grad():
        head[1].bias.copy_(torch.tensor([1.0, 3.0, 2.0, 1.0, 3.0]))
    trace = readout(head, torch.ones(2, 3, 1, 1), target=2)
    assert nearest_classes(trace, 3).tolist() == [[0, 1, 3]] * 2


def test_finer_cam_of_a_single_class(readout):
    with pytest.raises(BenchError, match="needs a second class"):
        finer_cam(readout(linear([1.0] * 3), torch.ones(1, 3, 1, 1)))


def test_smooth_grad_cam_pp_in_loops(case):
    samples, sigma, seed = 3, 0.2, 7
    actual = smooth_grad_cam_pp(case.trace(), samples, sigma, seed)
    for row, (image, F) in enumerate(zip(case.images(), maps_of(case), strict=True)):
        draw, spread = generator_of(image, seed), image.max() - image.min()
        noise = [torch.randn(image.shape, generator=draw, dtype=torch.float64) for _ in range(samples)]
        copies = [image + sigma * spread * each for each in noise]
        g = torch.stack([gradient_of(case, maps_of(case, copy[None]), 0, row % 3) for copy in copies])
        assert not torch.equal(g[0], g[1]) or case.head == "pooled"
        D1, D2, D3 = (g.pow(power).mean(0) for power in (1, 2, 3))
        denominator = 2 * D2 + D3 * F.sum((1, 2))[:, None, None]
        alpha = torch.where(denominator != 0, D2 / denominator, 0)
        expected = (alpha * D1.clamp(min=0)).sum((1, 2))
        torch.testing.assert_close(actual[row].flatten(), expected, rtol=1e-10, atol=1e-14)


def test_smooth_grad_cam_pp_without_noise_equals_grad_cam_pp(case):
    trace = case.trace()
    assert_equal(smooth_grad_cam_pp(trace, samples=2, sigma=0.0), methods.get("grad_cam_pp")(trace))


def test_smooth_grad_cam_pp_with_tiny_gradients(readout):
    """Of 1e-15, whose third power float32 doesn't hold: alpha = 1 / 2, as the sum of F is nothing beside 1 / g."""
    maps = uniform(2, 3, 2, 2).float()
    model = readout(linear([1e-15] * 12, [1e-15] * 12), maps).cut_model.model.float()
    single = ab.trace(model, "layer", maps, torch.zeros(2, dtype=torch.long))
    assert single.dtype == torch.float32
    assert smooth_grad_cam_pp(single, samples=2).flatten().tolist() == pytest.approx([2e-15] * 6, rel=1e-5, abs=0)


def test_smooth_grad_cam_pp_depends_on_the_seed():
    first, again, other = (smooth_grad_cam_pp(CASES["dense"].trace(), samples=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_contributions_sum_to_the_score_on_a_linear_head(maps, readout):
    """S = w F: ShapleyCAM with constant weights in a channel, as behind pooling, conserves it; Finer-CAM the margin."""
    head = seeded(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4, bias=False)))
    trace: Trace = readout(head, maps, target=3)
    shapley = (shapley_cam(trace) * trace.activations).sum((1, 2, 3))
    torch.testing.assert_close(shapley, trace.scores, rtol=1e-12, atol=0)
    margin = trace.scores - 0.6 * trace.logits[:, :3].mean(1)
    finer = (finer_cam(trace) * trace.activations).sum((1, 2, 3))
    torch.testing.assert_close(finer, margin, rtol=1e-12, atol=0)
    assert (trace.activations.sum(XY) != 0).all()
