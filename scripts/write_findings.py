"""Write the tables of docs/findings.md, and three files of docs/data, from results/reference.

    python scripts/write_findings.py

The page answers this project's questions with the published values. docs/data/findings.csv has each
test, verdicts.csv the verdict on each claim, and controls.csv the methods above all controls. It
takes minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from write_docs import DOCS, ROOT, markdown

from axiom_bench.cli.rank import published_folders
from axiom_bench.judging.card import interval_over_networks
from axiom_bench.judging.standing import standings
from axiom_bench.statistics import paired_tests
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, LEVEL
from axiom_bench.statistics.labels import Setting, Value, number, rows_at
from axiom_bench.statistics.paired_tests import coinciding, holm, rounding_of
from axiom_bench.statistics.run_folder import RunFolder

SUITES = {"photographs-2": "photographs", "scenes-1": "drawn images"}
# The kinds of images of parts that differ from their suite's kind.
KINDS_OF_PARTS = {"slices": "brain slices", "outside": "photographs outside the domain"}
# Parts whose networks are the paper's, or newer.
PAPER_PARTS = ("slices", "outside", "neutral_before", "neutral", "lite")
# Suites with questions of their own.
AXES_SUITES = ("shapes-1",)
OBJECT_SUITES = ("dense-1",)
BASELINE_SUITES = ("baselines-1",)
BASELINES = ("rise", "occlusion")  # methods without layer and gradient
COMPARED_WITH_BASELINES = ("grad_cam", "xgrad_cam", "hires_cam", "layer_cam", "score_cam")
AXIOMS = ("sensitivity_error", "conservation_error")
FLOOR = "axiom_floor_distance"
FAITHFULNESS = ("confidence_drop", "single_deletion")
PLACES = ("box_iou", "mask_iou", "energy_pointing_game")
CURVES = ("deletion_auc_fast", "insertion_auc_fast")
OTHER_OBJECTS = ("leakage_to_class", "leakage_to_others", "object_correlation")
MOST_NAMED = 8  # methods that a cell of the page lists
# The pairs and metrics of objects that are on the page; findings.csv has all.
OBJECT_PAIRS = ("xgrad_cam", "layer_cam", "hires_cam", "d_rise")  # compared with Grad-CAM
OBJECT_METRICS = (
    *FAITHFULNESS, *CURVES, "energy_pointing_game", "leakage_to_class", "object_correlation",
)  # fmt: skip
Titles = Mapping[Any, str]  # of methods and metrics
WAYS = {1: "better", 0: "open", -1: "worse"}
START = "<!-- written by scripts/write_findings.py"


@dataclass(frozen=True)
class Question:
    """A question that is answered by tests of pairs of methods."""

    name: str
    # (method, the method it is compared with); all pairs by all metrics are one family of tests
    pairs: Sequence[tuple[str, str]]
    metrics: Sequence[str]
    suites: Sequence[str] = (*SUITES,)
    brief: bool = False  # True if its table has only a line for each pair


QUESTIONS = (
    Question("axioms", [("xgrad_cam", "grad_cam")], (*AXIOMS, FLOOR)),
    Question("visualization", [("xgrad_cam", "grad_cam")], (*FAITHFULNESS, *PLACES)),
    Question(
        "classes",
        [
            ("xgrad_cam", "grad_cam"), ("xgrad_cam", "uniform"), ("grad_cam", "uniform"),
            ("grad_cam_pp", "uniform"),
        ],
        ["class_discriminability"],
    ),
    Question("ablation", [("ablation_cam", "xgrad_cam")], (*AXIOMS, *FAITHFULNESS, *PLACES)),
    Question(
        "rankings",
        [
            ("grad_cam_pp", "grad_cam"), ("smooth_grad_cam_pp", "grad_cam_pp"),
            ("layer_cam", "grad_cam"), ("hires_cam", "grad_cam"), ("eigen_grad_cam", "eigen_cam"),
            ("score_cam", "grad_cam_pp"), ("group_cam", "grad_cam"), ("fd_cam", "grad_cam"),
        ],
        (*FAITHFULNESS, *PLACES),
        brief=True,
    ),
    Question(
        "baselines",
        [*product(COMPARED_WITH_BASELINES, BASELINES)],
        ("single_deletion", "box_iou", "energy_pointing_game", "truth_correlation"),
        BASELINE_SUITES,
        brief=True,
    ),
    Question(
        "axes",
        [("xgrad_cam", "grad_cam")],
        (*AXIOMS, FLOOR, *FAITHFULNESS, *PLACES),
        AXES_SUITES,
    ),
    Question("object_axioms", [("xgrad_cam", "grad_cam")], (*AXIOMS, FLOOR), OBJECT_SUITES),
    Question(
        "objects",
        [
            ("xgrad_cam", "grad_cam"), ("grad_cam_pp", "grad_cam"), ("layer_cam", "grad_cam"),
            ("hires_cam", "grad_cam"), ("ablation_cam", "grad_cam"), ("eigen_cam", "grad_cam"),
            ("ss_grad_cam", "grad_cam"), ("seg_xres_cam", "grad_cam"), ("g_came", "grad_cam"),
            ("d_rise", "grad_cam"), ("restricted_xgrad_cam", "xgrad_cam"),
            ("grad_cam", "other_object"), ("layer_cam", "hires_cam"),
        ],
        (*FAITHFULNESS, *CURVES, "drop_outside_map", "energy_pointing_game", *OTHER_OBJECTS),
        OBJECT_SUITES,
        brief=True,
    ),
)  # fmt: skip
SHOWN = (  # methods of the table that says whether the map of a box or mask shows only its object
    "grad_cam", "xgrad_cam", "grad_cam_pp", "layer_cam", "hires_cam", "ablation_cam",
    "restricted_xgrad_cam", "g_came", "d_rise", "other_object", "box_centre", "uniform",
)  # fmt: skip


def published_runs(suites: Iterable[str]) -> list[tuple[str, str, RunFolder]]:
    """Return (suite, part, run) of all published values."""
    return [
        (suite, part, RunFolder.of_suite(folder))
        for suite in suites
        for part, folder in published_folders(suite).items()
    ]


def titles_of(runs: Sequence[tuple[str, str, RunFolder]]) -> Titles:
    """Return the titles of all methods and metrics."""
    titles = dict[Any, str]()
    for _, _, run in runs:
        titles |= {name: run.metadata.method_title(name) for name in run.methods}
        titles |= {name: run.metadata.value(name).title for name in run.metrics}
    return titles


def compared(question: Question, runs: Sequence[tuple[str, str, RunFolder]]) -> pd.DataFrame:
    """Return a row for each pair, metric, part and network.

    Its columns also have n, better, same, worse (images), gain, low, high, p, and p adjusted by
    Holm over all rows. If two methods have the same values, p is NaN.
    """
    rows = []
    # A value that follows from how a method is constructed is no finding, so its pair is left out.
    for pair, metric, (suite, part, run) in product(question.pairs, question.metrics, runs):
        if metric not in run.metrics or {*pair} & {*run.metadata.by_construction(metric)}:
            continue
        first, second = pair
        for setting in run.settings:
            test = _test(run, setting, run.metadata.value(metric), first, second)
            if test is None:
                continue
            row = {
                "question": question.name,
                "method": first,
                "other": second,
                "metric": metric,
                "suite": suite,
                "part": part,
                "network": setting.model.partition("+")[0],
            }
            rows.append(row | test)
    table = pd.DataFrame(rows)
    return table.assign(adjusted=holm(table["p"])) if rows else table


def _test(
    run: RunFolder, setting: Setting, value: Value, first: str, second: str
) -> dict[str, float] | None:
    """Return the test of two methods, or None if there are too few images with both values."""
    matrix = run.comparisons.values(setting, value.name)
    if matrix is None or not {first, second} <= {*matrix.methods}:
        return None
    values = matrix.values[:, [matrix.methods.index(first), matrix.methods.index(second)]]
    has_both = np.isfinite(values).all(axis=1)
    if len(np.unique(matrix.images[has_both])) < FEWEST_IMAGES:
        return None  # no interval, which isn't the same map
    values = values[has_both]
    images = matrix.images[has_both]
    row = (
        paired_tests.tests(values, images, np.array([0]), np.array([1]), value, LEVEL)
        .iloc[0]
        .to_dict()
    )
    if len(coinciding(values, (first, second), rounding_of(values, value))) == 1:
        row["p"] = np.nan
    sign = 1.0 if value.better == "higher" else -1.0
    low, high = sorted((sign * row["low"], sign * row["high"]))
    return {
        "n": int(row["n"]),
        "better": int(row["better"]),
        "same": int(row["same"]),
        "worse": int(row["worse"]),
        "gain": sign * row["difference"],
        "low": low,
        "high": high,
        "p": row["p"],
    }


def verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a row for each pair, metric and kind of images.

    A row has the numbers of networks on which the first method is better, and the mean gain over
    networks with its interval. A network counts once per part, and once among the distinct ones.
    """
    table = []
    groups = rows.groupby(["question", "method", "other", "metric", kinds(rows)], sort=False)
    for (question, first, second, metric, images), group in groups:
        # The p-values are adjusted over all rows of the question, not only over this line's.
        is_significant = group["adjusted"] < LEVEL
        is_better = is_significant & (np.sign(group["gain"]) == 1)
        is_worse = is_significant & (np.sign(group["gain"]) == -1)
        is_same = group["p"].isna()
        counts = {
            "better": int(is_better.sum()),
            "open": int((~is_better & ~is_worse & ~is_same).sum()),
            "worse": int(is_worse.sum()),
            "same_maps": int(is_same.sum()),
        }
        gain, low, high = over_networks(group)
        row = {
            "question": question,
            "method": first,
            "other": second,
            "metric": metric,
            "images": images,
            **counts,
            "better_distinct": group["network"][is_better].nunique(),
            "distinct": group["network"].nunique(),
            "gain": gain,
            "low": low,
            "high": high,
            "holds": holds(*counts.values()),
        }
        table.append(row)
    return pd.DataFrame(table)


