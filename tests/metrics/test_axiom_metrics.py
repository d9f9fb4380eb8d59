"""The axiom errors against loops over numbers, and the truth metrics by hand, on chosen maps and a
chosen truth.
"""

from itertools import combinations

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
from axiom_bench.metrics.shared.true_maps import at_size
from tests.metrics.build import close, of_map, status, tensor, values_of

EXACT = 1e-12  # float64, a few additions
numbers = st.floats(-100, 100, allow_subnormal=False).map(lambda x: round(x, 3))


@st.composite
def axiom_numbers(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """S (1,), d (1, K), m (1, K) with S != 0 and sum |d| != 0; some m are 0 and some are
    negative.
    """
    channels = draw(st.integers(1, 6))
    row = st.lists(numbers, min_size=channels, max_size=channels)
    d = draw(row.filter(any))
    S, m = draw(numbers.filter(bool)), draw(row)
    return tensor(S), tensor(d), tensor(m)


def value(name: str, explanation: object) -> float:
    return float(metrics.get(name)(explanation))


def axiom_errors(S: float, d: list[float], m: list[float]) -> tuple[float, float]:
    """Sensitivity and conservation error, a channel at a time."""
    off = sum(abs(d_k - m_k) for d_k, m_k in zip(d, m, strict=True))
    return off / sum(map(abs, d)), abs(S - sum(m)) / abs(S)


def loops(S: float, d: list[float], m: list[float]) -> dict[str, float]:
    sensitivity, conservation = axiom_errors(S, d, m)
    size = sum(map(abs, d))
    above = sensitivity * size + conservation * abs(S) - abs(S - sum(d))
    return {
        **dict.fromkeys(("sensitivity_error", "sensitivity_error_raw"), sensitivity),
        **dict.fromkeys(("conservation_error", "conservation_error_raw"), conservation),
        "axiom_floor_distance": above / (size + abs(S)),
    }


@given(axiom_numbers())
@settings(max_examples=60)
def test_errors_equal_their_formulas(axiom_explanation, drawn):
    S, d, m = drawn
    for name, expected in loops(float(S), d[0].tolist(), m[0].tolist()).items():
        assert value(name, axiom_explanation(*drawn)) == pytest.approx(
            expected, rel=1e-9, abs=1e-9
        ), name


def test_the_ends_of_the_floor_by_hand(axiom_explanation):
    """S - sum d = 4, sum |d| = 8: m = d is one end of the floor, an m that sums to S the other."""
    S, d = tensor(10), tensor([3, 4, -1])
    at_drops, at_score = (axiom_explanation(S, d, m) for m in (d, tensor([4, 7, -1])))
    floor = {name: float(end) for name, end in metrics.get("axiom_floor")(at_drops).items()}
    assert floor == pytest.approx(
        {"axiom_floor_sensitivity": 0.5, "axiom_floor_conservation": 0.4}, abs=EXACT
    )
    for explanation, ends in ((at_drops, (0, 0.4)), (at_score, (0.5, 0))):
        assert [
            value(name, explanation) for name in ("sensitivity_error", "conservation_error")
        ] == pytest.approx(ends)


@given(axiom_numbers())
@settings(max_examples=60)
def test_scaled_sensitivity_is_the_least_over_every_factor(axiom_explanation, drawn):
    S, d, m = drawn
    actual = value("sensitivity_error_scaled", axiom_explanation(S, d, m))
    # a convex, piecewise linear function is least at a corner, or at 0
    corners = (d / m)[m != 0].clamp(min=0)
    factors = torch.cat([torch.zeros(1), corners, torch.linspace(0, 10, 101)]).double()
    tried = ((d - factors[:, None] * m).abs().sum(1) / d.abs().sum()).min()
    assert actual == pytest.approx(float(tried), rel=1e-9)
    assert -EXACT <= actual <= 1 + EXACT


def test_guarded_channels_counts_vanishing_sums_but_no_dead_channel(axiom_explanation):
    F = torch.zeros(1, 4, 1, 2).double()
    # the first stays dead
    F[0, 1:] = torch.tensor([[[1.0, -1.0]], [[1.0, -1.0 + 1e-13]], [[1.0, -0.9]]])
    explanation = axiom_explanation(torch.ones(1), torch.ones(1, 4), torch.ones(1, 4))
    explanation.trace.activations = F
    assert value("guarded_channels", explanation) == 2


def test_the_error_of_estimated_drops_by_hand(axiom_explanation):
    explanation = axiom_explanation(torch.ones(1), torch.ones(1, 4), torch.ones(1, 4))
    exact = torch.tensor([[True, False, True, True]])
    explanation.trace.drops = Drops(tensor([2.0, -1.0, 0.0, 5.0]), exact, torch.tensor([0.5]))
    assert {name: values.tolist() for name, values in metrics.get("drops_error")(explanation).items()} == {
        "drops_error": [0.0625], "estimated_drops": [1.0]
    }  # fmt: skip


def with_activations(explanation: Explanation, activations: Tensor) -> Explanation:
    explanation.trace.activations = activations  # type: ignore[union-attr, misc]
    return explanation


def test_the_split_by_hand(axiom_explanation):
    """The second channel is guarded, the last dead."""
    F = tensor([[1.0, 1.0], [1.0, -1.0], [2.0, -1.0], [0.0, 0.0]])[:, :, None]
    explanation = axiom_explanation(torch.ones(1), tensor([2.0, 1, 1, 0]), tensor([3.0, 0, 1.5, 0]))
    actual = metrics.get("sensitivity_error_split")(with_activations(explanation, F))
    assert [float(part) for part in actual.values()] == [1 / 4, 1.5 / 4]
    assert list(actual) == ["sensitivity_error_guarded", "sensitivity_error_open"]


def mapped(S: float, raw_map: list[list[float]], size: tuple[int, int] = (4, 4)) -> Explanation:
    """One image whose one channel's contributions are the raw map."""
    R = torch.tensor([raw_map], dtype=torch.float64)
    trace = type("Trace", (), {"scores": torch.tensor([S], dtype=torch.float64)})()
    return Explanation(trace=trace, contributions=R[:, None], raw_map=R, heatmap=heatmap(R, size))


@pytest.mark.parametrize(
    ("S", "raw_map", "conservation", "relu", "heatmap", "negative"),
    [
        (
            4.0,
            [[3.0, -1.0], [0.0, 2.0]],
            0,
            1 / 4,
            (4 - 5 / 3) / 4,
            1 / 6,
        ),  # sum 4; after ReLU 5; the heatmap 1 + 2/3
        (
            3.0,
            [[1.0, 0.5], [0.0, 2.0]],
            0.5 / 3,
            0.5 / 3,
            (3 - 1.75) / 3,
            0,
        ),  # nothing negative: ReLU changes nothing
    ],
)
def test_completeness_by_hand(S, raw_map, conservation, relu, heatmap, negative):
    explanation = mapped(S, raw_map, size=(2, 2))
    actual = metrics.get("completeness")(explanation)
    assert {name: float(error) for name, error in actual.items()} == pytest.approx(
        {"completeness_error_relu": relu, "completeness_error_heatmap": heatmap}, abs=1e-15
    )
    assert value("conservation_error", explanation) == pytest.approx(conservation, abs=1e-15)
    assert value("negative_share", explanation) == pytest.approx(negative, abs=1e-15)


def explained(logits: Tensor, target: int, output: str) -> Tensor:
    """The output written out, for one image's logits (1, C)."""
    others = [c for c in range(logits.shape[1]) if c != target]
    if output == "logits":
        return logits[0, target]
    if output == "margin":
        return logits[0, target] - logits[0, others].max()
    return 1 / (1 + (logits[0, others] - logits[0, target]).exp().sum())


@pytest.mark.parametrize("output", ["logits", "probability", "margin"])
def test_both_axioms_equal_loops(trace, output):
    """The head run anew for every channel, the gradient of the output written out; zeta and epsilon
    are the errors of XGrad-CAM and HiResCAM.
    """
    network, images, targets = trace.cut_model.model, trace.images[:3], [0, 3, 1]
    trace = ab.trace(network, "1", images, torch.tensor(targets), output=output)
    for row, target in enumerate(targets):
        maps = network[:2](images[row : row + 1]).detach().requires_grad_()
        score = explained(network[2:](maps), target, output)
        (gradient,) = torch.autograd.grad(score, maps)
        S, d = float(score.detach()), []
        for k in range(6):
            ablated = maps.detach().clone()
            ablated[:, k] = 0
            d.append(S - float(explained(network[2:](ablated).detach(), target, output)))
        F, g = maps.detach()[0], gradient[0]
        products = (g * F).sum((1, 2)).tolist()
        expected = {
            "xgrad_cam": products, "hires_cam": products, "ablation_cam_axiomatic": d,
            "grad_cam": (g.mean((1, 2)) * F.sum((1, 2))).tolist(),
        }  # fmt: skip
        for method, m in expected.items():
            explanation, errors = (
                Explanation.of(trace, methods.get(method)(trace)),
                axiom_errors(S, d, m),
            )
            # or equal would show nothing
            assert method == "ablation_cam_axiomatic" or min(errors) > 1e-4
            for names in (("sensitivity_error", "conservation_error"), ("zeta", "epsilon")):
                if names[0] == "sensitivity_error" or m is products:
                    actual = [float(metrics.get(name)(explanation)[row]) for name in names]
                    assert actual == pytest.approx(errors, rel=1e-9, abs=1e-9), (method, names)


OF_THE_TRUTH = (
    "truth_channel_error",
    "truth_correlation",
    "truth_mass_outside",
    "truth_rank_agreement",
)


def telling(truth: Tensor | None, shape: torch.Size) -> ab.Trace:
    """Of a network that tells this truth (B, K, H, W), or none; images are twice as large."""
    rows, channels, height, width = shape
    last = torch.nn.Linear(channels * height * width, 2)
    model = torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten(), last).double()
    if truth is not None:
        model.true_contributions = lambda activations, targets: truth
    images = torch.ones(rows, channels, 2 * height, 2 * width, dtype=torch.float64)
    return ab.trace(model, "0", images, torch.zeros(rows, dtype=torch.long))


