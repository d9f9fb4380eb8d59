"""Does Axiom-CAM help? Compare its points on the axiom floor with XGrad-CAM and both Ablation-CAMs, on every metric.

    python scripts/study_axiom_cam.py [--size 120] [OVERRIDE ...]

Prints Markdown for each network: the metrics of each point (t, split), then its paired comparison with each reference.
Two controls are added to the metrics of conf/metric, because a map that highlights more also replaces and keeps more:
the heatmap's mean, and the confidence drop with the same number of pixels replaced for all methods.
Networks: the embedded ones on their scenes, and the user's own one on its photographs where real_root exists.
Overrides are those of `axiom-bench`, for all networks. The explained class is the labelled one, so that every row is
another image and the rows of a test are independent.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from torch import Tensor

from axiom_bench.data.batch import Batch
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin, value_names
from axiom_bench.evaluation.specs import MetricSpec, Need
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.methods.axiom_cam import SPLITS
from axiom_bench.report.tables.table import Cell, Group, Table, to_markdown
from axiom_bench.report.tables.text import ARROWS, methods_by_status
from axiom_bench.run.computing import compute
from axiom_bench.run.jobs.job import Job
from axiom_bench.run.sweep import configuration
from axiom_bench.statistics.metadata import Value
from axiom_bench.statistics.numbers import FLOAT32_ROUNDING, NOTHING, number
from axiom_bench.statistics.places import best
from axiom_bench.statistics.run_folder import METHOD_FREE
from axiom_bench.statistics.summary import summarise

NETWORKS = (
    ("experiment=quick", "model=scenes_vgg"),
    ("experiment=quick", "model=scenes_resnet"),
    ("experiment=real", "model=own_model"),
)
REFERENCES = ("xgrad_cam", "ablation_cam", "ablation_cam_axiomatic")
BASELINE = "uniform"  # in the tables, not compared: a map without any information about the class
STEPS = (0.25, 0.5, 0.75, 1.0)
LEVEL = 0.05  # of the tests, after Holm's correction
FRACTION = 0.25  # of the pixels, in the control's confidence drop


def candidates() -> Iterator[Plugin]:
    """Axiom-CAM at t = 0, which all splits share, and each split at each step."""
    method = plugins.load("method", "axiom_cam")
    points = [(0.0, "uniform"), *((t, split) for split in SPLITS for t in STEPS)]
    for t, split in points:
        name = "axiom_cam t=0" if t == 0 else f"{split} t={t:g}"
        yield plugins.from_config(
            "method", name, {"_target_": method.target, "params": {"t": t, "split": split}, **method.spec.as_dict()}
        )


def heatmap_mean(explanation: Explanation) -> Tensor:
    """The share of the image that a soft mask replaces -> (B,)."""
    return given(explanation.heatmap, "heatmap").double().mean((1, 2))


def gap(explanation: Explanation) -> Tensor:
    """(S - sum_k d_k) / |S| -> (B,): what t distributes over the maps, signed."""
    trace = given(explanation.trace, "trace")
    return (trace.scores - trace.ablation_drops.sum(1)).double() / trace.scores.abs()


def controls() -> tuple[Plugin, ...]:
    """The metrics that are measured besides those of conf/metric."""
    area = MetricSpec(title="Mean of the heatmap", unit="fraction", needs=(Need("nonzero_map"),))
    soft = plugins.load("metric", "confidence_drop")
    about = {**soft.spec.as_dict(), "title": f"Confidence drop, {FRACTION:.0%} of the pixels"}
    hard = {**about, "_target_": soft.target, "params": {**soft.params, "mode": "hard", "fraction": FRACTION}}
    return (
        Plugin("heatmap_mean", __name__, heatmap_mean, area),
        plugins.from_config("metric", "confidence_drop_hard", hard),
        Plugin("gap", __name__, gap, MetricSpec(of="layer", needs=(Need("nonzero_score"),))),
    )


def evaluate_methods(job: Job) -> pd.DataFrame:
    """The records of references, baseline and candidates on a job's images."""
    rows = (batch for batch in compute.rows(job, job.indices) if isinstance(batch, Batch))
    methods: list[str | Plugin] = [*REFERENCES, BASELINE, *candidates()]
    return ab.evaluate(job.model.module, job.model.layer, rows, methods, job.metrics)


def judged_values(metrics: Sequence[Plugin]) -> list[Value]:
    """The values that a method is judged by: those with a better direction, and the controls."""
    own = {metric.name for metric in controls()}
    values = []
    for metric in metrics:
        for name in value_names(metric):
            about = {**metric.spec.as_dict(), **(metric.spec.as_dict().get("values", {}).get(name, {}))}
            value = Value(name, *(str(about.get(key, "none")) for key in ("title", "unit", "better")))
            if about.get("of") != "layer" and (value.better in ARROWS or name in own):
                values.append(value)
    return values


