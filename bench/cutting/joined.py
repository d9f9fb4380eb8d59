"""One pass for the neighbouring rows of a batch that share an image, such as the words of a text.

The network says which rows share passes; see `PlacedScores.joined`. The activations, scores,
gradients and drops of these rows then cost one pass of the trunk and one of the head, and a
backward pass for each row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from axiom_bench.cutting.split_model import TracedNetwork


@dataclass(frozen=True, eq=False)
class JoinedRows:
    """R neighbouring rows of one image, whose scores another network computes in one pass.

    The network's outputs, (1, L * C), are the scores of C classes at L places. Each place also has
    an own score, that of one class. A row has the scores of one place, and adds the sum of the own
    scores of some earlier places to each of them.

    Attributes:
        network: Maps images and the second input to the outputs. Its layers have the same names.
        image: The image, (1, C', H', W').
        inputs: The second input, (1, ...).
        own: The class of each place's own score, (L,).
        places: The place of each row, (R,).
        earlier: True for the places whose own scores a row adds, (R, L).
    """

    network: nn.Module
    image: Tensor
    inputs: Tensor
    own: Tensor
    places: Tensor
    earlier: Tensor

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: slice | Tensor) -> JoinedRows:
        return replace(self, places=self.places[rows], earlier=self.earlier[rows])

    @property
    def keys(self) -> list[tuple[int, int]]:
        """A key of each row: rows of one key have the same scores."""
        return list(zip(self.places.tolist(), self.earlier.sum(1).tolist(), strict=True))

    def logits(self, outputs: Tensor) -> Tensor:
        """Return the scores of each row's classes, (R, C), from the network's outputs."""
        scores = outputs.reshape(len(self.own), -1)
        own = scores.gather(1, self.own[:, None])[:, 0]
        return scores[self.places] + torch.where(self.earlier, own, 0).sum(1, keepdim=True)


@dataclass(frozen=True, eq=False)
class JoinedPass:
    """A pass for rows of one image."""

    rows: JoinedRows
    network: TracedNetwork
    activations: Tensor  # (1, K, *space)
    outputs: Tensor  # (1, L * C)

    def without_graph(self) -> JoinedPass:
        """Return the pass without the autograd graph of its outputs."""
        return replace(self, activations=self.activations.detach(), outputs=self.outputs.detach())

    def drops(self, targets: Tensor, channels: Tensor | None) -> Tensor:
        """Compute the drops of each row's score, (R, K).

        Args:
            targets: The class of each row, (R,).
            channels: The channels of each row to ablate, (R, K) bool; None: all channels.
        """
        num_places = len(self.rows.own)
        num_classes = self.outputs.shape[1] // num_places
        starts = torch.arange(num_places, device=targets.device) * num_classes
        outputs = torch.cat([starts + self.rows.own, starts[self.rows.places] + targets])
        chosen = None if channels is None else channels.any(0, keepdim=True)
        drops = self.network.ablation_drops(self.activations, outputs[None], chosen)[0]
        of_earlier = (self.rows.earlier[:, :, None] * drops[:num_places]).sum(1)
        return drops[num_places:] + of_earlier


@dataclass(frozen=True, eq=False)
class JoinedPasses:
    """The joined passes of all rows of a trace, in order. `passes[i:j]` are those of some rows."""

    passes: tuple[JoinedPass, ...]

    def __iter__(self) -> Iterator[JoinedPass]:
        return iter(self.passes)

    def __getitem__(self, rows: slice) -> JoinedPasses:
        is_selected = torch.zeros(sum(self._sizes), dtype=torch.bool)
        is_selected[rows] = True
        selected = []
        for each, is_own in zip(self.passes, is_selected.split(self._sizes), strict=True):
            if is_own.any():
                of_rows = each.rows[is_own.to(each.rows.places.device)]
                selected.append(replace(each, rows=of_rows))
        return JoinedPasses(tuple(selected))

    def drops(self, targets: Tensor, channels: Tensor | None = None) -> Tensor:
        """Compute the drops of each row's score, (B, K); see `JoinedPass.drops`."""
        of_passes = zip(
            self.passes,
            targets.split(self._sizes),
            [None] * len(self.passes) if channels is None else channels.split(self._sizes),
            strict=True,
        )
        return torch.cat([each.drops(*arguments) for each, *arguments in of_passes])

    @property
    def _sizes(self) -> list[int]:
        return [len(each.rows) for each in self.passes]
