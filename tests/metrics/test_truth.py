"""The truth metrics, by hand: on explanations with chosen maps and a chosen truth."""

from __future__ import annotations

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
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.true_maps import at_size
from axiom_bench.run.computing.costs import Cost
from tests.metrics.build import close, of_map, status, values_of

NAMES = ("truth_channel_error", "truth_correlation", "truth_mass_outside", "truth_rank_agreement")


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


CORRELATIONS = ("truth_correlation", "truth_correlation_signed")
AGREEMENTS = ("truth_rank_agreement", "truth_rank_agreement_signed")
PERFECT = {**dict.fromkeys(CORRELATIONS + AGREEMENTS, 1), "truth_mass_outside": 0, "truth_channel_error": 0}


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (1, PERFECT),
        (3, {**PERFECT, "truth_channel_error": 2}),  # a factor changes the channel error alone
        (-1, {"truth_correlation_signed": -1, "truth_rank_agreement_signed": 0, "truth_channel_error": 2}),  # worst
    ],
)
def test_multiples_of_the_truth(truth, factor, expected):
    explanation = of(truth, factor * truth)
    for name, number in expected.items():
        close(value(name, explanation), number)


def test_correlations_are_of_heatmaps_and_of_signed_raw_maps(truth):
    given = torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    explanation = of(truth, given)
    for row in range(2):
        shown = ab.heatmap(truth.sum(1), (6, 8))[row], explanation.heatmap[row]
        signed = truth.sum(1)[row], given.sum(1)[row]
        for name, (first, second) in (("truth_correlation", shown), ("truth_correlation_signed", signed)):
            expected = pearsonr(first.flatten().numpy(), second.flatten().numpy())[0]
            assert value(name, explanation)[row].item() == pytest.approx(expected, rel=1e-12)


def test_rank_agreement_is_the_share_of_pairs_in_the_right_order(truth):
    given = torch.randn(2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).round()
    actual = value("truth_rank_agreement_signed", of(truth, given))
    for row in range(2):
        points = list(zip(truth[row].sum(0).flatten().tolist(), given[row].sum(0).flatten().tolist(), strict=True))
        pairs = [(a, b) for a, b in combinations(points, 2) if a[0] != b[0]]
        right = sum(0.5 if a[1] == b[1] else float((a[0] > b[0]) == (a[1] > b[1])) for a, b in pairs)
        assert actual[row].item() == pytest.approx(right / len(pairs), rel=1e-12)


def test_a_constant_map_agrees_with_half_of_the_pairs_and_has_no_correlation(truth):
    explanation = of(truth, torch.ones_like(truth))
    for name in AGREEMENTS:
        assert value(name, explanation).tolist() == [0.5, 0.5]
    assert status("truth_correlation", explanation) == {"constant_map"}


def test_mass_outside_is_what_lies_where_the_resized_truth_is_zero():
    """The truth is the left column of four; bilinear resizing carries it one pixel into the second column."""
    truth = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    truth[..., 0] = 5
    given = torch.ones_like(truth)
    assert value("truth_mass_outside", of(truth, given)).tolist() == [pytest.approx(5 / 8)]
    given[..., 1:] = -1  # evidence against isn't mass
    assert value("truth_mass_outside", of(truth, given)).tolist() == [0]
    given[..., 1:] = 0
    given[..., 3] = 1
    shown = of(truth, given).heatmap[0, 0]
    expected = (shown[3:].sum() / shown.sum()).item()
    assert value("truth_mass_outside", of(truth, given)).tolist() == [pytest.approx(expected)]


def test_channel_error_is_that_of_the_channel_totals():
    truth = torch.tensor([4.0, -2.0, 0.0, 2.0], dtype=torch.float64).view(1, 4, 1, 1).expand(1, 4, 2, 2) / 4
    given = torch.tensor([3.0, 2.0, 1.0, 2.0], dtype=torch.float64).view(1, 4, 1, 1).expand(1, 4, 2, 2) / 4
    assert value("truth_channel_error", of(truth, given)).item() == pytest.approx((1 + 4 + 1 + 0) / 8)


def test_maps_of_any_size_are_measured(truth):
    """A larger map is averaged in each position; both maps here have the truth's order."""
    trace = telling(truth, truth.shape)
    finer = of_map(trace, truth.sum(1).repeat_interleave(3, 1).repeat_interleave(3, 2))
    for name in ("truth_correlation_signed", "truth_rank_agreement_signed"):
        close(value(name, finer), 1, rtol=1e-7)
    assert status("truth_channel_error", finer) == {"no_contributions"}
    assert value("truth_mass_outside", of_map(trace, torch.tensor([[1.0, 0.0]]))).isfinite().all()


def test_at_size_averages_and_resizes():
    maps = torch.arange(8.0).view(1, 2, 4)
    assert at_size(maps, (2, 4)).tolist() == maps.tolist()
    assert at_size(maps, (1, 2)).tolist() == [[[2.5, 4.5]]]
    assert at_size(maps, (4, 2)).shape == (1, 4, 2)
    assert at_size(maps.half(), (2, 2)).dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_statuses_without_truth_and_without_evidence(name, truth):
    """Before a run every metric is driven once, whatever its needs are, to count its passes."""
    without = Explanation.of(telling(None, truth.shape), truth)
    assert status(name, without) == {"no_truth"}
    assert all(each.isnan().all() for each in values_of(metrics.get(name)(without)))
    assert status(name, of(torch.zeros_like(truth), truth)) == {"zero_truth"}
    assert Cost.of([], [metrics.get(name)], without.trace).per_image == 0
    with pytest.raises(ab.BenchError, match="needs an explanation with trace"):
        metrics.get(name)(Explanation(heatmap=torch.ones(1, 4, 4), raw_map=torch.ones(1, 4, 4)))


@pytest.fixture(scope="module")
def images() -> Tensor:
    dataset, size = (
        load_dataset({"kind": "planted", "size": 8, "seed": 1}),
        Preprocessing(96, 96, (MEAN,) * 3, (STD,) * 3),
    )
    return next(iter(batches(dataset, range(8), size, "label", 8))).images


@pytest.mark.parametrize("name", BUILDERS)
def test_planted_networks_tell_a_right_from_a_wrong_explanation(name, images):
    """The truth is perfect; an explanation by brightness alone, which no network reads, has nothing right."""
    trace = ab.trace(BUILDERS[name](), "features", images, torch.zeros(8, dtype=torch.long))
    right = Explanation.of(trace, trace.true_contributions / trace.activations.masked_fill(trace.activations == 0, 1))
    only_brightness = torch.zeros(1, trace.activations.shape[1], 1, 1)
    only_brightness[0, -1] = 1
    wrong = Explanation.of(trace, only_brightness)
    for metric, perfect in PERFECT.items():
        close(value(metric, right), perfect, atol=1e-6, rtol=0)
    assert value("truth_correlation", wrong).max() < 0.3
    assert value("truth_mass_outside", wrong).min() > 0.3
    assert value("truth_channel_error", wrong).min() > 1
