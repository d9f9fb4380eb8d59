"""Race methods on published values, where the best method of all images is known.

Each race draws images with replacement from one network's published images, so that the mean over
all published images is the truth. It prints how many races are right or undecided, how many are
wrong, and how many images they used. No network is run.

    python scripts/race_on_truth.py --races 500
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from axiom_bench.statistics.choice import LEVEL, Contest, Field, fields, verdict_of
from axiom_bench.statistics.labels import rows_at
from axiom_bench.statistics.race import Race, looks
from axiom_bench.statistics.run_folder import RunFolder

REFERENCE = Path(__file__).parents[1] / "results/reference"
LEAST_PUBLISHED = 50  # images of a network
RIGHT = "right"
UNDECIDED = "no difference"
NOTHING = "nothing shown to be better than a control"
WRONG = "wrong"
CONTROL = "no better than a control"


@dataclass(frozen=True)
class Truth:
    """The published values of a network by one metric."""

    contest: Contest
    field: Field


@dataclass(frozen=True)
class Outcome:
    """The end of one race."""

    result: str
    images: int


def truths(suite: str, metric: str) -> Iterator[Truth]:
    """Yield the published values of each network of a suite that has enough images."""
    for folder in sorted((REFERENCE / suite).iterdir()):
        run = RunFolder.of_suite(folder)
        for setting in run.settings:
            if metric not in run.metrics or not run.ranks_methods(setting):
                continue
            records = rows_at(run.records.rows([metric]), setting)
            contest = Contest.of(records, run.metadata, [metric])
            field = fields(contest).get(metric)
            if field is not None and field.images >= LEAST_PUBLISHED:
                yield Truth(contest, field)


def outcome(truth: Truth, images: int, generator: np.random.Generator) -> Outcome:
    """Return the outcome of a race on images that are drawn from the published ones."""
    field = truth.field
    drawn = generator.integers(field.images, size=images)
    sizes = looks(images)
    candidates = tuple(group[0] for group in field.groups)
    race = Race(candidates, field.controls, LEVEL, len(sizes))
    seen = field
    for size in sizes:
        gains = {name: values[drawn[:size]] for name, values in field.gains.items()}
        seen = replace(field, gains=gains)
        race = race.look(gains)
        if race.is_decided:
            break
    means = {name: float(field.gains[name].mean()) for name in candidates}
    best = max(means.values())
    verdict = verdict_of(truth.contest, seen, race)
    best_control = max(float(field.gains[name].mean()) for name in field.controls)
    if all(means[name] < best for name in race.contenders):
        result = WRONG
    elif verdict.chosen is None:
        result = NOTHING
    elif means[verdict.chosen] <= best_control:
        result = CONTROL
    else:
        result = RIGHT if not verdict.unclear else UNDECIDED
    return Outcome(result, seen.images)


def main() -> None:
    """Print the outcomes of the races on each suite's networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=500)
    parser.add_argument("--suite", default="scenes-1")
    parser.add_argument("--metric", default="single_deletion")
    parser.add_argument("--images", type=int, nargs="+", default=[12, 40, 100])
    options = parser.parse_args()
    networks = list(truths(options.suite, options.metric))
    print(f"{len(networks)} networks, {options.races} races for each number of images")
    for images in options.images:
        generator = np.random.default_rng(images)
        outcomes = []
        with threadpool_limits(1, "blas"):  # small products are slower in several threads
            for number in range(options.races):
                outcomes.append(outcome(networks[number % len(networks)], images, generator))
        counts = Counter(end.result for end in outcomes)
        used = float(np.median([end.images for end in outcomes]))
        shares = ", ".join(f"{name} {count / options.races:.1%}" for name, count in counts.items())
        print(f"{images} images, median {used:.0f} used: {shares}")


if __name__ == "__main__":
    main()
