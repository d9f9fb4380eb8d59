"""How often the report's intervals and comparisons, and the tests of the gate, are wrong, on simulated benchmarks whose
truth is known.

python scripts/simulate_statistics.py                   # the tables of docs/studies/statistics.md; minutes
python scripts/simulate_statistics.py --benchmarks 50   # coarser
python scripts/simulate_statistics.py --networks        # the intervals over trainings alone
python scripts/simulate_statistics.py --benchmarks 2000 --gate --images 20 30 --values skewed    # a few cells of it
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from math import exp, sqrt

import numpy as np
from measuring import markdown
from scipy.special import ndtr, ndtri, stdtrit

from axiom_bench.gate import sampled
from axiom_bench.statistics.bootstrap import RESAMPLES, Floats, Integers, nearest_quantiles, over_networks
from axiom_bench.statistics.comparison import Comparison, compare_methods
from axiom_bench.statistics.labels import Value
from axiom_bench.statistics.paired_tests import LEVEL, holm

BENCHMARKS = 200
SIZES = (10, 20, 50, 200)
METHODS = tuple("abcdef")
HALF = len(METHODS) // 2
SMALL = 0.3  # of a standard deviation: by how much half of the methods are better
HOW = ("alike", "shapes", "better")
HEADER = (
    "values", "images", "interval holds", "of a pair", "alike: an error", "other shapes: an error",
    "three better: an error", "found",
)  # fmt: skip
OF_GATE = (
    "values", "images", "alike: an error", "other shapes: an error", "found", "other images, alike: an error",
    "other images: found",
)  # fmt: skip

OF_NETWORKS = (
    "statistic", "networks", "spread of the networks", "networks and images", "images alone", "percentiles of both",
)  # fmt: skip
NETWORKS, SPREADS, IMAGES = (3, 5, 10), (0.0, 0.1, 0.3, 1.0), 64


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


def _tied(z: Floats) -> Floats:
    """Over half are 0, the others in steps."""
    return np.asarray(np.maximum(np.round(2 * z) / 2, 0.0))


def _skewed(z: Floats) -> Floats:
    return np.asarray(np.exp(z))


def _in_steps(z: Floats) -> Floats:
    return np.asarray(np.round(2 * np.exp(z)) / 2)


def _ones(z: Floats, share: float) -> Floats:
    return np.asarray((z > ndtri(1 - share)) * 1.0)


TIED = float(sum(step / 2 * (ndtr((step + 0.5) / 2) - ndtr((step - 0.5) / 2)) for step in range(1, 40)))
CASES = (
    Case("normal", "unbounded", lambda z: z, lambda z: 2 * z, 0.0),
    Case("skewed (log-normal)", "unbounded", _skewed, lambda z: exp(0.5) + z, exp(0.5)),
    Case("heavy-tailed (Student's t, 3)", "unbounded", lambda z: np.asarray(stdtrit(3, ndtr(z))), lambda z: z, 0.0),
    Case("tied, over half are 0", "count", _tied, lambda z: TIED + z, TIED),
    Case("up to 30 rows an image", "bounded", lambda z: z, lambda z: 2 * z, 0.0, 30),
    Case("0 or 1, half are 1", "proportion", lambda z: _ones(z, 0.5), lambda z: _ones(-z, 0.5), 0.5),
    Case("0 or 1, a tenth is 1", "proportion", lambda z: _ones(z, 0.1), lambda z: _ones(-z, 0.1), 0.1),
    Case("median, skewed (log-normal)", "ratio", _skewed, lambda z: 1 + z, 1.0),
    Case("median, skewed and tied", "squared", _in_steps, lambda z: np.asarray(1 + np.round(2 * z) / 2), 1.0),
    Case("median, up to 30 rows an image", "ratio", _skewed, lambda z: 1 + z, 1.0, 30),
    Case("shares (uniform)", "bounded", lambda z: np.asarray(ndtr(z)), lambda z: 0.25 + ndtr(z) / 2, 0.5, 1),
    Case("rare hits, one in 20", "bounded", lambda z: _ones(z, 0.05), lambda z: 0.05 + z / 1000, 0.05, 1),
    Case("rare outliers (log-normal, 1.2)", "unbounded", lambda z: np.exp(1.2 * z), lambda z: exp(0.72) + z / 100,
         exp(0.72), 1),
)  # fmt: skip


def numbers(images: int, most: int, generator: np.random.Generator) -> tuple[Floats, Integers]:
    """Standard normal numbers (rows, methods) with the image of each row.

    A quarter of the variance each belongs to the image, the image under one method, the row, and the row under one
    method: two methods correlate by 0.5 on a row, and so do two rows of an image under one method.
    """
    image, count = np.repeat(np.arange(images), generator.integers(1, most + 1, images)), len(METHODS)
    parts = [(images, 1), (images, count), (len(image), 1), (len(image), count)]
    of_image, of_image_and_method, of_row, of_row_and_method = (generator.normal(0, 0.5, size) for size in parts)
    return (of_image + of_image_and_method)[image] + of_row + of_row_and_method, image


def benchmarks_of(place: int, images: int, how: str, count: int) -> Iterator[tuple[Floats, Integers]]:
    """Values (rows, methods) with the image of each row. how: "alike", "shapes" (the last half of the methods has the
    other shape), or "better" (it is, by SMALL)."""
    case, generator = CASES[place], np.random.default_rng((place, images))
    for _ in range(count):
        z, image = numbers(images, case.most, generator)
        values = case.of(z)
        if how == "shapes":
            values[:, HALF:] = case.other(z[:, HALF:])
        elif how == "better":
            is_limited = case.kind in ("proportion", "bounded")
            values[:, HALF:] = case.of(z[:, HALF:] + SMALL) if is_limited else values[:, HALF:] + SMALL
        yield values, image


def errors(comparison: Comparison, centre: float, is_better: bool) -> tuple[float, ...]:
    """The shares of intervals of values and of pairs that hold the truth; whether a pair without a difference is called
    different, or one the wrong way round; the share of pairs with a difference that are found."""
    places, pairs = comparison.places, comparison.pairs
    is_ahead = [(pairs[side] >= METHODS[HALF]).to_numpy() * is_better for side in ("first", "second")]
    truth = is_ahead[0].astype(int) - is_ahead[1]
    is_found = (pairs["adjusted"] < LEVEL).to_numpy()
    is_right = is_found & (np.sign(pairs["difference"].to_numpy()) == truth) & (truth != 0)
    held = (places["value_low"] <= centre) & (centre <= places["value_high"])
    pairs_held = ((pairs["low"] <= 0) & (pairs["high"] >= 0)).to_numpy()[truth == 0]
    found = float(is_right[truth != 0].mean()) if truth.any() else 0.0  # none where no value shows a difference
    return held.mean(), pairs_held.mean() if len(pairs_held) else 1.0, (is_found & ~is_right).any(), found


def of_report(place: int, images: int, count: int) -> tuple[float, ...]:
    """Of HEADER, from its third."""
    case, shares = CASES[place], {}
    value = Value("m", "m", better="higher", kind=case.kind)
    for how in HOW:
        compared = (compare_methods(*made, METHODS, value) for made in benchmarks_of(place, images, how, count))
        shares[how] = np.mean([errors(one, case.centre, how == "better") for one in compared if one], axis=0)
    alike, shapes, better = (shares[how] for how in HOW)
    return (*alike[:3], shapes[2], *better[2:])


def of_gate(place: int, images: int, count: int) -> tuple[float, ...]:
    """Of OF_GATE, from its third: the first half of the methods is the baseline, the last the run."""
    value, shares = Value("m", "m", better="higher", kind=CASES[place].kind), []
    for are_paired, how in [(True, "alike"), (True, "shapes"), (True, "better"), (False, "alike"), (False, "better")]:
        made = list(benchmarks_of(place, images, how, count))
        found = []
        for (before, image), (after, other) in zip(made, made if are_paired else made[1:] + made[:1], strict=True):
            sides = zip(before[:, :HALF].T, after[:, HALF:].T, strict=True)
            p = (sampled.p_of_change(side, (image, other), are_paired, value.lead, value) for side in sides)
            found.append(np.array(holm(p)) < LEVEL)
        shares.append(float(np.mean(found) if how == "better" else np.any(found, axis=1).mean()))
    return tuple(shares)


def of_networks(lead: str, networks: int, spread: float, count: int) -> tuple[float, ...]:
    """Of OF_NETWORKS, from its fourth: the shares of intervals that hold the truth. Log-normal values of 64 images, a
    half of the variance of whose logarithm all networks share, and a normal shift of each network."""
    generator = np.random.default_rng((networks, int(10 * spread)))
    images, held = np.arange(IMAGES), []
    truth = exp(0.5) if lead == "mean" else 1.0
    statistic: Callable[..., Floats] = np.mean if lead == "mean" else np.median
    for _ in range(count):
        z = generator.normal(0, sqrt(0.5), (IMAGES, 1)) + generator.normal(0, sqrt(0.5), (IMAGES, networks))
        values = np.exp(z) + generator.normal(0, spread, networks)
        found = over_networks(values, images, lead)
        drawn = generator.integers(IMAGES, size=(RESAMPLES, IMAGES))
        chosen = generator.integers(networks, size=(RESAMPLES, networks))
        both = np.take_along_axis(statistic(values[drawn], axis=1), chosen, axis=1).mean(axis=1)
        ends = (found.of_all, found.of_these, nearest_quantiles(both))
        held.append([low <= truth <= high for low, high in ends])
    return tuple(np.mean(held, axis=0))


def table_of_networks(count: int) -> str:
    """The coverage of intervals over networks."""
    settings = list(product(("mean", "median"), NETWORKS, SPREADS))
    with ProcessPoolExecutor() as processes:
        shares = list(processes.map(of_networks, *zip(*settings, strict=True), [count] * len(settings)))
    rows = [(*map(str, at), *(f"{100 * share:.1f}" for share in row)) for at, row in zip(settings, shares, strict=True)]
    return markdown([OF_NETWORKS, *rows])


Table = tuple[Sequence[str], Callable[[int, int, int], tuple[float, ...]]]
TABLES: Sequence[Table] = ((HEADER, of_report), (OF_GATE, of_gate))


def tables(benchmarks: int, images: Sequence[int], values: str, of: Sequence[Table]) -> Iterator[str]:
    """What the page has, of the cases whose titles begin with `values`."""
    margin = 196 * sqrt(LEVEL * (1 - LEVEL) / benchmarks)
    yield (
        f"{benchmarks:,} benchmarks of {len(METHODS)} methods for each cell, in per cent. An interval should hold the "
        "truth in 95.0 (of a pair: a difference of 0); "
        f"at most {100 * LEVEL:.1f} benchmarks should have an error among all pairs, known to "
        f"{margin:.1f}. Three better: by {SMALL} of a standard deviation of the numbers behind the values."
    )
    chosen = [place for place, case in enumerate(CASES) if case.title.startswith(values)]
    places, sizes = zip(*product(chosen, images), strict=True)
    with ProcessPoolExecutor() as processes:
        for header, measure in of:
            shares = processes.map(measure, places, sizes, [benchmarks] * len(sizes))
            cells = ([f"{100 * share:.1f}" for share in row] for row in shares)
            names = ((CASES[place].title, f"{size}") for place, size in zip(places, sizes, strict=True))
            yield markdown([header, *((*name, *row) for name, row in zip(names, cells, strict=True))])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Simulate benchmarks to check the report's statistics.")
    parser.add_argument("--benchmarks", type=int, default=BENCHMARKS, help="of each cell")
    parser.add_argument("--networks", action="store_true", help="the intervals over networks alone")
    parser.add_argument("--images", type=int, nargs="+", default=SIZES, help="of the benchmarks")
    parser.add_argument("--values", default="", help="how their titles begin")
    parser.add_argument("--gate", action="store_true", help="the gate's table alone")
    options = parser.parse_args(argv)
    if not options.networks:
        of = TABLES[1:] if options.gate else TABLES
        for part in tables(options.benchmarks, options.images, options.values, of):
            print(part, end="\n\n")
    if not options.gate:
        print(table_of_networks(options.benchmarks), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