def of(truth: Tensor, contributions: Tensor) -> Explanation:
    return Explanation.of(telling(truth, truth.shape), contributions)


def truth_value(name: str, explanation: Explanation) -> Tensor:
    """A single number of a metric, by its name."""
    metric = next(metric for metric in OF_THE_TRUTH if name.startswith(metric))
    answer = metrics.get(metric)(explanation)
    return answer[name] if isinstance(answer, dict) else answer


@pytest.fixture
def truth() -> Tensor:
    """Two images, three channels, 3 x 4: contributions of both signs, none in the right half."""
    drawn = torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    drawn[:, 2] = 0
    drawn[..., 2:] = 0
    return drawn


CORRELATIONS = ("truth_correlation", "truth_correlation_signed")
AGREEMENTS = ("truth_rank_agreement", "truth_rank_agreement_signed")
PERFECT = {
    **dict.fromkeys(CORRELATIONS + AGREEMENTS, 1),
    "truth_mass_outside": 0,
    "truth_channel_error": 0,
}


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (1, PERFECT),
        (3, {**PERFECT, "truth_channel_error": 2}),  # a factor changes the channel error alone
        (
            -1,
            {
                "truth_correlation_signed": -1,
                "truth_rank_agreement_signed": 0,
                "truth_channel_error": 2,
            },
        ),  # worst
    ],
)
def test_multiples_of_the_truth(truth, factor, expected):
    explanation = of(truth, factor * truth)
    for name, number in expected.items():
        close(truth_value(name, explanation), number)


