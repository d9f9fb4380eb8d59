"""Check the report's statistics on simulated benchmarks, and write what comes of it into docs/statistics.md.

python scripts/simulate_statistics.py                    # 1,000 benchmarks of each kind; about five minutes
python scripts/simulate_statistics.py --benchmarks 100   # fewer, printed only
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from measuring import DOCS, markdown, parallel, percent, publish
from scipy.special import ndtr, ndtri, stdtrit

from axiom_bench.statistics.bootstrap import (
    RESAMPLES,
    Floats,
    Integers,
    mean_intervals,
    median_intervals,
)
from axiom_bench.statistics.comparison import compare_methods

PAGE = DOCS / "statistics.md"
BENCHMARKS = 1000
METHODS = 6
IMAGES = (32, 64, 400)
MANY_IMAGES = 4000  # more than are resampled one by one
LEVEL = 0.05
INTERVALS = ("mean", "median")
ERRORS = (
    "values", "images", "false difference,<br>all alike", "false difference,<br>three better",
    "a best method<br>not bold", "found of the<br>smallest shown",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A distribution of values. of: standard normal numbers -> values. mean, median: of the values."""

    title: str
    of: Callable[[Floats], Floats]
    mean: float
    median: float
    lead: str = "mean"


def _binary(share: float) -> Kind:
    return Kind(f"binary, {share:g} are 1", lambda z: (z > -ndtri(share)).astype(float), share, float(share > 0.5))


def _two_tails(z: Floats) -> Floats:
    """Student's t with 3 degrees of freedom, whose fourth moment is infinite."""
    return np.asarray(stdtrit(3, ndtr(z)))


KINDS = (
    Kind("normal", lambda z: z, 0.0, 0.0),
    Kind("heavy-tailed, one side (log-normal, sigma 1)", np.exp, exp(0.5), 1.0, "median"),
    Kind("heavy-tailed, both sides (Student's t, 3 degrees)", _two_tails, 0.0, 0.0, "median"),
    _binary(0.5),
    _binary(0.9),
)


def benchmark(
    images: int, generator: np.random.Generator, shifts: Sequence[float] = (0.0,) * METHODS
) -> tuple[Floats, Integers]:
    """Standard normal numbers (rows, methods) with the image of each row: one to three objects an image.

    A quarter of the variance each belongs to the image, the image under one method, the object, and the object under
    one method: two methods correlate by 0.5 on an object, and so do two objects of an image under one method.
    """
    image = np.repeat(np.arange(images), generator.integers(1, 4, images))
    parts = [(images, 1), (images, len(shifts)), (len(image), 1), (len(image), len(shifts))]
    of_image, of_image_and_method, of_object, of_object_and_method = (generator.normal(0, 0.5, size) for size in parts)
    return (of_image + of_image_and_method)[image] + of_object + of_object_and_method + np.asarray(shifts), image


def coverage(kind: Kind, images: int, benchmarks: int, seed: int = 0) -> dict[str, float]:
    """How often the report's interval holds the true mean, and the true median."""
    generator, held = np.random.default_rng(seed), defaultdict(list)
    for _ in range(benchmarks):
        numbers, image = benchmark(images, generator)
        values = kind.of(numbers)
        low, high = mean_intervals(values, image)
        held["mean"].append(((low <= kind.mean) & (kind.mean <= high)).mean())
        if "binary" not in kind.title:
            low, high = median_intervals(values, image)
            held["median"].append(((low <= kind.median) & (kind.median <= high)).mean())
    return {name: float(np.mean(shares)) for name, shares in held.items()}


@dataclass(frozen=True)
class Errors:
    """Shares of simulated benchmarks. family: a pair without a difference is called different, or one with a difference
    the wrong way round. best: a best method isn't among the bold ones. found: pairs with a difference that are
    found."""

    family: float
    best: float
    found: float


def errors(
    kind: Kind, images: int, benchmarks: int, shifts: Sequence[float] = (0.0,) * METHODS, seed: int = 0
) -> Errors:
    """Of the whole procedure: all pairs, Holm, bold; shifts: of the normal numbers that values are made of, by method;
    the larger a value the better, so that the methods with the largest shift are the best."""
    generator, names = np.random.default_rng(seed), [str(place) for place in range(len(shifts))]
    shift = dict(zip(names, shifts, strict=True))
    family, lost, found = 0, 0, []
    for _ in range(benchmarks):
        numbers, image = benchmark(images, generator, shifts)
        comparison = compare_methods(kind.of(numbers), image, names, "higher", kind.lead, intervals=False)
        assert comparison is not None
        false = False
        for pair in comparison.pairs.to_dict("records"):
            truth = np.sign(shift[pair["first"]] - shift[pair["second"]])
            is_found = pair["adjusted"] < LEVEL
            false |= bool(is_found and np.sign(pair["effect"]) != truth)
            if truth:
                found.append(is_found and np.sign(pair["effect"]) == truth)
        is_best = comparison.places["is_best"]
        family += false
        lost += bool(is_best.any()) and not all(is_best[name] for name in names if shift[name] == max(shifts))
    return Errors(family / benchmarks, lost / benchmarks, float(np.mean(found)) if found else float("nan"))