def wide(records: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric's values, images as rows and methods as columns; NaN where the status isn't ok."""
    return records[records["metric"] == metric].pivot(index="image_id", columns="method", values="value")


def levels(summary: pd.DataFrame, names: Sequence[str], values: Sequence[Value]) -> Group:
    """Median of ratios, mean of all else; the best in bold."""
    columns = []
    for judged in values:
        rows = summary[summary["metric"] == judged.name].set_index("method").reindex(list(names))[judged.lead]
        rows = rows.mask(rows.abs() < FLOAT32_ROUNDING, 0.0)
        columns.append([Cell(number(value), bold) for value, bold in zip(rows, best(rows, judged), strict=True)])
    return Group("Median of ratios, mean of all else", tuple(zip(map(Cell, names), *columns, strict=True)))


def comparison(records: pd.DataFrame, names: Sequence[str], reference: str, values: Sequence[Value]) -> Group:
    """How often each method is better than the reference, bold where Wilcoxon's signed-rank test is significant."""
    tables = {value: wide(records, value.name) for value in values if value.better in ARROWS}
    gains = {
        (name, value): _gains(table[name], table[reference], value) for value, table in tables.items() for name in names
    }
    p = dict(zip(gains, holm([_wilcoxon(gain) for gain in gains.values()]), strict=True))
    none = np.zeros(0)
    rows = (
        (Cell(name), *(Cell(_rate(gains.get((name, value), none)), p.get((name, value), 1.0) < LEVEL)
                       for value in values))
        for name in names
    )  # fmt: skip
    return Group(f"Better than {reference} / worse", tuple(rows))


def _gains(method: pd.Series, reference: pd.Series, value: Value) -> np.ndarray:
    """The improvement on each image (n,); a difference within float32's rounding counts as 0."""
    difference = (method - reference if value.better == "higher" else reference - method).dropna().to_numpy()
    return np.where(np.abs(difference) < FLOAT32_ROUNDING, 0.0, difference)


def _rate(gains: np.ndarray) -> str:
    """Wins and losses in percent of the images; the rest are ties."""
    return f"{np.mean(gains > 0):.0%} / {np.mean(gains < 0):.0%}" if len(gains) else NOTHING


def _wilcoxon(gains: np.ndarray) -> float:
    """The two-sided p; 1 where all differences are 0."""
    return float(stats.wilcoxon(gains).pvalue) if gains.any() else 1.0


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction: the i-th smallest (from 0) of n p-values times n - i, non-decreasing, at most 1."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = stepped.clip(max=1)
    return corrected


def missing(summary: pd.DataFrame, values: Sequence[Value]) -> Iterator[str]:
    """One sentence for each status other than ok: its metric, the number of images and the methods."""
    for value in values:
        for (status, count), methods in methods_by_status(summary[summary["metric"] == value.name]).items():
            yield f"{value.title}, {status} {count}: {', '.join(methods)}."


def study(job: Job) -> str:
    """The tables of one network, as Markdown."""
    records, values = evaluate_methods(job), judged_values(job.metrics)
    summary, names = summarise(records), [method.name for method in candidates()]
    layer = summary[summary["method"] == METHOD_FREE].set_index("metric")["median"]
    notes = (
        "a / b: better on a of the images, worse on b. Bold: the two differ by Wilcoxon's signed-rank test, p < "
        f"{LEVEL} after Holm's correction over all tests of the same group.",
        "Of the layer, medians: " + ", ".join(f"{name} {number(value)}" for name, value in layer.items()) + ".",
        *missing(summary, values),
    )
    groups = [levels(summary, [*REFERENCES, BASELINE, *names], values)]
    groups += [comparison(records, names, reference, values) for reference in REFERENCES]
    header = ("Method", *(value.title + ARROWS.get(value.better, "") for value in values))
    title = f"{job.name}, {records['image_id'].nunique()} images"
    return to_markdown(Table("axiom_cam", title, header, tuple(groups), notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=120, help="images of each network")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    common = ("method=[xgrad_cam]", "data.target=label", f"data.size={options.size}", *options.overrides)
    for network in NETWORKS:
        config = configuration([*network, *common])
        if "experiment=real" in network and not Path(config["real_root"]).is_dir():
            print(f"{network[1]} is left out: {config['real_root']} does not exist (set AXIOM_BENCH_REAL).")
            continue
        job = Job.of(config)
        print(study(replace(job, metrics=(*job.metrics, *controls()))), flush=True)


if __name__ == "__main__":
    main()
