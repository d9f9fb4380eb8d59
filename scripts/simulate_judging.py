"""Check the judging of metrics on simulated benchmarks, and write what comes of it into docs/judging.md.

python scripts/simulate_judging.py                   # 100 benchmarks of each row; some minutes
python scripts/simulate_judging.py --benchmarks 20   # fewer, printed only
python scripts/simulate_judging.py --run FOLDER      # a run: tau of its halves, as stated from a quarter of its images
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import sqrt
from pathlib import Path

import numpy as np
from scipy.special import ndtr
from simulations import DOCS, markdown, parallel, percent, publish

from axiom_bench.judging.agreement import (
    TAU,
    agreement,
    disagreement,
    interval_alpha,
    ordinal_scores,
    predicted_tau,
    rankings,
    split_half_agreement,
    tau_b,
)
from axiom_bench.judging.judgement import MIN_METHODS, chosen_metrics, compared_values
from axiom_bench.judging.recovery import ALL, SIZES, Spoiling, recovery
from axiom_bench.judging.values import ImageValues, signs
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.run_folder import RunFolder

PAGE = DOCS / "judging.md"
BENCHMARKS = 100
METHODS = 10
IMAGES = (16, 32, 128)
VALUES = ("normal", "heavy-tailed", "0 or 1")
SPREADS = (0.5, 2.0, 8.0)  # of a value around its method's mean, whose own spread is 1
SUBSETS = 20
POPULATION = 50_000
Row = list[str]


def values_of(means: Floats, images: int, spread: float, kind: str, generator: np.random.Generator) -> Floats:
    """(images, methods): a third of a value's variance belongs to its image."""
    noise = generator.normal(size=(images, 1)) / sqrt(3) + generator.normal(size=(images, len(means))) * sqrt(2 / 3)
    values = means + spread * noise
    return {"normal": values, "heavy-tailed": np.exp(values / 2), "0 or 1": (values > 0).astype(float)}[kind]


def alpha_row(kind: str, spread: float, images: int, benchmarks: int) -> Row:
    """How often the interval of alpha holds the alpha of many images."""
    generator, means = np.random.default_rng(0), np.linspace(-1, 1, METHODS)
    scores = ordinal_scores(rankings(values_of(means, 5000, spread, kind, generator)))
    truth = interval_alpha(scores, np.ones((1, len(scores)), dtype=np.uint8))[0]
    found = [agreement(values_of(means, images, spread, kind, generator)) for _ in range(benchmarks)]
    held = np.mean([each.low <= truth <= each.high for each in found])
    return [kind, f"{truth:.2f}", f"{images}", f"{np.mean([each.alpha for each in found]):.2f}", percent(held)]


def recovery_row(kind: str, spread: float, images: int, benchmarks: int) -> Row:
    """Three kinds of spoiling of five degrees, of means in equal steps: shares and how often their intervals hold."""
    generator, degrees = np.random.default_rng(0), np.linspace(0, 1, 5)
    means = np.concatenate([-degrees, -degrees / 2, -(degrees**2)])
    kinds = [Spoiling(str(i), tuple(f"{i}_{k}" for k in range(5)), tuple(degrees.tolist())) for i in range(3)]
    names = tuple(name for each in kinds for name in each.methods)
    places = [(names.index(a), names.index(b)) for each in kinds for a, b in each.pairs(names)]
    left, right = map(list, zip(*places, strict=True))
    population = values_of(means, POPULATION, 2 * spread, kind, generator)
    truth = {}
    for size in SIZES:
        sets = population[: POPULATION // size * size].reshape(-1, size, len(names)).mean(axis=1)
        truth[size] = float((1 + np.sign(sets[:, left] - sets[:, right])).mean() / 2)
    shares: dict[int, list[float]] = {size: [] for size in SIZES}
    held: dict[int, list[bool]] = {size: [] for size in SIZES}
    for _ in range(benchmarks):
        values = ImageValues("", names, values_of(means, images, 2 * spread, kind, generator), "mean", "higher")
        table = recovery(values, kinds)
        for row in table[table["kind"] == ALL].dropna().to_dict("records"):
            shares[row["size"]].append(row["right"])
            held[row["size"]].append(row["low"] <= truth[row["size"]] <= row["high"])
    cells = [
        f"{truth[size]:.3f} / {np.mean(shares[size]):.3f}, {percent(float(np.mean(held[size])))}"
        if shares[size]
        else ""
        for size in SIZES
    ]
    return [kind, f"{images}", *cells]


def halves_row(pattern: str, spread: float, images: int, benchmarks: int) -> Row:
    """tau of halves and its extrapolation against tau between independent sets of images."""
    generator = np.random.default_rng(0)
    pairs = np.triu_indices(METHODS, 1)
    halves, twice, ratios = [], [], []
    for _ in range(benchmarks):
        means = PATTERNS[pattern](generator)

        def tau(count: float, means: Floats = means) -> float:
            """Of two sets of `count` images: a pair is in the right order in both, or in neither."""
            error = spread * sqrt(4 / 3 / count)
            right = ndtr(np.abs(means[pairs[0]] - means[pairs[1]]) / error)
            return float(((2 * right - 1) ** 2).mean())

        values = values_of(means, images, spread, "normal", generator)
        found = split_half_agreement(ImageValues("", tuple(map(str, range(METHODS))), values, "mean", "higher"))
        halves.append(found.tau - tau(found.half))
        twice.append(predicted_tau(found.tau, found.half, 4 * images) - tau(4 * images))
        counts = np.geomspace(1, 1e8, 800)
        needed = counts[int(np.argmax([tau(count) >= TAU for count in counts]))]
        ratios.append(min(max(found.needed, 1), 1e8) / needed)
    cells = [f"{np.mean(each):+.3f} \N{PLUS-MINUS SIGN} {np.std(each):.3f}" for each in (halves, twice)]
    middle = [f"{share:.2g}" for share in np.quantile(ratios, [0.1, 0.5, 0.9])]
    return [pattern, f"{spread:g}", f"{images}", *cells, f"{middle[1]} ({middle[0]} to {middle[2]})"]


PATTERNS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "normal": lambda generator: generator.normal(size=METHODS),
    "equal steps": lambda _: np.linspace(-1.5, 1.5, METHODS),
    "two far below": lambda generator: np.concatenate([[-4, -3], generator.normal(0, 0.5, METHODS - 2)]),
    "three groups": lambda generator: np.repeat([-1, 0, 1], [3, 3, METHODS - 6]) + generator.normal(0, 0.1, METHODS),
}


