"""The truth metrics, by hand: on explanations with chosen maps and a chosen truth."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded.planted import BUILDERS, MEAN, STD
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.true_maps import at_size
from axiom_bench.run.computing.costs import Cost
from axiom_bench.testing.cases import Case

NAMES = ("truth_channel_error", "truth_correlation", "truth_mass_outside", "truth_rank_agreement")


def explained(truth: Tensor, contributions: Tensor) -> Explanation:
    """Of the contributions (B, K, H, W), on a network that tells this truth; images are twice as large."""
    rows, channels, height, width = truth.shape
    last = torch.nn.Linear(channels * height * width, 2)
    model = torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten(), last).double()
    model.true_contributions = lambda activations, targets: truth
    images = torch.ones(rows, channels, 2 * height, 2 * width, dtype=torch.float64)
    return Explanation.of(ab.trace(model, "0", images, torch.zeros(rows, dtype=torch.long)), contributions)


def value(name: str, explanation: Explanation) -> Tensor:
    """A single value of a metric, by its name."""
    metric = next(metric for metric in NAMES if name.startswith(metric))
    answer = metrics.get(metric)(explanation)
    return answer[name] if isinstance(answer, dict) else answer


@pytest.fixture
def truth() -> Tensor:
    """Two images, three channels, 3 x 4: contributions of both signs, none in the right half."""
    drawn = torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    drawn[:, 2] = 0
    drawn[..., 2:] = 0
    return drawn


def test_the_truth_itself_is_perfect(truth):
    explanation = explained(truth, truth)
    for name in (
        "truth_correlation",
        "truth_correlation_signed",
        "truth_rank_agreement",
        "truth_rank_agreement_signed",
    ):
        torch.testing.assert_close(value(name, explanation), torch.ones(2, dtype=torch.float64), rtol=1e-12, atol=0)
    assert (
        value("truth_mass_outside", explanation).tolist()
        == value("truth_channel_error", explanation).tolist()
        == [0, 0]
    )


def test_a_factor_changes_the_channel_error_alone(truth):
    explanation = explained(truth, 3 * truth)
    torch.testing.assert_close(value("truth_channel_error", explanation), torch.full((2,), 2.0, dtype=torch.float64))
    for name in ("truth_correlation", "truth_correlation_signed", "truth_rank_agreement"):
        torch.testing.assert_close(value(name, explanation), torch.ones(2, dtype=torch.float64), rtol=1e-12, atol=0)


def test_the_negated_truth_is_as_wrong_as_can_be(truth):
    explanation = explained(truth, -truth)
    for name, worst in (
        ("truth_correlation_signed", -1.0),
        ("truth_rank_agreement_signed", 0.0),
        ("truth_channel_error", 2.0),
    ):
        torch.testing.assert_close(
            value(name, explanation), torch.full((2,), worst, dtype=torch.float64), rtol=1e-12, atol=0
        )


def test_correlations_are_of_heatmaps_and_of_signed_raw_maps(truth):
    given = torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    explanation = explained(truth, given)
    for row in range(2):
        shown = ab.heatmap(truth.sum(1), (6, 8))[row], explanation.heatmap[row]
        signed = truth.sum(1)[row], given.sum(1)[row]
        for name, (first, second) in (("truth_correlation", shown), ("truth_correlation_signed", signed)):
            expected = pearsonr(first.flatten().numpy(), second.flatten().numpy())[0]
            assert value(name, explanation)[row].item() == pytest.approx(expected, rel=1e-12)


def test_rank_agreement_is_the_share_of_pairs_in_the_right_order(truth):
    given = torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).round()
    actual = value("truth_rank_agreement_signed", explained(truth, given))
    for row in range(2):
        points = list(zip(truth[row].sum(0).flatten().tolist(), given[row].sum(0).flatten().tolist(), strict=True))
        pairs = [(a, b) for a, b in combinations(points, 2) if a[0] != b[0]]
        right = sum(0.5 if a[1] == b[1] else float((a[0] > b[0]) == (a[1] > b[1])) for a, b in pairs)
        assert actual[row].item() == pytest.approx(right / len(pairs), rel=1e-12)


def test_a_constant_map_agrees_with_half_of_the_pairs_and_has_no_correlation(truth):
    explanation = explained(truth, torch.ones_like(truth))
    assert value("truth_rank_agreement", explanation).tolist() == [0.5, 0.5]
    assert value("truth_rank_agreement_signed", explanation).tolist() == [0.5, 0.5]
    for _, statuses in measure(metrics.get("truth_correlation"), explanation, True).values():
        assert set(statuses) == {"constant_map"}


def test_mass_outside_is_what_lies_where_the_resized_truth_is_zero():
    """The truth is the left column of four; bilinear resizing carries it one pixel into the second column."""
    truth = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    truth[..., 0] = 5
    given = torch.ones_like(truth)
    assert value("truth_mass_outside", explained(truth, given)).tolist() == [pytest.approx(5 / 8)]
    given[..., 1:] = -1  # evidence against isn't mass
    assert value("truth_mass_outside", explained(truth, given)).tolist() == [0]
    given[..., 1:] = 0
    given[..., 3] = 1
    shown = explained(truth, given).heatmap[0, 0]
    expected = (shown[3:].sum() / shown.sum()).item()
    assert value("truth_mass_outside", explained(truth, given)).tolist() == [pytest.approx(expected)]


def test_channel_error_is_that_of_the_channel_totals():
    truth = torch.tensor([4.0, -2.0, 0.0, 2.0], dtype=torch.float64).view(1, 4, 1, 1).expand(1, 4, 2, 2) / 4
    given = torch.tensor([3.0, 2.0, 1.0, 2.0], dtype=torch.float64).view(1, 4, 1, 1).expand(1, 4, 2, 2) / 4
    assert value("truth_channel_error", explained(truth, given)).item() == pytest.approx((1 + 4 + 1 + 0) / 8)


def test_maps_of_any_size_are_measured(truth):
    """A larger map is averaged in each position; both maps here have the truth's order."""
    explanation = explained(truth, truth)
    fine = truth.sum(1).repeat_interleave(3, 1).repeat_interleave(3, 2)
    finer = Explanation.of(explanation.trace, ab.Map(fine))
    torch.testing.assert_close(value("truth_correlation_signed", finer), torch.ones(2, dtype=torch.float64))
    assert value("truth_rank_agreement_signed", finer).tolist() == [1, 1]
    statuses = measure(metrics.get("truth_channel_error"), finer, True)["truth_channel_error"][1]
    assert set(statuses) == {"no_contributions"}
    coarse = Explanation.of(explanation.trace, ab.Map(torch.tensor([[[1.0, 0.0]]]).expand(2, 1, 2)))
    assert value("truth_mass_outside", coarse).isfinite().all()