def by_kind(table: pd.DataFrame, titles: Titles) -> list[list[str]]:
    """Return a line for each metric of a table of verdicts, with a cell for each kind of images.

    A cell has the numbers of networks that aren't 0. If the table has several pairs, each has lines
    of its own.
    """
    images = list(dict.fromkeys(table["images"]))
    pairs = list(dict.fromkeys(zip(table["method"], table["other"], strict=True)))
    lines = [["", *images]]
    for (first, second, metric), group in table.groupby(["method", "other", "metric"], sort=False):
        cells = dict.fromkeys(images, "not measured")
        for row in group.to_dict("records"):
            cells[row["images"]] = _counts(row, ("better", "open", "worse", "same_maps"))
        title = titles[metric]
        if len(pairs) > 1:
            title = f"{titles[first]} over {titles[second]}"
        lines.append([title, *cells.values()])
    return lines


def _counts(row: Mapping[Any, int], names: Sequence[str]) -> str:
    return ", ".join(f"{row[name]} {name.replace('_', ' ')}" for name in names if row[name])


def kinds(rows: pd.DataFrame) -> pd.Series:
    """Return the kind of images of each row."""
    suite_kinds = rows["suite"].map(SUITES).fillna(rows["part"].str.removeprefix("planted_"))
    return rows["part"].map(KINDS_OF_PARTS).fillna(suite_kinds)


