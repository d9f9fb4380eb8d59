"""The axiom errors against loops over numbers, brute-force minimisation, and the theorems of the floor."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from axiom_bench import metrics

EXACT = 1e-12  # float64, a few additions
numbers = st.floats(-100, 100, allow_subnormal=False).map(lambda x: round(x, 3))


@st.composite
def axiom_numbers(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """S (1,), d (1, K), m (1, K) with S != 0 and sum |d| != 0; some m are 0 and some are negative."""
    channels = draw(st.integers(1, 6))
    row = st.lists(numbers, min_size=channels, max_size=channels)
    d = draw(row.filter(lambda drops: any(drops)))
    S, m = draw(numbers.filter(bool)), draw(row)
    return tuple(torch.tensor(x, dtype=torch.float64) for x in ([S], [d], [m]))  # type: ignore[return-value]


def value(name: str, explanation: object) -> float:
    return float(metrics.get(name)(explanation))


def loops(S: Tensor, d: Tensor, m: Tensor) -> dict[str, float]:
    """DESIGN's formulas, a channel at a time."""
    score, drops, totals = float(S), d[0].tolist(), m[0].tolist()
    off = size = total = drop = 0.0
    for d_k, m_k in zip(drops, totals, strict=True):
        off, size, total, drop = off + abs(d_k - m_k), size + abs(d_k), total + m_k, drop + d_k
    floor = abs(score - drop)
    return {
        "sensitivity_error": off / size,
        "sensitivity_error_raw": off / size,
        "conservation_error": abs(score - total) / abs(score),
        "conservation_error_raw": abs(score - total) / abs(score),
        "axiom_floor_distance": (off + abs(score - total) - floor) / (size + abs(score)),
    }


@given(axiom_numbers())
@settings(max_examples=60)
def test_errors_equal_their_formulas(axiom_explanation, drawn):
    explanation = axiom_explanation(*drawn)
    for name, expected in loops(*drawn).items():
        assert value(name, explanation) == pytest.approx(expected, rel=1e-9, abs=1e-9), name


def test_errors_worked_by_hand(axiom_explanation):
    explanation = axiom_explanation(
        torch.tensor([-4.0]).double(), torch.tensor([[1.0, -3.0]]).double(), torch.tensor([[2.0, -2.0]]).double()
    )
    assert value("sensitivity_error", explanation) == pytest.approx(2 / 4, abs=EXACT)  # |1-2| + |-3+2| over 1 + 3
    assert value("conservation_error", explanation) == pytest.approx(4 / 4, abs=EXACT)  # |-4 - 0| over 4
    assert value("axiom_floor_distance", explanation) == pytest.approx((2 + 4 - 2) / (4 + 4), abs=EXACT)
    assert value("sensitivity_error_scaled", explanation) == pytest.approx(2 / 4, abs=EXACT)  # flat from 0.5 to 1.5


@given(axiom_numbers())
@settings(max_examples=60)
def test_scaled_sensitivity_is_the_least_over_every_factor(axiom_explanation, drawn):
    S, d, m = drawn
    actual = value("sensitivity_error_scaled", axiom_explanation(S, d, m))
    corners = (d / m)[m != 0].clamp(min=0)  # a convex, piecewise linear function is least at a corner, or at 0
    factors = torch.cat([torch.zeros(1), corners, torch.linspace(0, 10, 101)]).double()
    tried = ((d - factors[:, None] * m).abs().sum(1) / d.abs().sum()).min()
    assert actual == pytest.approx(float(tried), rel=1e-9)
    assert -EXACT <= actual <= 1 + EXACT


@given(axiom_numbers(), st.floats(1e-3, 1e3))
@settings(max_examples=40)
def test_scaled_sensitivity_ignores_a_positive_factor_and_bounds_the_plain_one(axiom_explanation, drawn, factor):
    S, d, m = drawn
    scaled = value("sensitivity_error_scaled", axiom_explanation(S, d, m))
    assert value("sensitivity_error_scaled", axiom_explanation(S, d, factor * m)) == pytest.approx(scaled, rel=1e-9)
    assert scaled <= value("sensitivity_error", axiom_explanation(S, d, m)) + EXACT
    assert value("sensitivity_error_scaled", axiom_explanation(S, d, factor * d)) == pytest.approx(0, abs=1e-9)


def test_scaled_sensitivity_of_the_opposite_sign_is_one(axiom_explanation):
    S, d = torch.ones(1).double(), torch.tensor([[1.0, -2.0, 3.0]]).double()
    assert value("sensitivity_error_scaled", axiom_explanation(S, d, -d)) == 1  # the best factor is 0
    assert value("sensitivity_error_scaled", axiom_explanation(S, d, 0 * d)) == 1