def test_at_size_averages_and_resizes():
    maps = torch.arange(8.0).view(1, 2, 4)
    assert at_size(maps, (2, 4)).tolist() == maps.tolist()
    assert at_size(maps, (1, 2)).tolist() == [[[2.5, 4.5]]]
    assert at_size(maps, (4, 2)).shape == (1, 4, 2)
    assert at_size(maps.half(), (2, 2)).dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_statuses_without_truth_and_without_evidence(name, truth):
    explanation = explained(truth, truth)
    model = torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(36, 2)).double()
    without = replace(explanation, trace=ab.trace(model, "0", explanation.images))
    nothing = explained(torch.zeros_like(truth), truth)
    for _, statuses in measure(metrics.get(name), without, True).values():
        assert set(statuses) == {"no_truth"}
    for _, statuses in measure(metrics.get(name), nothing, True).values():
        assert set(statuses) == {"zero_truth"}


@pytest.mark.parametrize("name", NAMES)
def test_without_truth_a_run_still_counts_its_passes_and_a_call_has_no_value(name):
    """Before a run every metric is driven once, whatever its needs are."""
    case = Case()
    explanation = Explanation.of(case.trace(), case.trace().gradients)
    assert Cost.of([], [metrics.get(name)], explanation.trace).per_image == 0
    answer = metrics.get(name)(explanation)
    assert all(value.isnan().all() for value in (answer.values() if isinstance(answer, dict) else [answer]))
    with pytest.raises(ab.BenchError, match="needs an explanation with trace"):
        metrics.get(name)(Explanation(heatmap=torch.ones(1, 4, 4), raw_map=torch.ones(1, 4, 4)))


@pytest.fixture(scope="module")
def images():
    dataset, size = (
        load_dataset({"kind": "planted", "size": 8, "seed": 1}),
        Preprocessing(96, 96, (MEAN,) * 3, (STD,) * 3),
    )
    return next(iter(batches(dataset, range(8), size, "label", 8))).images


@pytest.mark.parametrize("name", BUILDERS)
def test_planted_networks_know_a_right_and_a_wrong_explanation(name, images):
    """The truth is perfect; an explanation by brightness alone, which no network reads, has nothing right."""
    trace = ab.trace(BUILDERS[name](), "features", images, torch.zeros(8, dtype=torch.long))
    right = Explanation.of(trace, trace.true_contributions / trace.activations.masked_fill(trace.activations == 0, 1))
    only_brightness = torch.zeros(1, trace.activations.shape[1], 1, 1)
    only_brightness[0, -1] = 1
    wrong = Explanation.of(trace, only_brightness)
    torch.testing.assert_close(value("truth_correlation", right), torch.ones(8, dtype=torch.float64), rtol=1e-6, atol=0)
    assert (value("truth_rank_agreement", right) == 1).all()
    assert value("truth_channel_error", right).max() < 1e-6
    assert value("truth_mass_outside", right).max() < 1e-6
    assert value("truth_correlation", wrong).max() < 0.3
    assert value("truth_mass_outside", wrong).min() > 0.3
    assert value("truth_channel_error", wrong).min() > 1