def by_network(
    rows: pd.DataFrame, runs: Sequence[tuple[str, str, RunFolder]], titles: Titles
) -> list[list[str]]:
    """Return a line for each part of PAPER_PARTS, network and metric.

    A line has both methods' values and their difference.
    """
    run_by_part = {part: run for _, part, run in runs}
    pair = ("grad_cam", "xgrad_cam")
    lines = [
        ["network", "images", "metric", *(titles[name] for name in pair), "gain", "XGrad-CAM is"]
    ]
    for part in PAPER_PARTS:
        if part not in run_by_part:
            continue
        run = run_by_part[part]
        for setting in run.settings:
            values = rows_at(run.summary, setting).set_index(["metric", "method"])
            network_rows = rows[(rows["part"] == part) & (rows["network"] == setting.model)]
            for row in network_rows.to_dict("records"):
                lead = run.metadata.value(row["metric"]).lead
                both = [number(values.loc[(row["metric"], name), lead]) for name in pair]
                verdict = WAYS[int(np.sign(row["gain"])) if row["adjusted"] < LEVEL else 0]
                # Methods that give the same map have no p, which isn't "not significant".
                if np.isnan(row["p"]):
                    verdict = "the same map"
                lines.append(
                    [
                        f"{setting.model} at {setting.layer}",
                        f"{row['n']} {run_kind(part)}",
                        titles[row["metric"]],
                        *both,
                        f"{number(row['gain'])} [{number(row['low'])}, {number(row['high'])}]",
                        verdict,
                    ]
                )
    return lines


