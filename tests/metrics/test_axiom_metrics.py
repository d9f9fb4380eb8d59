"""The axiom errors against loops over numbers, and the truth metrics by hand.

Maps and the truth are chosen by the tests.
"""

from itertools import combinations
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from torch import Tensor

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.cutting.ablation.drops import Drops
from axiom_bench.explanation.explanation import Explanation, heatmap
from axiom_bench.metrics.shared.true_maps import resize_to
from tests.metrics.build import close, of_map, status, tensor, values_of

EXACT = 1e-12  # float64, a few additions
numbers = st.floats(-100, 100, allow_subnormal=False).map(lambda x: round(x, 3))


@st.composite
def axiom_numbers(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Draw S (1,), d (1, K) and m (1, K) with S != 0 and sum |d| != 0.

    Some m are 0, and some are negative.
    """
    channels = draw(st.integers(1, 6))
    row = st.lists(numbers, min_size=channels, max_size=channels)
    d = draw(row.filter(any))
    S = draw(numbers.filter(bool))
    m = draw(row)
    return tensor(S), tensor(d), tensor(m)


def value(name: str, explanation: object) -> float:
    return float(metrics.get(name)(explanation))


def axiom_errors(S: float, d: list[float], m: list[float]) -> tuple[float, float]:
    """Return the sensitivity and the conservation error, computed one channel at a time."""
    difference = sum(abs(d_k - m_k) for d_k, m_k in zip(d, m, strict=True))
    return difference / sum(map(abs, d)), abs(S - sum(m)) / abs(S)


def expected_errors(S: float, d: list[float], m: list[float]) -> dict[str, float]:
    sensitivity, conservation = axiom_errors(S, d, m)
    size = sum(map(abs, d))
    floor = abs(S - sum(d))
    above_floor = sensitivity * size + conservation * abs(S) - floor
    return {
        "sensitivity_error": sensitivity,
        "sensitivity_error_raw": sensitivity,
        "conservation_error": conservation,
        "conservation_error_raw": conservation,
        "axiom_floor_distance": above_floor / (size + abs(S)),
    }


@given(axiom_numbers())
@settings(max_examples=60)
def test_errors_equal_their_formulas(axiom_explanation, drawn):
    S, d, m = drawn
    for name, expected in expected_errors(float(S), d[0].tolist(), m[0].tolist()).items():
        actual = value(name, axiom_explanation(S, d, m))
        assert actual == pytest.approx(expected, rel=1e-9, abs=1e-9), name


def test_the_ends_of_the_floor_by_hand(axiom_explanation):
    """Check both ends for S - sum d = 4 and sum |d| = 8.

    One end of the floor is m = d, the other is an m that sums to S.
    """
    S = tensor(10)
    d = tensor([3, 4, -1])
    with_drops = axiom_explanation(S, d, d)
    with_score = axiom_explanation(S, d, tensor([4, 7, -1]))

    floor = {name: float(end) for name, end in metrics.get("axiom_floor")(with_drops).items()}

    expected = {"axiom_floor_sensitivity": 0.5, "axiom_floor_conservation": 0.4}
    assert floor == pytest.approx(expected, abs=EXACT)
    assert value("sensitivity_error", with_drops) == pytest.approx(0)
    assert value("conservation_error", with_drops) == pytest.approx(0.4)
    assert value("sensitivity_error", with_score) == pytest.approx(0.5)
    assert value("conservation_error", with_score) == pytest.approx(0)


@given(axiom_numbers())
@settings(max_examples=60)
def test_scaled_sensitivity_is_the_least_over_every_factor(axiom_explanation, drawn):
    S, d, m = drawn
    actual = value("sensitivity_error_scaled", axiom_explanation(S, d, m))
    # A convex, piecewise linear function is least at a corner, or at 0.
    corners = (d / m)[m != 0].clamp(min=0)
    factors = torch.cat([torch.zeros(1), corners, torch.linspace(0, 10, 101)]).double()
    differences = (d - factors[:, None] * m).abs().sum(1)
    least = (differences / d.abs().sum()).min()
    assert actual == pytest.approx(float(least), rel=1e-9)
    assert -EXACT <= actual <= 1 + EXACT


def test_guarded_channels_counts_vanishing_sums_but_no_dead_channel(axiom_explanation):
    F = torch.zeros(1, 4, 1, 2).double()
    # Channel 0 stays dead.
    F[0, 1] = torch.tensor([1.0, -1.0])
    F[0, 2] = torch.tensor([1.0, -1.0 + 1e-13])
    F[0, 3] = torch.tensor([1.0, -0.9])
    explanation = axiom_explanation(torch.ones(1), torch.ones(1, 4), torch.ones(1, 4))
    explanation.trace.activations = F
    assert value("guarded_channels", explanation) == 2


def test_the_error_of_estimated_drops_by_hand(axiom_explanation):
    explanation = axiom_explanation(torch.ones(1), torch.ones(1, 4), torch.ones(1, 4))
    is_exact = torch.tensor([[True, False, True, True]])
    explanation.trace.drops = Drops(tensor([2.0, -1.0, 0.0, 5.0]), is_exact, torch.tensor([0.5]))
    values = metrics.get("drops_error")(explanation)
    assert values["drops_error"].tolist() == [0.0625]
    assert values["estimated_drops"].tolist() == [1.0]
    assert len(values) == 2


def with_activations(explanation: Explanation, activations: Tensor) -> Explanation:
    explanation.trace.activations = activations  # type: ignore[union-attr, misc]
    return explanation


def test_the_split_by_hand(axiom_explanation):
    """Check the two shares: the second channel is guarded, and the last one is dead."""
    F = tensor([[1.0, 1.0], [1.0, -1.0], [2.0, -1.0], [0.0, 0.0]])[:, :, None]
    explanation = axiom_explanation(torch.ones(1), tensor([2.0, 1, 1, 0]), tensor([3.0, 0, 1.5, 0]))
    actual = metrics.get("sensitivity_error_split")(with_activations(explanation, F))
    assert [float(part) for part in actual.values()] == [1 / 4, 1.5 / 4]
    assert list(actual) == ["sensitivity_error_guarded", "sensitivity_error_open"]


def mapped(S: float, raw_map: list[list[float]], size: tuple[int, int] = (4, 4)) -> Explanation:
    """Return one image's explanation, whose only channel has the raw map as contributions."""
    R = torch.tensor([raw_map], dtype=torch.float64)
    trace = SimpleNamespace(scores=torch.tensor([S], dtype=torch.float64))
    return Explanation(trace=trace, contributions=R[:, None], raw_map=R, heatmap=heatmap(R, size))


@pytest.mark.parametrize(
    ("S", "raw_map", "conservation", "relu", "heatmap", "negative"),
    [
        # The sum is 4, after ReLU 5, and the heatmap's is 1 + 2/3.
        (4.0, [[3.0, -1.0], [0.0, 2.0]], 0, 1 / 4, (4 - 5 / 3) / 4, 1 / 6),
        # Nothing is negative, so ReLU changes nothing.
        (3.0, [[1.0, 0.5], [0.0, 2.0]], 0.5 / 3, 0.5 / 3, (3 - 1.75) / 3, 0),
    ],
)
def test_completeness_by_hand(S, raw_map, conservation, relu, heatmap, negative):
    explanation = mapped(S, raw_map, size=(2, 2))
    expected = {"completeness_error_relu": relu, "completeness_error_heatmap": heatmap}
    answer = metrics.get("completeness")(explanation)
    actual = {name: float(error) for name, error in answer.items()}
    assert actual == pytest.approx(expected, abs=1e-15)
    assert value("conservation_error", explanation) == pytest.approx(conservation, abs=1e-15)
    assert value("negative_share", explanation) == pytest.approx(negative, abs=1e-15)


def explained(logits: Tensor, target: int, output: str) -> Tensor:
    """Compute the output from one image's logits (1, C) by its definition."""
    others = [c for c in range(logits.shape[1]) if c != target]
    if output == "logits":
        return logits[0, target]
    if output == "margin":
        return logits[0, target] - logits[0, others].max()
    return 1 / (1 + (logits[0, others] - logits[0, target]).exp().sum())


@pytest.mark.parametrize("output", ["logits", "probability", "margin"])
def test_both_axioms_equal_loops(trace, output):
    """Check the errors against runs of the head for every channel, with the output's gradient.

    Zeta and epsilon are the errors of XGrad-CAM and HiResCAM.
    """
    network = trace.cut_model.model
    images = trace.images[:3]
    targets = [0, 3, 1]
    trace = ab.trace(network, "1", images, torch.tensor(targets), output=output)
    for row, target in enumerate(targets):
        maps = network[:2](images[row : row + 1]).detach().requires_grad_()
        score = explained(network[2:](maps), target, output)
        (gradient,) = torch.autograd.grad(score, maps)
        S = float(score.detach())
        d = []
        for k in range(6):
            ablated = maps.detach().clone()
            ablated[:, k] = 0
            d.append(S - float(explained(network[2:](ablated).detach(), target, output)))
        F = maps.detach()[0]
        g = gradient[0]
        products = (g * F).sum((1, 2)).tolist()
        expected = {
            "xgrad_cam": products,
            "hires_cam": products,
            "ablation_cam_axiomatic": d,
            "grad_cam": (g.mean((1, 2)) * F.sum((1, 2))).tolist(),
        }
        for method, m in expected.items():
            explanation = Explanation.of(trace, methods.get(method)(trace))
            errors = axiom_errors(S, d, m)
            if method != "ablation_cam_axiomatic":
                assert min(errors) > 1e-4  # equal errors of 0 would show nothing
            names_of_both_errors = [("sensitivity_error", "conservation_error")]
            if m is products:
                names_of_both_errors.append(("zeta", "epsilon"))
            for names in names_of_both_errors:
                actual = [float(metrics.get(name)(explanation)[row]) for name in names]
                assert actual == pytest.approx(errors, rel=1e-9, abs=1e-9), (method, names)


TRUTH_METRICS = (
    "truth_channel_error",
    "truth_correlation",
    "truth_mass_outside",
    "truth_rank_agreement",
)


def trace_with_truth(truth: Tensor | None, shape: torch.Size) -> ab.Trace:
    """Trace a network that tells this truth (B, K, H, W), or none; images are twice as large."""
    rows, channels, height, width = shape
    last = torch.nn.Linear(channels * height * width, 2)
    model = torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten(), last).double()
    if truth is not None:
        model.true_contributions = lambda activations, targets: truth
    images = torch.ones(rows, channels, 2 * height, 2 * width, dtype=torch.float64)
    return ab.trace(model, "0", images, torch.zeros(rows, dtype=torch.long))


