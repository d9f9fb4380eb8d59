"""What the fast forms of metrics cost and how far they move means: each beside the metric that it stands for.

    python scripts/study_budget.py [--scenes 400] [--photographs 50] [--forms NAME,NAME] [--folder build/study_budget]
                                   [OVERRIDE ...]

Runs scenes_vgg on scenes, and resnet18 on photographs where real_root exists, with the fast forms, all or those of
--forms, and the metrics that they stand for. What is computed stays in --folder: the same command goes on where it
stopped, and --read prints what is there so far. Prints Markdown: of each value the passes of an image at the run's
methods, the largest change of a method's mean over the standard error of 400 images, and what the differences of
single images would change by chance at n = 400; then rules for the areas under the stored curves of insertion and
deletion, by their error. 0 leaves a network out. Overrides are those of `axiom-bench`.
"""

from __future__ import annotations

import axiom_bench as ab  # noqa: F401  before torch, whose idle threads would otherwise take a core

# isort: split
import argparse
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from axiom_bench import metrics
from axiom_bench.cli.benchmark import compute
from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.loop import trace_of_batch
from axiom_bench.evaluation.plugins import value_names
from axiom_bench.metrics.shared.adaptive_curves import adaptive_area
from axiom_bench.records import reading
from axiom_bench.run.compute import cut_of, first_row
from axiom_bench.run.costs import Cost
from axiom_bench.run.job import Job
from axiom_bench.run.sweep import configuration

N = 400  # images of the standard error that changes are held against
QUIET = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0", "target=label", "shard_size=4",
         "data.batch_size=4")  # fmt: skip
NETWORKS = {
    "scenes": ("experiment=quick", "model=scenes_vgg"),
    "photographs": ("experiment=real", "model=resnet18"),
}
CURVES = {"insertion": "insertion_auc", "deletion": "deletion_auc"}
PASSES = (6, 10, 16, 28)  # of the rules for areas

Weights = tuple[np.ndarray, np.ndarray]  # positions of a rule, and how much each counts


def pairs() -> dict[str, str]:
    """{fast form: the metric that it stands for}."""
    forms = {name: metrics.get(name).spec.fast_form_of for name in metrics.names()}
    return {name: metric for name, metric in forms.items() if metric}


def values() -> Iterator[tuple[str, str]]:
    """(value of a metric, the same of its fast form)."""
    for fast, metric in pairs().items():
        yield from zip(value_names(metrics.get(metric)), value_names(metrics.get(fast)), strict=True)


def changes(records: pd.DataFrame) -> pd.DataFrame:
    """A row for each value and method: n, the change of the mean, the standard error of N images, and `chance`, the
    change that the spread of the differences makes at n = N, over that standard error."""
    keys = ["method", "image_id", "target_class"]
    wide = records[records["status"] == OK].pivot(index=keys, columns="metric", values="value")
    rows = []
    for name, fast in values():
        if name not in wide or fast not in wide:
            continue
        for method, both in wide[[name, fast]].dropna().groupby("method", observed=True):
            difference, spread = both[fast] - both[name], both[name].std()
            if len(both) > 1 and spread > 0:
                rows.append((name, method, len(both), difference.mean(), spread / N**0.5, difference.std() / spread))
    return pd.DataFrame(rows, columns=["value", "method", "n", "change", "error", "chance"])


def costs(overrides: Sequence[str]) -> tuple[dict[str, tuple[float, float]], tuple[float, float]]:
    """Passes of an image and class at the run's methods, before and after: of each value, with all that its metric
    asks, also where another metric shares it, and of `metric=all` and `metric=all_fast`."""
    job = Job.of(configuration([*overrides, f"metric=[{','.join(metrics.names())}]"]))
    row = first_row(job)
    if row is None:
        raise BenchError("No image can be read.")
    trace = trace_of_batch(cut_of(job), row)
    methods = Cost.of(job.methods, [], trace)

    def passes(names: Collection[str]) -> float:
        asked = Cost.of([], [metric for metric in job.metrics if metric.name in names], trace)
        return replace(asked, of_methods=methods.of_methods, together=methods.together).per_image

    once, everything = passes([]), set(metrics.names())
    by_metric = {metric: (passes([metric]) - once, passes([fast]) - once) for fast, metric in pairs().items()}
    of_values = {name: by_metric[metric] for metric in by_metric for name in value_names(metrics.get(metric))}
    return of_values, (passes(everything - set(pairs())), passes(everything - set(pairs().values())))


def stored_curves(folder: Path, curve: str) -> np.ndarray:
    """All images' and methods' curves: (N, points)."""
    parts = [part.table.to_pandas() for part in reading.read_curves(folder, reading.read_manifest(folder), [curve])]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"status": [], "points": []})
    points = [np.asarray(row) for row in rows.loc[rows["status"] == OK, "points"]]
    return np.stack(points) if points else np.zeros((0, 0))


def trapezoids(at: np.ndarray, steps: int) -> Weights:
    """The trapezoid rule on positions from 0 to steps."""
    at = np.unique(np.round(at).astype(int))
    halves = np.diff(at) / (2 * steps)
    return at, np.append(halves, 0) + np.append(0, halves)


def simpson(passes: int, steps: int) -> Weights:
    """Simpson's rule on an even number of equal pieces."""
    pieces = passes + 1 + (passes + 1) % 2
    weights = np.where(np.arange(pieces + 1) % 2, 4.0, 2.0)
    weights[[0, -1]] = 1
    return np.round(np.linspace(0, steps, pieces + 1)).astype(int), weights / (3 * pieces)