def run_kind(part: str) -> str:
    """Return the kind of images of a part of PAPER_PARTS."""
    return KINDS_OF_PARTS.get(part, SUITES["photographs-2"])


def by_metric(rows: pd.DataFrame, titles: Titles) -> list[list[str]]:
    """Return a line for each pair, with a cell for each metric.

    A cell has the numbers of networks on which the first method is better and worse, or "open". A
    network counts once per part. Suites of objects have a line for each pair and part.
    """
    metrics = list(dict.fromkeys(rows["metric"]))
    lines = [["", *(titles[metric] for metric in metrics)]]
    part = kinds(rows).where(rows["suite"].isin(OBJECT_SUITES), "")
    for (first, second, name), group in rows.groupby(["method", "other", part], sort=False):
        cells = []
        for metric in metrics:
            metric_rows = group[group["metric"] == metric]
            if metric_rows.empty:
                cells.append("not measured")
                continue
            sign = np.where(metric_rows["adjusted"] < LEVEL, np.sign(metric_rows["gain"]), 0.0)
            counts = {word: int((sign == way).sum()) for way, word in WAYS.items()}
            cells.append(_counts(counts, ("better", "worse")) or "open")
        lines.append([f"{name}: {titles[first]} over {titles[second]}".removeprefix(": "), *cells])
    return lines


def over_networks(group: pd.DataFrame) -> tuple[float, float, float]:
    """Return the mean gain over networks and parts, with its interval.

    The interval is over families, networks and images.
    """
    rows = group.assign(value=group["gain"])
    return float(rows["value"].mean()), *interval_over_networks(rows)


def holds(better: int, open_: int, worse: int, same: int) -> str:
    """Return the verdict on a claim, from the numbers of networks.

    It is yes if the first method is better on every network where the two differ, no if it is
    better on none, and mixed if it is worse somewhere.
    """
    if not better:
        if worse:
            return f"no: worse on {worse}"
        return "not shown" if open_ else "no: the maps are the same"
    if worse:
        return f"mixed: better on {better}, worse on {worse}"
    if open_:
        return f"on {better} of {better + open_ + same}"
    return "yes where the maps differ" if same else "yes"


def above_controls(runs: Sequence[tuple[str, str, RunFolder]], titles: Titles) -> list[list[str]]:
    """Return a line for each metric and kind of images: the methods better than every control."""
    rows: list[dict[str, object]] = []
    for suite, part, run in runs:
        controls = {name for name in run.methods if run.metadata.method(name).control}
        ranked = [metric for metric in run.metrics if run.metadata.value(metric).has_direction]
        for metric, name in product(ranked, run.methods):
            if name in controls:
                continue
            found = standings(run, metric, name, with_examples=False)
            if not found:
                continue
            for network, standing in found.networks.items():
                if standing.answered:
                    row = {"suite": suite, "part": part, "metric": metric, "method": name}
                    rows.append(row | {"network": network, "above": standing.beats_controls})
    table = pd.DataFrame(rows)
    columns = (
        "above all controls on every network",
        "wherever they have values, on fewer",
        "on none",
    )
    lines = [["metric", "images", "networks", *columns]]
    for (key, images), group in table.groupby(["metric", kinds(table)], sort=False):
        networks = group[["part", "network"]].drop_duplicates()
        count = len(networks)
        distinct = networks["network"].str.partition("+")[0].nunique()
        always: list[str] = []
        partly: list[str] = []
        never: list[str] = []
        for name, above in group.groupby(group["method"].astype(str), sort=False)["above"]:
            has_all = len(above) == count
            title = titles[name] if has_all else f"{titles[name]} ({len(above)} of {count})"
            if not above.any():
                never.append(title)
            elif above.all():
                (always if has_all else partly).append(title)
        cells = ["; ".join(names) or "none" for names in (always, partly, never)]
        lines.append([titles[key], str(images), f"{count} ({distinct} distinct)", *cells])
    return lines


