"""Write docs/findings.md and docs/data/findings.csv from results/reference: what the published
values say (minutes).

python scripts/write_findings.py
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from write_docs import DOCS, ROOT, markdown

from axiom_bench.cli.rank import published
from axiom_bench.judging.card import interval_over_networks
from axiom_bench.judging.standing import standings
from axiom_bench.statistics import paired_tests
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES
from axiom_bench.statistics.labels import Setting, Value, number, rows_at
from axiom_bench.statistics.paired_tests import LEVEL, coinciding, holm, rounding_of
from axiom_bench.statistics.run_folder import RunFolder

SUITES = {"photographs-2": "photographs", "scenes-1": "drawn images"}
KINDS_OF_PARTS = {
    "slices": "brain slices",
    "outside": "photographs outside the domain",
}  # of no other photographs
OF_PAPER = (
    "slices",
    "outside",
    "neutral_before",
    "neutral",
    "lite",
)  # parts whose networks are the paper's, or newer
OF_AXES, OF_OBJECTS = ("shapes-1",), ("dense-1",)  # questions of their own
AXIOMS, FLOOR = ("sensitivity_error", "conservation_error"), "axiom_floor_distance"
FAITHFULNESS = ("confidence_drop", "single_deletion")
PLACES = ("box_iou", "mask_iou", "energy_pointing_game")
CURVES = ("deletion_auc_fast", "insertion_auc_fast")
OTHER_OBJECTS = ("leakage_to_class", "leakage_to_others", "object_correlation")
Titles = Mapping[Any, str]  # of methods and metrics
WAYS = {1: "better", 0: "open", -1: "worse"}
START = "<!-- written by scripts/write_findings.py"


@dataclass(frozen=True)
class Question:
    """pairs: (method, the one it is compared with); all pairs by all metrics are one family of
    tests. brief: whether its table has a line for each pair alone.
    """

    name: str
    pairs: Sequence[tuple[str, str]]
    metrics: Sequence[str]
    suites: Sequence[str] = (*SUITES,)
    brief: bool = False


QUESTIONS = (
    Question("axioms", [("xgrad_cam", "grad_cam")], (*AXIOMS, FLOOR)),
    Question("visualization", [("xgrad_cam", "grad_cam")], (*FAITHFULNESS, *PLACES)),
    Question(
        "classes",
        [("xgrad_cam", "grad_cam"), ("xgrad_cam", "uniform"), ("grad_cam", "uniform"), ("grad_cam_pp", "uniform")],
        ["class_discriminability"],
    ),
    Question("ablation", [("ablation_cam", "xgrad_cam")], (*AXIOMS, *FAITHFULNESS, *PLACES)),
    Question(
        "rankings",
        [
            ("grad_cam_pp", "grad_cam"), ("smooth_grad_cam_pp", "grad_cam_pp"), ("layer_cam", "grad_cam"),
            ("hires_cam", "grad_cam"), ("eigen_grad_cam", "eigen_cam"), ("score_cam", "grad_cam_pp"),
            ("group_cam", "grad_cam"), ("fd_cam", "grad_cam"),
        ],
        (*FAITHFULNESS, *PLACES),
        brief=True,
    ),
    Question("axes", [("xgrad_cam", "grad_cam")], (*AXIOMS, FLOOR, *FAITHFULNESS, *PLACES), OF_AXES),
    Question("object_axioms", [("xgrad_cam", "grad_cam")], (*AXIOMS, FLOOR), OF_OBJECTS),
    Question(
        "objects",
        [
            *((name, "grad_cam") for name in (
                "xgrad_cam", "grad_cam_pp", "layer_cam", "hires_cam", "ablation_cam", "eigen_cam", "ss_grad_cam",
                "seg_xres_cam", "g_came", "d_rise",
            )),
            ("restricted_xgrad_cam", "xgrad_cam"), ("grad_cam", "other_object"), ("layer_cam", "hires_cam"),
        ],
        (*FAITHFULNESS, *CURVES, "drop_outside_map", "energy_pointing_game", *OTHER_OBJECTS),
        OF_OBJECTS,
        brief=True,
    ),
)  # fmt: skip
SHOWN = (  # of one box or mask: whether its map is of its object alone
    "grad_cam", "xgrad_cam", "grad_cam_pp", "layer_cam", "hires_cam", "ablation_cam", "restricted_xgrad_cam", "g_came",
    "d_rise", "other_object", "box_centre", "uniform",
)  # fmt: skip


def runs_of(suites: Iterable[str]) -> list[tuple[str, str, RunFolder]]:
    """(suite, part, run) of all published values."""
    return [
        (suite, part, RunFolder.of_suite(folder))
        for suite in suites
        for part, folder in published(suite).items()
    ]


def titles_of(runs: Sequence[tuple[str, str, RunFolder]]) -> Titles:
    """Of all methods and metrics."""
    titles = dict[Any, str]()
    for _, _, run in runs:
        titles |= {name: run.metadata.method_title(name) for name in run.methods}
        titles |= {name: run.metadata.value(name).title for name in run.metrics}
    return titles


def compared(question: Question, runs: Sequence[tuple[str, str, RunFolder]]) -> pd.DataFrame:
    """A row for each pair, metric, part and network: n, better, same, worse (images), difference,
    low, high, p, and adjusted by Holm over all rows. Where two methods have the same values p is
    NaN.
    """
    rows = []
    for (first, second), metric, (suite, part, run) in product(
        question.pairs, question.metrics, runs
    ):
        if metric not in run.metrics or {first, second} & {*run.metadata.by_construction(metric)}:
            continue
        for setting in run.settings:
            if test := _test(run, setting, run.metadata.value(metric), first, second):
                about = {
                    "question": question.name,
                    "method": first,
                    "other": second,
                    "metric": metric,
                }
                rows.append(
                    {
                        **about,
                        "suite": suite,
                        "part": part,
                        "network": setting.model.partition("+")[0],
                        **test,
                    }
                )
    table = pd.DataFrame(rows)
    return table.assign(adjusted=holm(table["p"])) if rows else table


def _test(
    run: RunFolder, setting: Setting, value: Value, first: str, second: str
) -> dict[str, float] | None:
    matrix = run.comparisons.values(setting, value.name)
    if matrix is None or not {first, second} <= {*matrix.methods}:
        return None
    values = matrix.values[:, [matrix.methods.index(first), matrix.methods.index(second)]]
    common = np.isfinite(values).all(axis=1)
    if len(np.unique(matrix.images[common])) < FEWEST_IMAGES:
        return None  # no interval, which isn't the same map
    values, images = values[common], matrix.images[common]
    row = paired_tests.tests(values, images, np.array([0]), np.array([1]), value).iloc[0].to_dict()
    if len(coinciding(values, (first, second), rounding_of(values, value))) == 1:
        row["p"] = np.nan
    sign = 1.0 if value.better == "higher" else -1.0
    ends = sorted((sign * row["low"], sign * row["high"]))
    counts = {name: int(row[name]) for name in ("n", "better", "same", "worse")}
    return {
        **counts,
        "gain": sign * row["difference"],
        "low": ends[0],
        "high": ends[1],
        "p": row["p"],
    }


def verdicts(rows: pd.DataFrame, titles: Titles) -> list[list[str]]:
    """A table's lines: of each pair, metric and kind of images on how many networks the first is
    better, of parts and distinct ones, and by how much over networks.
    """
    header = [
        "",
        "images",
        "metric",
        "better",
        "not significant",
        "worse",
        "same maps",
        "better, distinct networks",
    ]
    lines = [[*header, "gain over networks", "holds"]]
    for (first, second, metric, images), group in rows.groupby(
        ["method", "other", "metric", kinds(rows)], sort=False
    ):
        better, worse = (
            (group["adjusted"] < LEVEL) & (np.sign(group["gain"]) == sign) for sign in (1, -1)
        )
        same = group["p"].isna()
        told = [
            int(better.sum()),
            int((~better & ~worse & ~same).sum()),
            int(worse.sum()),
            int(same.sum()),
        ]
        gain, low, high = over_networks(group)
        interval = f" [{number(low)}, {number(high)}]" if np.isfinite(low) else ""
        about = [f"{titles[first]} over {titles[second]}", str(images), titles[metric]]
        distinct = f"{group['network'][better].nunique()} of {group['network'].nunique()}"
        lines.append([*about, *map(str, told), distinct, f"{number(gain)}{interval}", holds(*told)])
    return lines


def kinds(rows: pd.DataFrame) -> pd.Series:
    """The kind of images of each row."""
    of_suites = rows["suite"].map(SUITES).fillna(rows["part"].str.removeprefix("planted_"))
    return rows["part"].map(KINDS_OF_PARTS).fillna(of_suites)


def by_network(
    rows: pd.DataFrame, runs: Sequence[tuple[str, str, RunFolder]], titles: Titles
) -> list[list[str]]:
    """Return a line for each part of OF_PAPER and metric: both methods' values and their
    difference.
    """
    run_of_part = {part: run for _, part, run in runs}
    pair = ("grad_cam", "xgrad_cam")
    lines = [
        ["network", "images", "metric", *(titles[name] for name in pair), "gain", "XGrad-CAM is"]
    ]
    for part in [part for part in OF_PAPER if part in run_of_part]:
        run = run_of_part[part]
        for setting in run.settings:
            values = rows_at(run.summary, setting).set_index(["metric", "method"])
            of_network = rows[(rows["part"] == part) & (rows["network"] == setting.model)]
            for row in of_network.to_dict("records"):
                lead = run.metadata.value(row["metric"]).lead
                both = [number(values.loc[(row["metric"], name), lead]) for name in pair]
                gain = f"{number(row['gain'])} [{number(row['low'])}, {number(row['high'])}]"
                way = WAYS[int(np.sign(row["gain"])) if row["adjusted"] < LEVEL else 0]
                verdict = "the same map" if np.isnan(row["p"]) else way
                network = f"{setting.model} at {setting.layer}"
                lines.append(
                    [
                        network,
                        f"{row['n']} {run_kind(part)}",
                        titles[row["metric"]],
                        *both,
                        gain,
                        verdict,
                    ]
                )
    return lines


def run_kind(part: str) -> str:
    """Return the kind of images of a part of OF_PAPER."""
    return KINDS_OF_PARTS.get(part, SUITES["photographs-2"])


def by_metric(rows: pd.DataFrame, titles: Titles) -> list[list[str]]:
    """A line for each pair, of objects and each part, a cell for each metric: on how many networks
    of parts the first is better, not worse or better, and worse, and how many distinct ones these
    are.
    """
    metrics = list(dict.fromkeys(rows["metric"]))
    lines = [["", *(titles[metric] for metric in metrics)]]
    part = kinds(rows).where(rows["suite"].isin(OF_OBJECTS), "")
    for (first, second, name), group in rows.groupby(["method", "other", part], sort=False):
        cells = []
        for metric in metrics:
            of_metric = group[group["metric"] == metric]
            if of_metric.empty:
                cells.append("not measured")
                continue
            sign = np.where(of_metric["adjusted"] < LEVEL, np.sign(of_metric["gain"]), 0.0)
            counts = ", ".join(f"{int((sign == way).sum())} {word}" for way, word in WAYS.items())
            cells.append(f"{counts} ({of_metric['network'].nunique()} networks)")
        lines.append([f"{name}: {titles[first]} over {titles[second]}".removeprefix(": "), *cells])
    return lines


def over_networks(group: pd.DataFrame) -> tuple[float, float, float]:
    """The mean gain over networks and parts, with its interval over families, networks and
    images.
    """
    rows = group.assign(value=group["gain"])
    return float(rows["value"].mean()), *interval_over_networks(rows)


def holds(better: int, open_: int, worse: int, same: int) -> str:
    """better on every network where the two differ: yes; on none: no; worse somewhere: mixed."""
    if not better:
        return (
            f"**no**: worse on {worse}"
            if worse
            else "**not shown**"
            if open_
            else "**no**: the maps are the same"
        )
    if worse:
        return f"**mixed**: better on {better}, worse on {worse}"
    if open_:
        return f"**on {better} of {better + open_ + same}**"
    return "**yes**" + (" where the maps differ" if same else "")


def above_controls(
    runs: Sequence[tuple[str, str, RunFolder]], titles: Titles
) -> tuple[list[list[str]], pd.DataFrame]:
    """A table with a line for each metric and kind of images, and a row for each method, metric,
    part and network where the method has values that are compared: whether it is better than every
    control.
    """
    rows: list[dict[str, object]] = []
    for suite, part, run in runs:
        controls = {name for name in run.methods if run.metadata.method(name).control}
        ranked = (metric for metric in run.metrics if run.metadata.value(metric).has_direction)
        for metric, name in product(ranked, run.methods):
            if name not in controls and (
                found := standings(run, metric, name, with_examples=False)
            ):
                about = {"suite": suite, "part": part, "metric": metric, "method": name}
                each = {network: one for network, one in found.networks.items() if one.answered}
                rows += [
                    {**about, "network": network, "above": one.beats_controls}
                    for network, one in each.items()
                ]
    table = pd.DataFrame(rows)
    columns = (
        "above all controls on every network",
        "wherever they have values, on fewer",
        "on none",
    )
    lines = [["metric", "images", "networks", *columns]]
    for (key, images), group in table.groupby(["metric", kinds(table)], sort=False):
        networks = group[["part", "network"]].drop_duplicates()
        distinct, count = networks["network"].str.partition("+")[0].nunique(), len(networks)
        lists: tuple[list[str], list[str], list[str]] = ([], [], [])  # as the columns
        for name, above in group.groupby(group["method"].astype(str), sort=False)["above"]:
            if above.all() or not above.any():
                has_all = len(above) == count
                place = 2 if not above.any() else int(not has_all)
                lists[place].append(
                    titles[name] + ("" if has_all else f" ({len(above)} of {count})")
                )
        always, partly, never = ("; ".join(names) or "none" for names in lists)
        if len(lists[2]) > 8:
            never = f"{len(lists[2])} of {group['method'].nunique()}"
        lines.append(
            [titles[key], str(images), f"{count} ({distinct} distinct)", always, partly, never]
        )
    return lines, table


def medians(runs: Sequence[tuple[str, str, RunFolder]], titles: Titles) -> list[list[str]]:
    """A line for each of SHOWN, a cell for each part and metric of OTHER_OBJECTS: the median over
    networks of the mean over rows, and its range over networks.
    """
    columns = [(part, run, metric) for (_, part, run), metric in product(runs, OTHER_OBJECTS)]
    lines = [["", *(f"{part}: {titles[metric]}" for part, _, metric in columns)]]
    for name in SHOWN:
        cells = []
        for _, run, metric in columns:
            rows = run.records.rows([metric])
            means = (
                rows[rows["method"].astype(str) == name]
                .groupby("model", observed=True)["value"]
                .mean()
            )
            cells.append(
                f"{number(means.median())} ({number(means.min())} to {number(means.max())})"
            )
        lines.append([titles[name], *cells])
    return lines


def main() -> None:
    of_suites = {suite: runs_of([suite]) for suite in (*SUITES, *OF_AXES, *OF_OBJECTS)}
    runs, of_objects = (
        [run for suite in names for run in of_suites[suite]] for names in (SUITES, OF_OBJECTS)
    )
    titles = titles_of([run for each in of_suites.values() for run in each])
    tables, parts = dict[str, list[list[str]]](), []
    for question in QUESTIONS:
        rows = compared(question, [run for suite in question.suites for run in of_suites[suite]])
        if rows.empty:
            tables[question.name] = [["no values are published"]]
            continue
        tables[question.name] = (by_metric if question.brief else verdicts)(rows, titles)
        parts.append(rows)
    of_axioms = pd.concat(
        [rows for rows in parts if rows["question"].iloc[0] in ("axioms", "visualization")]
    )
    tables["networks"] = by_network(of_axioms, of_suites["photographs-2"], titles)
    tables["controls"], above = above_controls(runs, titles)
    tables["object_controls"], _ = above_controls(of_objects, titles)
    tables["object_maps"] = medians(of_objects, titles)
    never = above.groupby("method", sort=False)["above"].any()
    tables["never"] = [["methods that are above all controls by no metric on any network"],
                       ["; ".join(titles[name] for name in never.index[~never]) or "none"]]  # fmt: skip
    pd.concat(parts).to_csv(DOCS / "data" / "findings.csv", index=False, float_format="%.6g")
    path = DOCS / "findings.md"
    path.write_text(filled(path.read_text(encoding="utf-8"), tables), encoding="utf-8")
    print(f"written: {path.relative_to(ROOT)}, docs/data/findings.csv")


def filled(text: str, tables: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """The document with each table between its two markers."""
    for name, rows in tables.items():
        before, start, rest = text.partition(f"{START}: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not (start and end):
            raise ValueError(f"findings.md has no place for the table {name}.")
        text = f"{before}{start}\n{markdown(rows)}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    main()
