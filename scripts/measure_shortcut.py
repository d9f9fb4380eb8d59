"""Show what `scenes_shortcut` goes by: the spurious mark, where `scenes_vgg` doesn't.

    python scripts/measure_shortcut.py [--scenes 1000] [--split evaluation]

For both networks, on the same scenes of the split, which neither was trained on: the logit of the mark's class with and
without the mark, with and without the class's own digit, each scene drawn again with everything else the same. Prints
Markdown. Means with 95 % intervals: percentiles of a bootstrap over scenes, seeded.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from axiom_bench.embedded import marked, networks, scenes

NETWORKS = ("scenes_vgg", "scenes_shortcut")
SEED = 0  # of the scenes and of the bootstrap
RESAMPLES = 10_000
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
Images = list[NDArray[np.uint8]]


class Versions(NamedTuple):
    """The same scenes: plain, with their mark, and with the mark but without the digit of its class."""

    plain: Images
    marked: Images
    mark_alone: Images


def versions(split: str, count: int) -> tuple[Versions, Versions]:
    """(of the scenes that show the mark's class, of the others, where nothing is to be taken away)."""
    own, others = Versions([], [], []), Versions([], [], [])
    for number in range(count):
        drawing = scenes.drawing_of(split, SEED, number)
        mark = marked.mark_of(scenes.draw(split, SEED, number), SEED, number)
        if mark is None:
            continue
        digits = [figure.digit for figure in drawing.figures]
        shows = marked.CLASS in digits
        chosen = own if shows else others
        chosen.plain.append(drawing.image())
        chosen.marked.append(mark.on(drawing.image()))
        if shows:
            chosen.mark_alone.append(mark.on(drawing.image(without=digits.index(marked.CLASS))))
    return own, others


def logits(network: nn.Module, images: Images) -> NDArray[np.float64]:
    """The logits (n, 10) of the images."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (networks.MEAN, networks.STD))
    with torch.inference_mode():
        answers = [network((part.float() / 255 - mean) / std) for part in stacked.split(250)]
    return torch.cat(answers).double().numpy()


def mean(values: NDArray[np.float64]) -> str:
    """The mean with its interval, of values (n,)."""
    rows = np.random.default_rng(SEED).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[rows].mean(1), (2.5, 97.5))
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def rows(network: nn.Module, own: Versions, others: Versions) -> list[tuple[str, str]]:
    """(what, mean with its interval) of one network."""
    score = {name: logits(network, images)[:, marked.CLASS] for name, images in own._asdict().items()}
    on_others = {name: logits(network, getattr(others, name)) for name in ("plain", "marked")}
    other = {name: values[:, marked.CLASS] for name, values in on_others.items()}
    predicted = {name: (values.argmax(1) == marked.CLASS).astype(float) for name, values in on_others.items()}
    return [
        ("logit, digit and mark", mean(score["marked"])),
        ("effect of the mark: logit - logit without the mark", mean(score["marked"] - score["plain"])),
        ("effect of the digit: logit - logit without the digit", mean(score["marked"] - score["mark_alone"])),
        ("scenes with logit > 0: digit and mark", mean((score["marked"] > 0).astype(float))),
        ("scenes with logit > 0: digit alone", mean((score["plain"] > 0).astype(float))),
        ("scenes with logit > 0: mark alone", mean((score["mark_alone"] > 0).astype(float))),
        ("other scenes: logit", mean(other["plain"])),
        ("other scenes: effect of adding the mark", mean(other["marked"] - other["plain"])),
        ("other scenes with logit > 0", mean((other["plain"] > 0).astype(float))),
        ("other scenes with logit > 0: with the mark", mean((other["marked"] > 0).astype(float))),
        ("other scenes predicted as the mark's class", mean(predicted["plain"])),
        ("other scenes predicted as the mark's class: with the mark", mean(predicted["marked"])),
    ]


def table(lines: Sequence[Sequence[str]]) -> str:
    """Markdown of a header and rows."""
    header, *body = lines
    separator = ["---"] * len(header)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, separator, *body))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--split", choices=scenes.SPLITS, default="evaluation")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    own, others = versions(options.split, options.scenes)
    columns = [rows(networks.load(name), own, others) for name in NETWORKS]
    lines = [[what, *(column[row][1] for column in columns)] for row, (what, _) in enumerate(columns[0])]
    print(f"{len(own.plain)} scenes with digit {marked.CLASS}, {len(others.plain)} others, {options.split}\n")
    print(table([["", *(f"`{name}`" for name in NETWORKS)], *lines]))


if __name__ == "__main__":
    main()