def only_above(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the lines of metrics by which a method is above all controls on every network.

    Of more than MOST_NAMED methods a line has only the number.
    """
    header, *rows = lines
    kept = [[header[0], header[1], header[3]]]
    for metric, images, _, names, *_ in rows:
        count = len(names.split("; "))
        if names != "none":
            kept.append([metric, images, names if count <= MOST_NAMED else f"{count} methods"])
    return kept


def correlations(runs: Sequence[tuple[str, str, RunFolder]], titles: Titles) -> list[list[str]]:
    """Return a line for each of SHOWN, with a cell for each part.

    A cell has the median over networks of the mean correlation between the maps of two objects, and
    its range over networks.
    """
    lines = [["", *(part for _, part, _ in runs)]]
    for name in SHOWN:
        cells = []
        for _, _, run in runs:
            rows = run.records.rows(["object_correlation"])
            method_rows = rows[rows["method"].astype(str) == name]
            means = method_rows.groupby("model", observed=True)["value"].mean()
            extent = f"{number(means.min())} to {number(means.max())}"
            cells.append(f"{number(means.median())} ({extent})")
        lines.append([titles[name], *cells])
    return lines


def main() -> None:
    """Write the tables of the page and the files of docs/data."""
    runs_by_suite = {
        suite: published_runs([suite])
        for suite in (*SUITES, *AXES_SUITES, *OBJECT_SUITES, *BASELINE_SUITES)
    }
    runs = [run for suite in SUITES for run in runs_by_suite[suite]]
    object_runs = [run for suite in OBJECT_SUITES for run in runs_by_suite[suite]]
    titles = titles_of([run for suite_runs in runs_by_suite.values() for run in suite_runs])
    tables: dict[str, list[list[str]]] = {}
    parts = []
    verdict_parts = []
    for question in QUESTIONS:
        question_runs = [run for suite in question.suites for run in runs_by_suite[suite]]
        rows = compared(question, question_runs)
        if rows.empty:
            tables[question.name] = [["no values are published"]]
            continue
        table = verdicts(rows)
        on_page = rows
        if question.name == "objects":
            is_pair = rows["method"].isin(OBJECT_PAIRS) & (rows["other"] == "grad_cam")
            is_pair |= rows["other"] == "other_object"
            on_page = rows[is_pair & rows["metric"].isin(OBJECT_METRICS)]
        if question.brief:
            tables[question.name] = by_metric(on_page, titles)
        else:
            tables[question.name] = by_kind(table, titles)
        parts.append(rows)
        verdict_parts.append(table)
    rows = pd.concat(parts)
    is_of_paper = rows["question"].isin(["axioms", "visualization"])
    paper_rows = rows[is_of_paper & rows["metric"].isin(AXIOMS)]
    tables["networks"] = by_network(paper_rows, runs_by_suite["photographs-2"], titles)
    controls = above_controls(runs, titles)
    object_controls = above_controls(object_runs, titles)
    tables["controls"] = only_above(controls)
    tables["object_maps"] = correlations(object_runs, titles)
    all_controls = pd.DataFrame(controls[1:] + object_controls[1:], columns=controls[0])
    data = DOCS / "data"
    rows.to_csv(data / "findings.csv", index=False, float_format="%.6g")
    pd.concat(verdict_parts).to_csv(data / "verdicts.csv", index=False, float_format="%.6g")
    all_controls.to_csv(data / "controls.csv", index=False)
    path = DOCS / "findings.md"
    path.write_text(filled(path.read_text(encoding="utf-8"), tables), encoding="utf-8")
    names = ", ".join(f"docs/data/{name}.csv" for name in ("findings", "verdicts", "controls"))
    print(f"written: {path.relative_to(ROOT)}, {names}")


def filled(text: str, tables: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """Return the document with each table between its two markers."""
    for name, rows in tables.items():
        before, start, rest = text.partition(f"{START}: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not (start and end):
            raise ValueError(f"findings.md has no place for the table {name}.")
        text = f"{before}{start}\n{markdown(rows)}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    main()
