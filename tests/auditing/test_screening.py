"""Tests of the quick comparison of raw maps with an implementation's maps."""

import pytest
import torch

from axiom_bench.auditing.screening import affine_distances, are_beyond, standardised

TOLERANCE = 1e-12  # of float64


@pytest.mark.parametrize("limit", [1e-11, 1e-6, 1e-3, 0.1, 0.8, 1.0])
@pytest.mark.parametrize("offset", [0.0, 1e3], ids=["as drawn", "a thousand added"])
@pytest.mark.parametrize("is_flat", [False, True], ids=["varied", "one flat"])
def test_no_candidate_is_excluded_whose_distance_is_below_the_limit(limit, offset, is_flat):
    generator = torch.Generator().manual_seed(0)
    observed = torch.randn(3, 60, generator=generator, dtype=torch.float64)
    if is_flat:
        observed[1] = 2.0
    noise = torch.randn(200, 3, 60, generator=generator, dtype=torch.float64)
    scales = torch.logspace(-14, 2, 200, dtype=torch.float64)[:, None, None]
    factors = torch.tensor([3.0, -0.5], dtype=torch.float64).repeat(100)[:, None, None]
    near_maps = factors * (observed + scales * noise) + offset
    strange_maps = torch.stack(
        [
            torch.zeros(3, 60),
            torch.full((3, 60), 5.0),
            torch.full((3, 60), torch.nan),
            torch.full((3, 60), torch.inf),
        ]
    )
    maps = torch.cat([near_maps, strange_maps.double()])

    expected = standardised(observed, TOLERANCE)
    distances = affine_distances(maps, expected, TOLERANCE)
    is_beyond = are_beyond(limit, maps, expected)

    assert not (is_beyond & (distances < limit)).any()
    if limit < 0.8 and offset == 0.0:  # noise of more than ten times the maps' values
        assert is_beyond[:200][scales.flatten() > 10].all()
    if limit == 1.0:
        assert not is_beyond.any()
