"""The guarded division: weights by hand, and which channels are dead or guarded."""

from __future__ import annotations

import torch

from axiom_bench.cutting.numerics import dead_channels, guarded_channels, guarded_divide

F = torch.tensor(
    [
        [[1.0, 2.0]],  # ordinary
        [[-1.0, -3.0]],  # a negative sum
        [[0.0, 0.0]],  # dead
        [[1.0, -1.0]],  # a sum of zero
        [[1.0, -1.0 + 1e-7]],  # a sum within rounding of zero
        [[1e-9, 2e-9]],  # small, but all of one sign
    ]
)[None]


def test_weights_by_hand():
    weights = guarded_divide(torch.full((1, 6), 6.0), F)
    assert weights.shape == (1, 6, 1, 1)
    expected = torch.tensor([2.0, -1.5, 0.0, 0.0, 0.0, 2e9])
    torch.testing.assert_close(weights.flatten(), expected, rtol=1e-6, atol=0)


def test_dead_channels_are_not_guarded():
    assert dead_channels(F)[0].tolist() == [False, False, True, False, False, False]
    assert guarded_channels(F)[0].tolist() == [False, False, False, True, True, False]


def test_float64_has_a_smaller_tolerance():
    assert guarded_channels(F.double())[0].tolist() == [False, False, False, True, False, False]
    exact = torch.tensor([[[[1.0, -1.0 + 1e-13]]]], dtype=torch.float64)
    assert guarded_channels(exact).all()


def test_the_tolerance_is_a_few_times_the_rounding():
    """Sums of which float32 knows two digits are divided by; those that are its rounding alone aren't."""
    ratios = torch.tensor([1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 3e-6, 3e-7], dtype=torch.float64)
    channels = torch.stack([1 + ratios, -1 + ratios], 1)[None, :, None]  # |sum F| = ratio x sum |F|
    assert guarded_channels(channels.float())[0].tolist() == [False] * 6 + [True]
    assert not guarded_channels(channels).any()
    weights = guarded_divide(2 * ratios.float()[None], channels.float()).flatten()
    torch.testing.assert_close(weights, torch.tensor([1.0] * 6 + [0.0]), rtol=0.05, atol=0)


def test_nan_is_propagated():
    assert guarded_divide(torch.tensor([[torch.nan]]), F[:, :1]).isnan().all()
    assert guarded_divide(torch.tensor([[1.0]]), torch.full((1, 1, 1, 2), torch.nan)).isnan().all()