def shown(kind: Kind, images: int, benchmarks: int, seed: int = 0) -> float:
    """How often a pair is found that differs by the median of what such benchmarks call the smallest difference
    shown."""
    generator, names = np.random.default_rng(seed), [str(place) for place in range(METHODS)]
    smallest: list[float] = []
    for _ in range(max(benchmarks // 10, 10)):
        numbers, image = benchmark(images, generator)
        comparison = compare_methods(kind.of(numbers), image, names, "higher", kind.lead)
        assert comparison is not None
        smallest.extend(comparison.pairs["detectable"])
    difference, found = float(np.median(smallest)), 0
    for _ in range(benchmarks):
        numbers, image = benchmark(images, generator)
        values = kind.of(numbers)
        values[:, 0] += difference
        comparison = compare_methods(values, image, names, "higher", kind.lead, intervals=False)
        assert comparison is not None
        found += comparison.pair("0", "1")["adjusted"] < LEVEL
    return found / benchmarks


def tables(benchmarks: int) -> Iterator[str]:
    """The tables of the page, one after the other."""
    margin = 100 * 1.96 * sqrt(0.95 * 0.05 / benchmarks)
    yield (
        f"{benchmarks:,} simulated benchmarks of each kind and size (a quarter as many of {MANY_IMAGES:,} images), "
        f"{METHODS} methods, 1 to 3 objects an image, {RESAMPLES:,} resamples. A share of 95 % is known to "
        f"{margin:.1f} points either way or better, since a benchmark has {METHODS} intervals."
    )
    yield "How often a 95 % interval holds the true value, in per cent:"
    yield markdown([("values", "images", *INTERVALS), *_rows(_coverage_row, (*IMAGES, MANY_IMAGES), benchmarks)])
    yield (
        "How often a comparison of all methods makes at least one error, in per cent: with all methods alike any "
        "difference that is found is false; with three of six better than the rest, a difference within either half, "
        f"or the wrong way round. Goal: at most 5.0, known to {margin:.1f}. Last, how often a pair is found that "
        "differs by the smallest difference shown; goal 80."
    )
    yield markdown([ERRORS, *_rows(_error_row, IMAGES, benchmarks)])


def _coverage_row(place: int, images: int, benchmarks: int) -> list[str]:
    held = coverage(KINDS[place], images, benchmarks if images < MANY_IMAGES else max(benchmarks // 4, 1))
    return [KINDS[place].title, f"{images:,}", *(_percent(held.get(name)) for name in INTERVALS)]


def _error_row(place: int, images: int, benchmarks: int) -> list[str]:
    kind, better = KINDS[place], (0.5,) * (METHODS // 2) + (0.0,) * (METHODS - METHODS // 2)
    alike, some = errors(kind, images, benchmarks), errors(kind, images, benchmarks, better, seed=1)
    power = None if "binary" in kind.title else shown(kind, images, benchmarks)
    return [kind.title, f"{images:,}", *map(_percent, (alike.family, some.family, some.best, power))]


def _rows(row: Callable[[int, int, int], list[str]], sizes: Sequence[int], benchmarks: int) -> list[list[str]]:
    """A row for each kind and number of images."""
    return parallel(row, [(place, images, benchmarks) for place in range(len(KINDS)) for images in sizes])


def _percent(share: float | None) -> str:
    return "" if share is None else percent(share)


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, print, and write the page where all BENCHMARKS were simulated."""
    parser = argparse.ArgumentParser(description="Simulate benchmarks to check the report's statistics.")
    parser.add_argument(
        "--benchmarks", type=int, default=BENCHMARKS, help="of each kind and size; fewer are printed only"
    )
    benchmarks = parser.parse_args(argv).benchmarks
    return publish(tables(benchmarks), "simulate_statistics", PAGE, benchmarks == BENCHMARKS)


if __name__ == "__main__":
    sys.exit(main())
