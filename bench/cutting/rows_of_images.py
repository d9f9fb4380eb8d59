"""Rows of a trace that are of one image: those of its labels share what depends on the image alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace


@dataclass(frozen=True)
class RowsOfImages:
    """Which neighbouring rows of a trace are of one image, as those of its labels are. numbers: the image of each row,
    (B,); places: of each row among those of its image, (B,); both on the CPU. classes: of all rows of each row's image,
    by their place, (B, most); where they are fewer than most, others stand behind them."""

    numbers: Tensor
    places: Tensor
    classes: Tensor

    def __getitem__(self, rows: slice) -> RowsOfImages:
        return RowsOfImages(self.numbers[rows], self.places[rows], self.classes[rows])


def rows_of_images(trace: Trace) -> RowsOfImages:
    """Those of a trace, compared once; padded rows are the last valid one."""

    def compared() -> RowsOfImages:
        valid = trace.num_valid
        is_first = torch.ones(valid, dtype=torch.bool)
        if trace.first_images is None:  # else equal images may be versions of different ones, and draw what these do
            inputs = [each[:valid].reshape(valid, -1) for each in (trace.images, *trace.other_inputs)]
            is_first[1:] = torch.stack([(each[1:] != each[:-1]).any(1) for each in inputs]).any(0).cpu()
        rows, numbers = torch.arange(valid), is_first.cumsum(0) - 1
        firsts = is_first.nonzero()[:, 0][numbers]
        places = rows - firsts
        others = (firsts[:, None] + torch.arange(int(places.max()) + 1)).clamp(max=valid - 1)
        padded = torch.arange(len(trace)).clamp(max=valid - 1)
        return RowsOfImages(numbers[padded], places[padded], trace.targets[others[padded].to(trace.targets.device)])

    return trace.once("rows of images", compared)