def explanation_with_truth(truth: Tensor, contributions: Tensor) -> Explanation:
    return Explanation.of(trace_with_truth(truth, truth.shape), contributions)


def seeded_normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def truth_value(name: str, explanation: Explanation) -> Tensor:
    """Return a metric's value of this name."""
    metric = next(metric for metric in TRUTH_METRICS if name.startswith(metric))
    answer = metrics.get(metric)(explanation)
    return answer[name] if isinstance(answer, dict) else answer


@pytest.fixture
def truth() -> Tensor:
    """The truth of two images, three channels and 3 x 4 positions.

    The contributions have both signs, and are zero in the right half.
    """
    contributions = seeded_normal(2, 3, 3, 4, seed=2)
    contributions[:, 2] = 0
    contributions[..., 2:] = 0
    return contributions


AGREEMENTS = ("truth_rank_agreement", "truth_rank_agreement_signed")
PERFECT = {
    "truth_correlation": 1,
    "truth_correlation_signed": 1,
    "truth_rank_agreement": 1,
    "truth_rank_agreement_signed": 1,
    "truth_mass_outside": 0,
    "truth_channel_error": 0,
}
WORST = {
    "truth_correlation_signed": -1,
    "truth_rank_agreement_signed": 0,
    "truth_channel_error": 2,
}


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (1, PERFECT),
        (3, PERFECT | {"truth_channel_error": 2}),  # a factor changes only the channel error
        (-1, WORST),
    ],
)
def test_multiples_of_the_truth(truth, factor, expected):
    explanation = explanation_with_truth(truth, factor * truth)
    for name, number in expected.items():
        close(truth_value(name, explanation), number)


