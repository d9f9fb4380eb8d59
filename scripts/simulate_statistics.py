"""How often the report's intervals and comparisons are wrong, on simulated benchmarks whose truth is known.

python scripts/simulate_statistics.py                   # the table of docs/studies/statistics.md; minutes
python scripts/simulate_statistics.py --benchmarks 50   # coarser
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import exp, sqrt
from typing import NamedTuple

import numpy as np
from measuring import markdown
from scipy.special import ndtr, ndtri, stdtrit

from axiom_bench.statistics.bootstrap import Floats, Integers
from axiom_bench.statistics.comparison import Comparison, compare_methods
from axiom_bench.statistics.labels import Value
from axiom_bench.statistics.paired_tests import LEVEL

BENCHMARKS = 150
SIZES = (10, 20, 50, 200, 500)
METHODS = tuple("abcdef")
SMALL = 0.3  # of a standard deviation: by how much three of the methods are better
HEADER = (
    "values", "images", "interval holds", "of a pair", "alike: an error", "other shapes: an error",
    "three better: an error", "found",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """How values are made of standard normal numbers. of: of a method; other: of every second one, with the same mean,
    or median, and another shape. most: rows an image, from 1 up to so many."""

    title: str
    kind: str
    of: Callable[[Floats], Floats]
    other: Callable[[Floats], Floats]
    centre: float
    most: int = 3


class Errors(NamedTuple):
    """Of one benchmark. values, pairs: the shares of intervals that hold the truth. wrong: whether a pair without a
    difference is called different, or one the wrong way round. found: the share of pairs with a difference that are
    found."""

    values: float
    pairs: float
    wrong: float
    found: float


def _tied(z: Floats) -> Floats:
    """Over half are 0, the others in steps."""
    return np.asarray(np.maximum(np.round(2 * z) / 2, 0.0))


def _skewed(z: Floats) -> Floats:
    return np.asarray(np.exp(z))


def _in_steps(z: Floats) -> Floats:
    return np.asarray(np.round(2 * np.exp(z)) / 2)


TIED = float(sum(step / 2 * (ndtr((step + 0.5) / 2) - ndtr((step - 0.5) / 2)) for step in range(1, 40)))
CASES = (
    Case("normal", "unbounded", lambda z: z, lambda z: 2 * z, 0.0),
    Case("skewed (log-normal)", "unbounded", _skewed, lambda z: exp(0.5) + z, exp(0.5)),
    Case("heavy-tailed (Student's t, 3)", "unbounded", lambda z: np.asarray(stdtrit(3, ndtr(z))), lambda z: z, 0.0),
    Case("tied, over half are 0", "count", _tied, lambda z: TIED + z, TIED),
    Case("up to 30 rows an image", "bounded", lambda z: z, lambda z: 2 * z, 0.0, 30),
    Case(
        "0 or 1, half are 1",
        "proportion",
        lambda z: (z > 0).astype(np.float64),
        lambda z: (z < 0).astype(np.float64),
        0.5,
    ),
    Case(
        "0 or 1, a tenth is 1",
        "proportion",
        lambda z: (z > ndtri(0.9)).astype(np.float64),
        lambda z: (z < ndtri(0.1)).astype(np.float64),
        0.1,
    ),
    Case("median, skewed (log-normal)", "ratio", _skewed, lambda z: 1 + z, 1.0),
    Case("median, skewed and tied", "squared", _in_steps, lambda z: np.asarray(1 + np.round(2 * z) / 2), 1.0),
    Case("median, up to 30 rows an image", "ratio", _skewed, lambda z: 1 + z, 1.0, 30),
)


def numbers(images: int, most: int, generator: np.random.Generator) -> tuple[Floats, Integers]:
    """Standard normal numbers (rows, methods) with the image of each row.

    A quarter of the variance each belongs to the image, the image under one method, the row, and the row under one
    method: two methods correlate by 0.5 on a row, and so do two rows of an image under one method.
    """
    image, count = np.repeat(np.arange(images), generator.integers(1, most + 1, images)), len(METHODS)
    parts = [(images, 1), (images, count), (len(image), 1), (len(image), count)]
    of_image, of_image_and_method, of_row, of_row_and_method = (generator.normal(0, 0.5, size) for size in parts)
    return (of_image + of_image_and_method)[image] + of_row + of_row_and_method, image


def simulate(case: Case, images: int, how: str, benchmarks: int) -> Errors:
    """The mean over benchmarks. how: "alike", "shapes" (every second method has the other shape), or "better" (three
    are, by SMALL)."""
    generator, count = np.random.default_rng(images), len(METHODS)
    value, seen = Value("m", "m", better="higher", kind=case.kind), []
    shifts = np.where(np.arange(count) < count // 2, SMALL, 0.0) * (how == "better")
    for _ in range(benchmarks):
        z, image = numbers(images, case.most, generator)
        values = case.of(z + shifts) if case.kind == "proportion" else case.of(z) + shifts
        if how == "shapes":
            values[:, ::2] = case.other(z[:, ::2])
        comparison = compare_methods(values, image, METHODS, value)
        assert comparison is not None
        seen.append(_errors(comparison, dict(zip(METHODS, shifts, strict=True)), case.centre))
    return Errors(*np.mean(seen, axis=0))


def _errors(comparison: Comparison, shift: dict[str, float], centre: float) -> Errors:
    places, pairs = comparison.places, comparison.pairs
    truth = np.array([shift[first] - shift[second] for first, second in pairs[["first", "second"]].to_numpy()])
    is_found = (pairs["adjusted"] < LEVEL).to_numpy()
    is_right = np.sign(pairs["difference"].to_numpy()) == np.sign(truth)
    held = (places["value_low"] <= centre) & (centre <= places["value_high"])
    equal = truth == 0
    pairs_held = ((pairs["low"] <= 0) & (pairs["high"] >= 0)).to_numpy()[equal]
    found = float(np.mean((is_found & is_right)[~equal])) if (~equal).any() else 0.0
    return Errors(held.mean(), pairs_held.mean(), (is_found & ~(is_right & ~equal)).any(), found)


def row(place: int, images: int, benchmarks: int) -> tuple[str, ...]:
    """Of HEADER."""
    case = CASES[place]
    alike, shapes, better = (simulate(case, images, how, benchmarks) for how in ("alike", "shapes", "better"))
    shares = (alike.values, alike.pairs, alike.wrong, shapes.wrong, better.wrong, better.found)
    return (case.title, f"{images}", *(f"{100 * share:.1f}" for share in shares))


def tables(benchmarks: int) -> Iterator[str]:
    """What the page has."""
    margin = 196 * sqrt(LEVEL * (1 - LEVEL) / benchmarks)
    yield (
        f"{benchmarks:,} benchmarks of {len(METHODS)} methods for each cell, in per cent. An interval should hold the "
        "truth in 95.0 (of a pair: a difference of 0); "
        f"at most {100 * LEVEL:.1f} benchmarks should have an error among all pairs, known to "
        f"{margin:.1f}. Three better: by {SMALL} of a standard deviation of the numbers behind the values."
    )
    cases = [(place, images, benchmarks) for place in range(len(CASES)) for images in SIZES]
    with ProcessPoolExecutor() as processes:
        yield markdown([HEADER, *processes.map(row, *zip(*cases, strict=True))])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Simulate benchmarks to check the report's statistics.")
    parser.add_argument("--benchmarks", type=int, default=BENCHMARKS, help="of each cell")
    for part in tables(parser.parse_args(argv).benchmarks):
        print(part, end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