def test_correlations_are_of_heatmaps_and_of_signed_raw_maps(truth):
    given = torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    explanation = of(truth, given)
    for row in range(2):
        shown = ab.heatmap(truth.sum(1), (6, 8))[row], explanation.heatmap[row]
        signed = truth.sum(1)[row], given.sum(1)[row]
        for name, (first, second) in (
            ("truth_correlation", shown),
            ("truth_correlation_signed", signed),
        ):
            expected = pearsonr(first.flatten().numpy(), second.flatten().numpy())[0]
            assert truth_value(name, explanation)[row].item() == pytest.approx(expected, rel=1e-12)


def test_rank_agreement_is_the_share_of_pairs_in_the_right_order(truth):
    given = torch.randn(
        2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    ).round()
    actual = truth_value("truth_rank_agreement_signed", of(truth, given))
    for row in range(2):
        points = list(
            zip(
                truth[row].sum(0).flatten().tolist(),
                given[row].sum(0).flatten().tolist(),
                strict=True,
            )
        )
        pairs = [(a, b) for a, b in combinations(points, 2) if a[0] != b[0]]
        right = sum(
            0.5 if a[1] == b[1] else float((a[0] > b[0]) == (a[1] > b[1])) for a, b in pairs
        )
        assert actual[row].item() == pytest.approx(right / len(pairs), rel=1e-12)