def test_correlations_are_of_heatmaps_and_of_signed_raw_maps(truth):
    given = seeded_normal(2, 3, 3, 4, seed=3)
    explanation = explanation_with_truth(truth, given)
    true_heatmaps = ab.heatmap(truth.sum(1), (6, 8))
    maps = {
        "truth_correlation": (true_heatmaps, explanation.heatmap),
        "truth_correlation_signed": (truth.sum(1), given.sum(1)),
    }
    for name, (true_maps, given_maps) in maps.items():
        for row in range(2):
            true_pixels = true_maps[row].flatten().numpy()
            given_pixels = given_maps[row].flatten().numpy()
            expected = pearsonr(true_pixels, given_pixels)[0]
            assert truth_value(name, explanation)[row].item() == pytest.approx(expected, rel=1e-12)


def test_rank_agreement_is_the_share_of_pairs_in_the_right_order(truth):
    given = seeded_normal(2, 3, 3, 4, seed=3).round()
    explanation = explanation_with_truth(truth, given)
    actual = truth_value("truth_rank_agreement_signed", explanation)
    for row in range(2):
        true_values = truth[row].sum(0).flatten().tolist()
        given_values = given[row].sum(0).flatten().tolist()
        points = list(zip(true_values, given_values, strict=True))
        num_pairs = 0
        num_right = 0.0
        for (true_a, given_a), (true_b, given_b) in combinations(points, 2):
            if true_a == true_b:
                continue
            num_pairs += 1
            if given_a == given_b:
                num_right += 0.5
            else:
                num_right += (true_a > true_b) == (given_a > given_b)
        assert actual[row].item() == pytest.approx(num_right / num_pairs, rel=1e-12)


