"""The form of all planted networks: colour detectors, the evidence of each channel, and a small head over it.

    images -> features: detectors, F (B, K, 16, 16) -> readout: a_k = sum_xy r_k(x, y) F_k(x, y) -> head(a) -> logits

Channel k matters through its evidence a_k alone. Its true value is its Shapley value phi_k in the head, where a channel
that is left out has F_k = 0, so a_k = 0. It is shared among the positions in proportion to r_k F_k, which is:

    T_k(x, y) = phi_k r_k(x, y) F_k(x, y) / a_k

For a head that is multilinear in the evidence that is the Shapley value of the position among all channels and
positions; for any head it is its Owen value (channels as unions) where the active positions of a channel have the same
r_k F_k, as on the patches of `patches.py`. Both are proved by enumeration in tests/embedded/planted/.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import torch
from torch import Tensor, nn
from torch.func import functional_call

from axiom_bench.errors import BenchError

MAX_CHANNELS = 12  # 4,096 subsets


def channel_shapley(score: Callable[[Tensor], Tensor], evidence: Tensor) -> Tensor:
    """phi_k = mean over all orders of the channels of what the score gains where channel k joins: (B, K) in float64.

    score: evidence (N, K) in float64 -> scores (N,). evidence: (B, K); a channel that hasn't joined has evidence 0.
    Shapley, A value for n-person games, 1953: sum_k phi_k = S(all) - S(none). Raises BenchError for over 12 channels.
    """
    channels = evidence.shape[1]
    if channels > MAX_CHANNELS:
        raise BenchError(
            f"Shapley values of {channels} channels take 2^{channels} subsets; give at most {MAX_CHANNELS}."
        )
    joined = (torch.arange(2**channels)[:, None] >> torch.arange(channels)) & 1 == 1  # (2^K, K)
    subsets = evidence.double()[:, None] * joined.to(evidence.device)  # (B, 2^K, K)
    values = score(subsets.flatten(0, 1)).unflatten(0, subsets.shape[:2])  # (B, 2^K)
    # Channel k joins just these n others, after them and before the rest, in a share of 1 / (K C(K - 1, n)) of orders.
    shares = torch.tensor([1 / (channels * comb(channels - 1, n)) for n in range(channels)], dtype=torch.float64)
    totals = []
    for channel in range(channels):
        others = torch.nonzero(~joined[:, channel])[:, 0]
        gains = values[:, others + 2**channel] - values[:, others]  # exactly 0 for a channel that never matters
        totals.append(gains @ shares[joined[others].sum(1)].to(values))
    return torch.stack(totals, 1)


CELL, CELLS = 6, 16  # a cell of the layer is 6 x 6 pixels of the 96 x 96 image


class PlantedNetwork(nn.Module):
    """features: images -> (B, K, 16, 16). readout: -> (B, K, 1, 1), one channel at a time. head: (B, K) -> logits."""

    truth_layer = "features"

    def __init__(self, features: nn.Module, readout: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.readout, self.flatten, self.head = features, readout, nn.Flatten(), head

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, 96, 96) -> logits (B, 2): of what is planted, and of the other class."""
        logits: Tensor = self.head(self.flatten(self.readout(self.features(images))))
        return logits

    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor:
        """T as above, for activations (B, K, 16, 16) and class indices (B,): (B, K, 16, 16) in float64."""
        read = activations.double() * self.reading(activations)
        evidence = read.sum((2, 3))
        values = self.channel_values(evidence, targets)
        share = read / evidence.masked_fill(evidence == 0, 1)[..., None, None]
        return values[..., None, None] * share

    def channel_values(self, evidence: Tensor, targets: Tensor) -> Tensor:
        """phi, the Shapley values of the channels in the logit of each row's class: (B, K) in float64."""
        return torch.cat([
            channel_shapley(lambda rows, c=int(target): self._exact_logits(rows)[:, c], row)  # type: ignore[misc]
            for row, target in zip(evidence.split(1), targets, strict=True)
        ])  # fmt: skip

    def reading(self, activations: Tensor) -> Tensor:
        """r, how much each position counts in its channel's evidence: broadcasts to the activations, in float64."""
        if isinstance(self.readout, nn.Conv2d):
            return self.readout.weight.double().squeeze(1)
        return activations.new_ones((), dtype=torch.float64) / activations[0, 0].numel()

    def _exact_logits(self, evidence: Tensor) -> Tensor:
        exact = {name: tensor.double() for name, tensor in self.head.state_dict().items()}
        logits: Tensor = functional_call(self.head, exact, (evidence,))
        return logits