def test_a_constant_map_agrees_with_half_of_the_pairs_and_has_no_correlation(truth):
    explanation = of(truth, torch.ones_like(truth))
    for name in AGREEMENTS:
        assert truth_value(name, explanation).tolist() == [0.5, 0.5]
    assert status("truth_correlation", explanation) == {"constant_map"}


def test_mass_outside_is_what_lies_where_the_resized_truth_is_zero():
    """The truth is the left column of four; bilinear resizing carries it one pixel into the second
    column.
    """
    truth = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    truth[..., 0] = 5
    given = torch.ones_like(truth)
    assert truth_value("truth_mass_outside", of(truth, given)).tolist() == [pytest.approx(5 / 8)]
    given[..., 1:] = -1  # evidence against isn't mass
    assert truth_value("truth_mass_outside", of(truth, given)).tolist() == [0]
    given[..., 1:] = 0
    given[..., 3] = 1
    shown = of(truth, given).heatmap[0, 0]
    expected = (shown[3:].sum() / shown.sum()).item()
    assert truth_value("truth_mass_outside", of(truth, given)).tolist() == [pytest.approx(expected)]


def test_channel_error_is_that_of_the_channel_totals():
    truth = (
        torch.tensor([4.0, -2.0, 0.0, 2.0], dtype=torch.float64).view(1, 4, 1, 1).expand(1, 4, 2, 2)
        / 4
    )
    given = (
        torch.tensor([3.0, 2.0, 1.0, 2.0], dtype=torch.float64).view(1, 4, 1, 1).expand(1, 4, 2, 2)
        / 4
    )
    assert truth_value("truth_channel_error", of(truth, given)).item() == pytest.approx(
        (1 + 4 + 1 + 0) / 8
    )


def test_maps_of_any_size_are_measured(truth):
    """A larger map is averaged in each position; both maps here have the truth's order."""
    trace = telling(truth, truth.shape)
    finer = of_map(trace, truth.sum(1).repeat_interleave(3, 1).repeat_interleave(3, 2))
    for name in ("truth_correlation_signed", "truth_rank_agreement_signed"):
        close(truth_value(name, finer), 1, rtol=1e-7)
    assert status("truth_channel_error", finer) == {"no_contributions"}
    assert (
        truth_value("truth_mass_outside", of_map(trace, torch.tensor([[1.0, 0.0]])))
        .isfinite()
        .all()
    )


def test_at_size_averages_and_resizes():
    maps = torch.arange(8.0).view(1, 2, 4)
    assert at_size(maps, (2, 4)).tolist() == maps.tolist()
    assert at_size(maps, (1, 2)).tolist() == [[[2.5, 4.5]]]
    assert at_size(maps, (4, 2)).shape == (1, 4, 2)
    assert at_size(maps.half(), (2, 2)).dtype == torch.float64


@pytest.mark.parametrize("name", OF_THE_TRUTH)
def test_statuses_without_truth_and_without_evidence(name, truth):
    without = Explanation.of(telling(None, truth.shape), truth)
    assert status(name, without) == {"no_truth"}
    assert all(each.isnan().all() for each in values_of(metrics.get(name)(without)))
    assert status(name, of(torch.zeros_like(truth), truth)) == {"zero_truth"}
    with pytest.raises(ab.BenchError, match="needs an explanation with trace"):
        metrics.get(name)(Explanation(heatmap=torch.ones(1, 4, 4), raw_map=torch.ones(1, 4, 4)))