def test_a_constant_map_agrees_with_half_of_the_pairs_and_has_no_correlation(truth):
    explanation = explanation_with_truth(truth, torch.ones_like(truth))
    for name in AGREEMENTS:
        assert truth_value(name, explanation).tolist() == [0.5, 0.5]
    assert status("truth_correlation", explanation) == {"constant_map"}


def test_mass_outside_is_what_lies_where_the_resized_truth_is_zero():
    """Check the mass outside of a truth that is the left column of four.

    Bilinear resizing carries the truth one pixel into the second column.
    """
    truth = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    truth[..., 0] = 5

    def mass_outside(contributions):
        explanation = explanation_with_truth(truth, contributions)
        return truth_value("truth_mass_outside", explanation).tolist()

    given = torch.ones_like(truth)
    assert mass_outside(given) == [pytest.approx(5 / 8)]

    given[..., 1:] = -1  # evidence against isn't mass
    assert mass_outside(given) == [0]

    given[..., 1:] = 0
    given[..., 3] = 1
    pixels = explanation_with_truth(truth, given).heatmap[0, 0]
    expected = (pixels[3:].sum() / pixels.sum()).item()
    assert mass_outside(given) == [pytest.approx(expected)]


def test_channel_error_is_that_of_the_channel_totals():
    def spread(*totals):
        return tensor(*totals).view(1, 4, 1, 1).expand(1, 4, 2, 2) / 4

    truth = spread(4.0, -2.0, 0.0, 2.0)
    given = spread(3.0, 2.0, 1.0, 2.0)
    error = truth_value("truth_channel_error", explanation_with_truth(truth, given))
    assert error.item() == pytest.approx((1 + 4 + 1 + 0) / 8)


def test_maps_of_any_size_are_measured(truth):
    """Check that a larger map is averaged in each position.

    Both maps have the truth's order.
    """
    trace = trace_with_truth(truth, truth.shape)
    finer = of_map(trace, truth.sum(1).repeat_interleave(3, 1).repeat_interleave(3, 2))
    coarser = of_map(trace, torch.tensor([[1.0, 0.0]]))

    for name in ("truth_correlation_signed", "truth_rank_agreement_signed"):
        close(truth_value(name, finer), 1, rtol=1e-7)
    assert status("truth_channel_error", finer) == {"no_contributions"}
    assert truth_value("truth_mass_outside", coarser).isfinite().all()


def test_at_size_averages_and_resizes():
    maps = torch.arange(8.0).view(1, 2, 4)
    assert resize_to(maps, (2, 4)).tolist() == maps.tolist()
    assert resize_to(maps, (1, 2)).tolist() == [[[2.5, 4.5]]]
    assert resize_to(maps, (4, 2)).shape == (1, 4, 2)
    assert resize_to(maps.half(), (2, 2)).dtype == torch.float64


@pytest.mark.parametrize("name", TRUTH_METRICS)
def test_statuses_without_truth_and_without_evidence(name, truth):
    without_truth = Explanation.of(trace_with_truth(None, truth.shape), truth)
    zero_truth = explanation_with_truth(torch.zeros_like(truth), truth)

    assert status(name, without_truth) == {"no_truth"}
    assert all(values.isnan().all() for values in values_of(metrics.get(name)(without_truth)))
    assert status(name, zero_truth) == {"zero_truth"}
    with pytest.raises(ab.BenchError, match="needs an explanation with trace"):
        metrics.get(name)(Explanation(heatmap=torch.ones(1, 4, 4), raw_map=torch.ones(1, 4, 4)))
