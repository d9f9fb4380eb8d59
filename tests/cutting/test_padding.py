"""Padded rows of a trace: in its slices, in traces derived from it, and in per_image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import axiom_bench as ab
from tests.cutting.conftest import InPlaceHead


@pytest.fixture
def padded(images: Tensor) -> ab.Trace:
    """A trace of two images and three padded rows."""
    index = [0, 1, 1, 1, 1]
    torch.manual_seed(1)
    trace = ab.trace(InPlaceHead().double(), "conv", images[index], torch.tensor([0, 3, 3, 3, 3]))
    return replace(trace, num_padding=3)


def test_slices_count_their_padded_rows(padded):
    expected = {(0, 1): 0, (0, 2): 0, (0, 3): 1, (1, 5): 3, (2, 5): 2, (4, 5): 0, (0, 5): 3}
    assert {span: padded[slice(*span)].num_padding for span in expected} == expected
    assert padded[::2].num_padding == 1  # images 0, 1, 1
    assert padded.again().num_padding == padded.scaled(2.0).num_padding == 3


def test_traces_of_other_rows_have_no_padding(padded):
    """A method may run the two valid images alone, or add a blank one, which isn't a padded row."""
    blank = torch.zeros_like(padded.images[:1])
    first = padded.targets[:1]
    assert padded.again(padded.images[:2], padded.targets[:2]).num_valid == 2
    longer = padded.again(torch.cat([padded.images, blank]), torch.cat([padded.targets, first]))
    replaced = padded.again(torch.cat([padded.images[:4], blank]))
    other_class = padded.again(targets=torch.cat([padded.targets[:4], first]))
    assert (longer.num_padding, replaced.num_padding, other_class.num_padding) == (0, 0, 0)
    assert padded.again(2 * padded.images).num_padding == 3


def test_per_image_computes_valid_rows_and_repeats_the_last(padded):
    computed = []

    def score(row: int) -> Tensor:
        computed.append(row)
        return padded.scores[row]

    assert torch.equal(padded.per_image(score), padded.scores[[0, 1, 1, 1, 1]])
    assert computed == [0, 1]
    assert padded.num_valid == 2
    unpadded = replace(padded, num_padding=0)
    assert torch.equal(unpadded.per_image(lambda row: unpadded.activations[row]), unpadded.activations)
