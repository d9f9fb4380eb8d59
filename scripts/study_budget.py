"""What the fast forms of metrics cost and how far they move means: each beside the metric that it stands for.

    python scripts/study_budget.py [--scenes 400] [--photographs 50] [--forms NAME,NAME] [--folder build/study_budget]
                                   [OVERRIDE ...]

Runs scenes_vgg on scenes, and resnet18 on photographs where real_root exists, with the fast forms, all or those of
--forms, and the metrics that they stand for. What is computed stays in --folder: the same command goes on where it
stopped, and --read prints what is there so far. Prints Markdown: of each value the passes of an image at the run's
methods, the largest change of a method's mean over the standard error of 400 images, and what the differences of
single images would change by chance at n = 400; then rules for the areas under the stored curves of insertion,
deletion and SRG, by their error. 0 leaves a network out. Overrides are those of `axiom-bench`.
"""

from __future__ import annotations

import axiom_bench as ab  # noqa: F401  before torch, whose idle threads would otherwise take a core

# isort: split
import argparse
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from axiom_bench import metrics
from axiom_bench.cli.benchmark import compute
from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import trace_of_batch
from axiom_bench.evaluation.plugins import value_names
from axiom_bench.metrics.shared.pixel_curves import area_weights, few_points
from axiom_bench.records import reading
from axiom_bench.run.computing.compute import cut_of, first_row
from axiom_bench.run.computing.costs import Cost
from axiom_bench.run.jobs.job import Job
from axiom_bench.run.sweep import configuration

N = 400  # images of the standard error that changes are held against
QUIET = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0", "target=label", "shard_size=4",
         "data.batch_size=4")  # fmt: skip
NETWORKS = {
    "scenes": ("experiment=quick", "model=scenes_vgg"),
    "photographs": ("experiment=real", "model=resnet18"),
}
CURVES = {"insertion": "insertion_auc", "deletion": "deletion_auc", "relevance_gain": "srg"}
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


def stored_curves(folder: Path, curve: str) -> tuple[np.ndarray, np.ndarray]:
    """All images' and methods' curves, and the method of each: (N, points), (N,)."""
    parts = [part.table.to_pandas() for part in reading.read_curves(folder, reading.read_manifest(folder), [curve])]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"status": [], "points": [], "method": []})
    rows = rows[rows["status"] == OK]
    points = [np.asarray(row) for row in rows["points"]]
    return np.stack(points) if points else np.zeros((0, 0)), rows["method"].astype(str).to_numpy()


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


def of_the_metrics(passes: int, steps: int) -> Weights:
    """The rule of the fast forms."""
    inner = few_points(steps, passes)
    return np.concatenate([[0], inner.numpy(), [steps]]), area_weights(inner, steps).numpy()


FIXED: Mapping[str, Callable[[int, int], Weights]] = {
    "equal pieces, trapezoids": lambda passes, steps: trapezoids(np.linspace(0, steps, passes + 2), steps),
    "power 1.5, trapezoids": lambda passes, steps: trapezoids(steps * np.linspace(0, 1, passes + 2) ** 1.5, steps),
    "geometric, trapezoids": lambda passes, steps: trapezoids(np.append(0, np.geomspace(2, steps, passes + 1)), steps),
    "equal pieces, Simpson": simpson,
    "Clenshaw-Curtis, as the fast forms": of_the_metrics,
}


def adaptive(curves: np.ndarray, passes: int) -> np.ndarray:
    """Trapezoids over points of each curve's own: a third lie evenly, and the others halve, two at a time, the two
    pieces whose width times rise is largest, a rise of at least a tenth of the curve's range. (N, points) -> (N,)."""
    steps, rounds = curves.shape[1] - 1, passes // 3
    areas = []
    for curve in curves:
        at = np.round(np.linspace(0, steps, passes - 2 * rounds + 2)).astype(int)
        spread = np.ptp(curve) or 1.0
        for _ in range(rounds):
            widths = np.diff(at)
            gain = np.where(widths > 1, widths * (np.abs(np.diff(curve[at])) / spread + 0.1), 0)
            widest = np.sort(np.argsort(-gain, kind="stable")[:2])
            at = np.union1d(at, (at[widest] + at[widest + 1]) // 2)
        areas.append(np.trapezoid(curve[at], at / steps))
    return np.array(areas)


def rules(curves: np.ndarray, methods: np.ndarray) -> Iterator[tuple[str, int, float, float, float, float]]:
    """(rule, passes, mean error, root mean square error, largest error, largest change of a method's mean over the
    standard error of N images) against all points of the curves."""
    steps = curves.shape[1] - 1
    exact = np.trapezoid(curves, dx=1 / steps, axis=1)

    def errors(areas: np.ndarray) -> tuple[float, float, float, float]:
        error = pd.Series(areas - exact)
        changes = error.groupby(methods).mean().abs() / (pd.Series(exact).groupby(methods).std() / N**0.5)
        return float(error.mean()), float((error**2).mean() ** 0.5), float(error.abs().max()), float(changes.max())

    for passes in PASSES:
        for name, rule in FIXED.items():
            at, weights = rule(passes, steps)
            yield name, len(at) - 2, *errors(curves[:, at] @ weights)
        yield "adaptive, trapezoids", passes, *errors(adaptive(curves, passes))


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
        points, methods = stored_curves(folder, curve)
        if len(points):
            yield f"\n`{metric}`: {len(points)} curves of {points.shape[1]} points, mean area {points.mean():.3f}\n"
            yield "| rule | passes | mean error | root mean square | largest | largest change of a mean / SE |"
            yield "| --- | ---: | ---: | ---: | ---: | ---: |"
            for rule, count, mean, root, largest, change in rules(points, methods):
                yield f"| {rule} | {count} | {mean:+.4f} | {root:.4f} | {largest:.3f} | {change:.2f} |"
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