@given(axiom_numbers(), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=6, max_size=6))
@settings(max_examples=60)
def test_floor_distance_is_zero_exactly_on_the_segment(axiom_explanation, drawn, share, split):
    S, d, m = drawn
    assert value("axiom_floor_distance", axiom_explanation(S, d, m)) >= 0
    parts = torch.tensor(split[: d.shape[1]]).double() + 0.1
    on_floor = d + share * (S - d.sum()) * parts / parts.sum()  # hand out a share of what the drops leave of S
    explanation = axiom_explanation(S, d, on_floor)
    assert value("axiom_floor_distance", explanation) == pytest.approx(0, abs=1e-10)
    rest = float((S - d.sum()).abs())
    sensitivity, conservation = (value(name, explanation) for name in ("sensitivity_error", "conservation_error"))
    assert sensitivity == pytest.approx(share * rest / float(d.abs().sum()), rel=1e-9, abs=1e-9)
    assert conservation == pytest.approx((1 - share) * rest / float(S.abs()), rel=1e-9, abs=1e-9)
    off_floor = axiom_explanation(S, d, on_floor + torch.sign(on_floor - d + 0.5) * (1 + rest))
    assert value("axiom_floor_distance", off_floor) > 1e-3


def test_the_axiom_floor_ends_where_methods_on_it_end(axiom_explanation):
    """By hand: S = 10, d = (3, 4, -1): S - sum d = 4, sum |d| = 8. m = d is one end, m that sum to S the other."""
    S, d = torch.tensor([10.0]).double(), torch.tensor([[3.0, 4.0, -1.0]]).double()
    exact, conserving = (
        axiom_explanation(S, d, d),
        axiom_explanation(S, d, d + torch.tensor([[1.0, 3.0, 0.0]]).double()),
    )
    ends = metrics.get("axiom_floor")(exact)
    assert {name: float(end) for name, end in ends.items()} == {
        "axiom_floor_sensitivity": 0.5,
        "axiom_floor_conservation": 0.4,
    }
    assert value("conservation_error", exact) == pytest.approx(0.4)
    assert value("sensitivity_error", exact) == value("conservation_error", conserving) == 0
    assert value("sensitivity_error", conserving) == pytest.approx(0.5)


def test_xgrad_and_hires_cam_have_the_errors_zeta_and_epsilon(trace, explanation):
    """Their channel totals are sum g_k F_k, wherever sum F_k isn't 0; the explanation fixture is HiResCAM's."""
    assert (trace.activations.sum((2, 3)) > 0).all()
    totals = (trace.gradients * trace.activations).sum((2, 3), keepdim=True)
    xgrad_cam = explanation.of(trace, totals / trace.activations.sum((2, 3), keepdim=True))
    for error, residual in (("sensitivity_error", "zeta"), ("conservation_error", "epsilon")):
        expected = metrics.get(residual)(explanation)
        assert (expected > 1e-3).all()  # the head isn't linear, or this would show nothing
        for equal in (explanation, xgrad_cam):
            torch.testing.assert_close(metrics.get(error)(equal), expected, rtol=1e-12, atol=1e-12)


def test_zeta_and_epsilon_equal_loops_over_pixels(trace, explanation):
    for row in range(len(trace)):
        S, off, size, total = float(trace.scores[row]), 0.0, 0.0, 0.0
        for k in range(trace.activations.shape[1]):
            m_k = sum(
                float(trace.gradients[row, k, y, x]) * float(trace.activations[row, k, y, x])
                for y in range(6) for x in range(6)
            )  # fmt: skip
            silenced = trace.activations[row : row + 1].clone()
            silenced[:, k] = 0
            d_k = S - float(trace[row : row + 1].head(silenced)[0, trace.targets[row]])
            off, size, total = off + abs(d_k - m_k), size + abs(d_k), total + m_k
        assert float(metrics.get("zeta")(explanation)[row]) == pytest.approx(off / size, rel=1e-9)
        assert float(metrics.get("epsilon")(explanation)[row]) == pytest.approx(abs(S - total) / abs(S), rel=1e-9)


def test_guarded_channels_counts_vanishing_sums_but_no_dead_channel(axiom_explanation):
    F = torch.zeros(1, 4, 1, 2).double()
    F[0, 1:] = torch.tensor([[[1.0, -1.0]], [[1.0, -1.0 + 1e-13]], [[1.0, -0.9]]])  # the first stays dead
    explanation = axiom_explanation(torch.ones(1), torch.ones(1, 4), torch.ones(1, 4))
    explanation.trace.activations = F
    assert value("guarded_channels", explanation) == 2
