"""From a signed map to a heatmap: ReLU, resize, scaling."""

from __future__ import annotations

import pytest
import torch

import axiom_bench as ab


def test_by_hand():
    """2 x 2 to 4 x 4 with align_corners=False: weights 3/4 and 1/4 between pixel centres, edges repeated."""
    raw = torch.tensor([[[4.0, -8.0], [0.0, 0.0]]])
    across = torch.tensor([1.0, 0.75, 0.25, 0.0])
    down = torch.tensor([1.0, 0.75, 0.25, 0.0])
    assert torch.equal(ab.heatmap(raw, (4, 4))[0], down[:, None] * across)


def test_sizes_are_height_and_width():
    assert ab.heatmap(torch.rand(2, 3, 5), (6, 20)).shape == (2, 6, 20)


def test_relu_comes_before_the_resize():
    """Else the negative pixel would pull its neighbours down."""
    raw = torch.tensor([[[1.0, -100.0]]])
    assert (ab.heatmap(raw, (1, 4))[0, 0] == torch.tensor([1.0, 0.75, 0.25, 0.0])).all()


@pytest.mark.parametrize("raw", [torch.zeros(1, 2, 2), -torch.rand(1, 2, 2)])
def test_a_map_without_a_positive_value_stays_zero(raw):
    for normalise in ("maximum", "minmax"):
        assert (ab.heatmap(raw, (8, 8), normalise) == 0).all()


def test_each_map_has_its_own_maximum():
    maps = ab.heatmap(torch.tensor([[[2.0]], [[1e-30]]]), (3, 3))
    assert torch.equal(maps, torch.ones(2, 3, 3))


def test_minmax_takes_the_minimum_off():
    raw = torch.tensor([[[1.0, 3.0], [1.0, 2.0]]])
    assert torch.equal(ab.heatmap(raw, (2, 2), "minmax")[0], torch.tensor([[0.0, 1.0], [0.0, 0.5]]))
    assert (ab.heatmap(torch.ones(1, 2, 2), (2, 2), "minmax") == 0).all()
    assert (ab.heatmap(torch.ones(1, 2, 2), (2, 2)) == 1).all()


def test_nan_is_not_hidden():
    raw = torch.tensor([[[torch.nan, 1.0]], [[1.0, 1.0]]])
    assert ab.heatmap(raw, (1, 2))[0].isnan().any()
    assert ab.heatmap(raw, (1, 2))[1].isfinite().all()


def test_an_unknown_normalisation_is_one_sentence():
    with pytest.raises(ab.BenchError, match=r"no normalisation of heatmaps .min_max.; did you mean .minmax."):
        ab.heatmap(torch.ones(1, 2, 2), (2, 2), "min_max")