def disagreement_row(spread: float, images: int, benchmarks: int) -> Row:
    """How often the interval holds tau between the orders of the true means of two metrics that correlate by 0.7."""
    generator, names = np.random.default_rng(0), tuple(map(str, range(METHODS)))
    held, errors = [], []
    for _ in range(benchmarks):
        means = generator.normal(size=METHODS)
        others = 0.7 * means + sqrt(1 - 0.7**2) * generator.normal(size=METHODS)
        truth = float(tau_b(signs(means), signs(others)))
        both = [values_of(each, images, spread, "normal", generator) for each in (means, others)]
        metrics = [ImageValues(str(i), names, each, "mean", "higher") for i, each in enumerate(both)]
        (row,) = disagreement(metrics).to_dict("records")
        held.append(row["low"] <= truth <= row["high"])
        errors.append(row["tau"] - truth)
    error = f"{np.mean(errors):+.3f} \N{PLUS-MINUS SIGN} {np.std(errors):.3f}"
    return [f"{spread:g}", f"{images}", error, percent(np.mean(held))]


def tables(benchmarks: int) -> Iterator[str]:
    """The tables of the page, one after the other."""
    margin = 100 * 1.96 * sqrt(0.95 * 0.05 / benchmarks)
    yield f"{benchmarks:,} simulated benchmarks a row; a share of 95 % is known to {margin:.1f} points either way."
    yield "**Alpha.** How often the 95 % interval holds the alpha of 5,000 images, in per cent:"
    rows = parallel(alpha_row, product(VALUES, SPREADS, IMAGES, [benchmarks]))
    yield markdown([("values", "alpha", "images", "mean of alpha", "held"), *rows])
    yield (
        "**Recovery.** 30 pairs of three kinds: the true share at n = 1, 10, 100 images / the mean of what is stated, "
        "and how often the 95 % interval holds it, in per cent:"
    )
    rows = parallel(recovery_row, product(VALUES, SPREADS, (32, 100, 400), [benchmarks]))
    yield markdown([("values", "images", *(f"n = {size}" for size in SIZES)), *rows])
    yield (
        "**Halves.** Tau of halves, and the tau extrapolated to four times the images, minus the true one: mean and "
        f"deviation. Then the stated n for tau {TAU:g} over the true one: median, and the first and the last tenth."
    )
    rows = parallel(halves_row, product(PATTERNS, (2.0, 8.0), (32, 128), [benchmarks]))
    header = ("methods' means", "spread", "images", "of halves", "extrapolated", f"n for tau {TAU:g}")
    yield markdown([header, *rows])
    yield "**Disagreement.** Tau between two metrics minus that of the true means, and how often its interval holds it:"
    rows = parallel(disagreement_row, product((2.0, 8.0), (32, 128), [benchmarks]))
    yield markdown([("spread", "images", "error of tau", "held"), *rows])


def extrapolated(folder: Path) -> Iterator[str]:
    """A table for each setting of a run: tau of halves of all N images, and what SUBSETS random quarters of the images
    state for N / 2, from halves of N / 8 images."""
    run, generator = RunFolder.read(folder), np.random.default_rng(0)
    for setting in run.settings:
        rows, errors = [], []
        for own in compared_values(run, setting, chosen_metrics(run, None)):
            values, count = own.distinct(), len(own.values)
            if len(values.methods) < MIN_METHODS:
                continue
            seen = split_half_agreement(values)
            stated = []
            for _ in range(SUBSETS):
                part = replace(values, values=values.values[generator.permutation(count)[: count // 4]])
                few = split_half_agreement(part)
                stated.append(predicted_tau(few.tau, few.half, seen.half))
            errors.append(np.mean(stated) - seen.tau)
            error = f"{np.mean(stated):.2f} \N{PLUS-MINUS SIGN} {np.std(stated):.2f}"
            rows.append(
                [
                    run.metadata.value(own.metric).title,
                    f"{len(values.methods)}",
                    f"{seen.half}",
                    f"{seen.tau:.2f}",
                    error,
                ]
            )
        header = ("metric", "methods", "n", "tau seen", f"stated from n = {count // 8}")
        yield f"{run.label(setting)}: mean error {np.mean(errors):+.3f}, mean distance {np.mean(np.abs(errors)):.3f}"
        yield markdown([header, *rows])


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, print, and write the page where all BENCHMARKS were simulated."""
    parser = argparse.ArgumentParser(description="Simulate benchmarks to check the judging of metrics.")
    parser.add_argument("--benchmarks", type=int, default=BENCHMARKS, help="of each row; fewer are printed only")
    parser.add_argument("--run", type=Path, help="of many images, to check what a part of them states")
    options = parser.parse_args(argv)
    if options.run is not None:
        print("\n\n".join(extrapolated(options.run)))
        return 0
    return publish(tables(options.benchmarks), "simulate_judging", PAGE, is_whole=options.benchmarks == BENCHMARKS)


if __name__ == "__main__":
    sys.exit(main())
