"""Check the sampled gate on simulated runs, and write what comes of it into docs/ci.md.

python scripts/simulate_gate.py                # 1,000 gates of each kind and size; about a quarter of an hour
python scripts/simulate_gate.py --gates 100    # fewer, printed only
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from measuring import DOCS, markdown, parallel, percent, publish

from axiom_bench.gate.by_image import ByImage
from axiom_bench.gate.findings import KEY, Finding, Limit
from axiom_bench.gate.sampled import values
from axiom_bench.statistics.bootstrap import Floats

PAGE = DOCS / "ci.md"
GATES = 1000
SHIFTED = 4  # one in so many gates of a kind and size has a row that moved, for each of SHIFTS
METHODS, METRICS = 5, 4  # the family: 20 rows
IMAGES = (32, 256)
SHIFTS = (0.25, 0.5, 1.0)  # in standard deviations of the difference of one image's values
NO_EFFECT = Limit("mean", 0.0, False, floor=0.0)  # no minimum: every significant change is a finding


@dataclass(frozen=True)
class Kind:
    """How values have chance in them. of: standard normal numbers -> values. are_paired: whether the images are the
    same, so that values of one image go together."""

    title: str
    of: Callable[[Floats], Floats]
    are_paired: bool = True


KINDS = (
    Kind("the same images, normal", lambda z: z),
    Kind("the same images, heavy-tailed", np.exp),
    Kind("the same images, 0 or 1", lambda z: (z > 0).astype(float)),
    Kind("other images, normal", lambda z: z, are_paired=False),
    Kind("other images, heavy-tailed", np.exp, are_paired=False),
)


def sides(kind: Kind, images: int, generator: np.random.Generator, shift: float = 0.0) -> tuple[ByImage, ByImage]:
    """Two runs of one setting. Half of the variance belongs to the image, which is the same on both sides of paired
    ones. shift: of the normal numbers of the first row, on the second side, in standard deviations of the difference of
    two values of an image."""
    shape = (images, METHODS * METRICS)
    image = generator.normal(0, sqrt(0.5), shape)
    before = image + generator.normal(0, sqrt(0.5), shape)
    after = (image if kind.are_paired else generator.normal(0, sqrt(0.5), shape)) + generator.normal(
        0, sqrt(0.5), shape
    )
    after[:, 0] += shift * (1.0 if kind.are_paired else sqrt(2.0))
    first = 0 if kind.are_paired else images
    return _by_image(kind.of(before), 0), _by_image(kind.of(after), first)


def _by_image(numbers: Floats, first: int) -> ByImage:
    """numbers: (images, rows). first: the number of the first image."""
    images, rows = numbers.shape
    names = [(f"method {row // METRICS}", f"metric {row % METRICS}") for row in range(rows)]
    table = pd.DataFrame({
        **dict.fromkeys(KEY[:3], "one"),
        "method": np.tile([method for method, _ in names], images),
        "metric": np.tile([metric for _, metric in names], images),
        "image_id": np.repeat([f"{first + image:05d}" for image in range(images)], rows),
        "target_class": 0,
        "value": numbers.ravel(),
    })  # fmt: skip
    return ByImage(table, pd.DataFrame(columns=[*KEY, "value", "replicates"]))


def gated(kind: Kind, images: int, generator: np.random.Generator, shift: float = 0.0) -> list[Finding]:
    """The findings of one simulated gate, without a minimum effect."""
    limits = {f"metric {metric}": (NO_EFFECT,) for metric in range(METRICS)}
    return values(*sides(kind, images, generator, shift), limits, {})


def false_alarms(kind: Kind, images: int, gates: int, generator: np.random.Generator) -> float:
    """The share of gates that find anything where only chance differs."""
    return sum(bool(gated(kind, images, generator)) for _ in range(gates)) / gates


def power(kind: Kind, images: int, shift: float, gates: int, generator: np.random.Generator) -> float:
    """The share of gates that find the one row that moved."""
    row = ("one", "one", "one", "method 0", "metric 0")
    found = [gated(kind, images, generator, shift) for _ in range(gates)]
    return sum(any(finding.row == row for finding in findings) for findings in found) / gates


def shares(place: int, images: int, gates: int) -> list[float]:
    """The false alarms, then the power for each of SHIFTS, of a kind by its place in KINDS; with a seed of its own."""
    generator, kind = np.random.default_rng([place, images]), KINDS[place]
    found = [power(kind, images, shift, _few(gates), generator) for shift in SHIFTS]
    return [false_alarms(kind, images, gates, generator), *found]


def tables(gates: int) -> Iterator[str]:
    """The parts of the page, one after the other."""
    cases = [(place, images) for place in range(len(KINDS)) for images in IMAGES]
    rows = parallel(shares, [(*case, gates) for case in cases])
    overall = sum(row[0] for row in rows) / len(rows)
    yield (
        f"{gates:,} simulated gates of each kind and size, {METHODS * METRICS} rows, without a minimum effect. False "
        "alarms: the share of gates with any finding where only chance differs, in per cent; goal: at most 5.0, known "
        f"to {_margin(gates)}; {percent(overall)} over all, known to {_margin(gates * len(rows))}. Then how often one "
        "row that moved by so many standard deviations of the difference of an image's two values is found, in per "
        f"cent of {_few(gates):,} gates."
    )
    head = ["values", "images", "false alarms", *(f"moved by {shift:g}" for shift in SHIFTS)]
    lines = [
        [KINDS[place].title, f"{images:,}", *map(percent, row)]
        for (place, images), row in zip(cases, rows, strict=True)
    ]
    yield markdown([head, *lines])


def _few(gates: int) -> int:
    return max(gates // SHIFTED, 1)


def _margin(gates: int) -> str:
    return percent(1.96 * sqrt(0.05 * 0.95 / gates))


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, print, and write the page where all GATES were simulated."""
    parser = argparse.ArgumentParser(description="Simulate runs to check the sampled gate.")
    parser.add_argument("--gates", type=int, default=GATES, help="of each kind and size; fewer are printed only")
    gates = parser.parse_args(argv).gates
    return publish(tables(gates), "simulate_gate", PAGE, gates == GATES)


if __name__ == "__main__":
    sys.exit(main())