def clenshaw_curtis(passes: int, steps: int) -> Weights:
    """The polynomial through the points that are denser towards both ends, integrated."""
    at = np.unique(np.round(steps * (1 - np.cos(np.pi * np.linspace(0, 1, passes + 2))) / 2).astype(int))
    moments = [0 if power % 2 else 1 / (1 - power**2) for power in range(len(at))]
    return at, np.linalg.solve(np.polynomial.chebyshev.chebvander(2 * at / steps - 1, len(at) - 1).T, moments)


FIXED: Mapping[str, Callable[[int, int], Weights]] = {
    "equal pieces, trapezoids": lambda passes, steps: trapezoids(np.linspace(0, steps, passes + 2), steps),
    "power 1.5, trapezoids": lambda passes, steps: trapezoids(steps * np.linspace(0, 1, passes + 2) ** 1.5, steps),
    "geometric, trapezoids": lambda passes, steps: trapezoids(np.append(0, np.geomspace(2, steps, passes + 1)), steps),
    "equal pieces, Simpson": simpson,
    "Clenshaw-Curtis": clenshaw_curtis,
}


def adaptive(curves: np.ndarray, passes: int) -> np.ndarray:
    """`adaptive_area` of curves that are known: (N, points) -> (N,)."""
    points = torch.from_numpy(curves)
    areas: Any = adaptive_area(cast("Any", lambda at, _: at), points[:, 0], points[:, -1], points.shape[1] - 1, passes)
    at = next(areas)
    while True:
        try:
            at = areas.send(points.gather(1, at))
        except StopIteration as end:
            answer: np.ndarray = end.value.numpy()
            return answer


def rules(curves: np.ndarray) -> Iterator[tuple[str, int, float, float, float]]:
    """(rule, passes, mean error, root mean square error, largest error) against all points of the curves."""
    steps = curves.shape[1] - 1
    exact = np.trapezoid(curves, dx=1 / steps, axis=1)
    for passes in PASSES:
        for name, rule in FIXED.items():
            at, weights = rule(passes, steps)
            yield name, len(at) - 2, *_errors(curves[:, at] @ weights - exact)
        yield "adaptive, trapezoids", passes, *_errors(adaptive(curves, passes) - exact)


def _errors(errors: np.ndarray) -> tuple[float, float, float]:
    return float(errors.mean()), float(np.sqrt((errors**2).mean())), float(np.abs(errors).max())


def tables(name: str, folder: Path, overrides: Sequence[str]) -> Iterator[str]:
    """The Markdown of one network."""
    table = changes(reading.read_records(folder, reading.read_manifest(folder)))
    passes, (before, after) = costs(overrides)
    yield f"## {name}: {before:,.0f} passes an image with `metric=all`, {after:,.0f} with `metric=all_fast`\n"
    header = ("value", "passes", "fast", "n", "largest change of a mean", "its method", f"SE at n = {N}", "change / SE")
    yield f"| {' | '.join(header)} | by chance |"
    yield "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |"
    for value, rows in table.groupby("value", sort=False):
        worst = rows.iloc[int((rows["change"].abs() / rows["error"]).argmax())]
        yield (
            f"| `{value}` | {passes[str(value)][0]:,.0f} | {passes[str(value)][1]:,.0f} | {rows['n'].max()} | "
            f"{worst['change']:+.2g} | `{worst['method']}` | {worst['error']:.2g} | "
            f"{abs(worst['change']) / worst['error']:.2f} | {rows['chance'].median():.2f} |"
        )
    for curve, metric in CURVES.items():
        points = stored_curves(folder, curve)
        if len(points):
            yield f"\n`{metric}`: {len(points)} curves of {points.shape[1]} points, mean area {points.mean():.3f}\n"
            yield "| rule | passes | mean error | root mean square | largest |"
            yield "| --- | ---: | ---: | ---: | ---: |"
            for rule, count, mean, root, largest in rules(points):
                yield f"| {rule} | {count} | {mean:+.4f} | {root:.4f} | {largest:.3f} |"
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=400, help="images of scenes_vgg")
    parser.add_argument("--photographs", type=int, default=50, help="images of resnet18")
    parser.add_argument("--folder", type=Path, default=Path("build/study_budget"))
    parser.add_argument("--forms", type=lambda text: text.split(","), help="some fast forms; default: all")
    parser.add_argument("--read", action="store_true", help="print what is there, and compute nothing")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    if unknown := set(options.forms or ()) - set(pairs()):
        parser.error(f"{', '.join(sorted(unknown))} is no fast form; there are {', '.join(pairs())}.")
    for name, network in NETWORKS.items():
        if not (size := getattr(options, name)):
            continue
        overrides = [*network, *QUIET, f"data.size={size}", *options.overrides]
        if name == "photographs" and not Path(configuration(overrides)["real_root"]).is_dir():
            print("The photographs are left out: real_root does not exist (set AXIOM_BENCH_REAL).")
            continue
        forms = options.forms or list(pairs())
        names = ",".join([*dict.fromkeys(pairs()[form] for form in forms), *forms])
        run = [*overrides, f"results={options.folder}", f"run={name}", f"metric=[{names}]"]
        if not options.read and compute(run)[0]:
            raise SystemExit(f"The run of {name} failed.")
        (manifest,) = options.folder.glob(f"*/{name}")
        for line in tables(name, manifest, overrides):
            print(line, flush=True)


if __name__ == "__main__":
    main()
