"""Write docs/which-metric.md from judged runs: which metrics to trust for what, and how many images each needs.

python scripts/write_which_metric.py [--run] [--truth RUN ...] [--agreement RUN ...] [--output docs/which-metric.md]

--run: first compute what is missing of RUNS, which takes hours on two cores and goes on where it stopped. --truth: runs
with spoiled explainers (experiment=truth, experiment=truth_planted). --agreement: runs without a truth, whose images
can only agree. Both are those of RUNS by default, and are read as `axiom-bench judge` reads them; its measures are
described in docs/which-metric.md.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from measuring import DOCS, markdown

from axiom_bench.judging.judgement import ALL, GOAL, SIZES, Judgement, chosen_metrics, judge, overall, spoiled_methods
from axiom_bench.report.options import Options, options_of
from axiom_bench.report.scorecard import needed_text
from axiom_bench.statistics.run_folder import RunFolder

OUTPUT = DOCS / "which-metric.md"
DEGREES_OF_SPOILING = "\n## Degrees of spoiling\n"  # begins what this script writes; what is before is by hand
METHOD = "\n## Judging the metrics\n"  # ends it; what follows is written by hand
LARGEST = SIZES[-1]
WIDTH = 120
LEFT_OUT = ("results=", "shard_size=", "real_root=", "pictures.", "runtime.")  # settings that change no value
LEADS = Options.of({}).headline  # of a report by default
FEWEST_METHODS = 6  # that aren't spoiled, for an order worth comparing
READS = {  # needs of a metric that tell what it is measured against
    **{"interventions": "the true effects", "masks": "masks", "boxes": "boxes"},
    **dict.fromkeys(("truth", "positive_truth"), "the true contributions"),
}
INTRODUCTION = """\
Measured, as found: explainers whose order is known, because the right explanation was spoiled by degrees
([methods.md](methods.md#spoiled-explainers)), and the images' agreement on the order of methods. *Right* is the share
of pairs of degrees of one kind of spoiling that a metric puts in the right order by its mean or median over n images; a
tie counts half; in brackets the 95 % interval. How each number is computed: [below](#judging-the-metrics). Where a
metric doesn't order a kind of spoiling, it can't see it, or prefers the worse explanation.
"""
ONE_COMMAND = """\
`python scripts/write_which_metric.py --run` does all of this, and goes on where it stopped."""
LEAD = f"""\
The goal: at least {GOAL:.0%} of pairs right at n = {LARGEST}. The axiom errors stay in the lead whatever they reach:
they are what the benchmark is about."""
SHORT = f"""\
Metrics that put at least {GOAL:.0%} of the pairs of a kind in order at n = {LARGEST}, on every network of the
experiment."""
ORDERS = f"""\
*Orders*: kinds of which at least {GOAL:.0%} of pairs are right at n = {LARGEST} on every network; *doesn't order*: all
others, with the lowest share of a network. A metric that is measured against the very truth that the explainers are
made of orders them by construction: its row checks the spoiling, not the metric. Where not even such a metric orders a
kind, as shifts on the small maps of planted networks, the order of that kind is in doubt, not the metrics."""
AGREEMENT = f"""\
Of the methods and controls of each run, not of spoiled explainers; runs of fewer than {FEWEST_METHODS} methods are left
out. *Alpha*: Krippendorff's ordinal alpha of the images' rankings. *n*: images of which two sets would put the methods
in the same order with Kendall's tau 0.9, extrapolated from half of the images where it is marked with
\N{ALMOST EQUAL TO}. *Best control*: its place among the methods."""


DEGREES = (25, 50, 75, 100)
MAPS = ("noise", "blur", "shift", "upside_down", "other_image")  # kinds that spoil maps, not channel totals
SPOILED = ",".join(["truth", *(f"{kind}_{degree}" for kind in MAPS for degree in DEGREES)])


class Run(NamedTuple):
    """An experiment's run and its overrides. is_truth: whether it has spoiled explainers."""

    experiment: str
    overrides: tuple[str, ...] = ()
    run: str = "default"
    is_truth: bool = True

    @property
    def folder(self) -> Path:
        return Path("results") / self.experiment / self.run

    @property
    def arguments(self) -> list[str]:
        """Of axiom-bench."""
        return [f"experiment={self.experiment}", f"run={self.run}", *self.overrides]


def _of_maps(methods: str, metrics: str, *others: str) -> tuple[str, ...]:
    """Overrides of metrics of maps, which need many passes: with fewer methods, and one network."""
    return (f"method=[{methods}]", f"spoiled=[{SPOILED}]", f"metric=[{metrics}]", "model=scenes_vgg", *others)


FEW = "grad_cam_pp,random,sobel,xgrad_cam"
OF_TOTALS = (
    "average_drop,average_gain,axiom_floor_distance,class_correlation,confidence_drop,conservation_error,"
    "energy_pointing_game,entropy,gini,ground_reliance,increase_in_confidence,mask_iou,mass_accuracy,object_deletion,"
    "pointing_game,random_logit,sensitivity_error,sensitivity_error_scaled,single_deletion,target_shift"
)
OF_MAPS = "adcc,box_iou,gt_known_loc,negative_share,pointing_game_strict,pxap,saco,single_deletion,top_k_intersection"
REPEATED = "explanation_sensitivity_captum,faithfulness_correlation,infidelity"
REPEATED += ",model_parameter_randomisation_three_stages"
CURVES = ("deletion_auc", "insertion_auc")
FEW_STEPS = tuple(f"metric.{name}.params.steps=28" for name in CURVES)
PLANTED = "planted_additive,planted_bias,planted_suppressing,planted_saturating,planted_and,planted_or"
OF_PHOTOGRAPHS = (
    "average_drop,axiom_floor_distance,box_iou,class_correlation,confidence_drop,conservation_error,"
    "energy_pointing_game,entropy,gini,increase_in_confidence,pointing_game,random_logit,sensitivity_error,"
    "sensitivity_error_scaled,single_deletion"
)
METHODS = (
    "ablation_cam,centered,grad_cam,grad_cam_pp,hires_cam,layer_cam,negated,other_image,random,shuffled_channels,"
    "sobel,uniform,xgrad_cam"
)
PHOTOGRAPHS = ("model=squeezenet1_1", "data.size=100", f"method=[{METHODS}]", f"metric=[{OF_PHOTOGRAPHS}]")
RUNS = (
    Run("truth", (f"metric=[{OF_TOTALS}]",)),
    Run("truth", _of_maps(FEW, OF_MAPS), "maps"),
    Run("truth", _of_maps(FEW, REPEATED), "repeated"),
    Run("truth", _of_maps("xgrad_cam", ",".join(CURVES), *FEW_STEPS, "data.size=120"), "curves"),
    Run("truth", _of_maps("xgrad_cam", "srg", "data.size=120"), "srg"),
    Run("truth_planted", (f"model={PLANTED}", "pictures.rows=0")),
    Run("truth_planted", ("metric=[single_deletion,energy_pointing_game]", "pictures.rows=0"), "deletion"),
    Run("mosaic", is_truth=False),
    Run("real", (*PHOTOGRAPHS, "data.batch_size=10"), is_truth=False),
)


@dataclass(frozen=True)
class Recovered:
    """Of one metric in an experiment's runs. right: the share of right pairs and its interval by n; lowest: by kind of
    spoiling the lowest share of a network at the largest n."""

    metric: str
    title: str
    reads: str
    leads: bool
    right: Mapping[int, tuple[float, float, float]]
    lowest: Mapping[str, float]

    @property
    def ordered(self) -> list[str]:
        """The kinds that it puts in order."""
        return [kind for kind, share in self.lowest.items() if share >= GOAL]

    @property
    def others(self) -> str:
        """The other kinds, with their shares."""
        return ", ".join(f"{kind} {share:.2f}" for kind, share in self.lowest.items() if share < GOAL)

    def share(self, size: int) -> str:
        """Of right pairs with its interval; empty where there are too few images."""
        right, low, high = self.right.get(size, (math.nan, math.nan, math.nan))
        if not math.isfinite(right):
            return ""
        return f"{right:.3f} [{low:.3f}, {high:.3f}]" if math.isfinite(low) else f"{right:.3f}"


@dataclass(frozen=True, eq=False)
class Judged:
    """A run with the judgements of its settings."""

    run: RunFolder
    judgements: tuple[Judgement, ...]

    @staticmethod
    def read(folder: Path) -> Judged:
        """Settings with random weights rank nothing, and are left out."""
        run = RunFolder.read(folder)
        metrics = chosen_metrics(run, None)
        settings = [setting for setting in run.settings if not run.metadata.has_random_weights(setting.model)]
        return Judged(run, tuple(judge(run, setting, metrics) for setting in settings))

    @property
    def name(self) -> str:
        return str(self.run.manifest["experiment"])

    @property
    def folder(self) -> str:
        return f"results/{self.name}/{self.run.manifest['run']}"

    def overrides(self) -> list[str]:
        return list(self.run.manifest.get("overrides") or ())

    def recovered(self) -> pd.DataFrame:
        """Of all settings, with a column `model`."""
        parts = [each.recovery.assign(model=each.setting.model) for each in self.judgements if len(each.recovery)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def page(truth: Sequence[Judged], agreement: Sequence[Judged]) -> str:
    """The whole page."""
    experiments: dict[str, list[Judged]] = {}
    for judged in truth:
        experiments.setdefault(judged.name, []).append(judged)
    tables = {name: _recovered(runs) for name, runs in experiments.items()}
    parts = [INTRODUCTION, *_commands(truth, agreement), *_lead_section(tables), *_short_section(tables)]
    for name, runs in experiments.items():
        parts += _recovery_section(name, runs, tables[name])
    return "\n".join([*parts, *_agreement_section([*truth, *agreement])])


def _commands(truth: Sequence[Judged], agreement: Sequence[Judged]) -> Iterator[str]:
    """The runs' commands, without their folders, and this script's."""
    yield "```sh"
    for judged in (*truth, *agreement):
        kept = [text for text in judged.overrides() if not text.startswith(LEFT_OUT)]
        yield " ".join(["axiom-bench", *(f'"{text}"' if "[" in text else text for text in kept)])
    runs = [" ".join(judged.folder for judged in group) for group in (truth, agreement)]
    yield f"python scripts/write_which_metric.py --truth {runs[0]}" + (f" --agreement {runs[1]}" if agreement else "")
    yield "```\n"
    yield _paragraph(ONE_COMMAND)


def _recovered(runs: Sequence[Judged]) -> list[Recovered]:
    """Of the metrics of runs of one experiment, the most right first; each by the first run that has it."""
    found: dict[str, Recovered] = {}
    for judged in runs:
        table = judged.recovered()
        for metric in dict.fromkeys(table["metric"]) if len(table) else ():
            if metric not in found:
                found[metric] = _of_metric(judged.run, table[table["metric"] == metric], metric)
    return sorted(found.values(), key=lambda each: -np.nan_to_num(each.right.get(LARGEST, (math.nan,))[0], nan=-1.0))


def _of_metric(run: RunFolder, table: pd.DataFrame, metric: str) -> Recovered:
    right = {row["size"]: (row["right"], row["low"], row["high"]) for row in overall(table).to_dict("records")}
    largest = table[(table["size"] == LARGEST) & (table["kind"] != ALL)]
    lowest = {str(kind): float(share) for kind, share in largest.groupby("kind")["right"].min().dropna().items()}
    leads = metric in (*options_of(run).headline, *LEADS)
    return Recovered(metric, _title(run, metric), _reads(run, metric), leads, right, lowest)


def _lead_section(tables: Mapping[str, Sequence[Recovered]]) -> Iterator[str]:
    """What the report leads with, by the goal."""
    yield "### What the report leads with\n"
    yield _paragraph(LEAD)
    right, others = f"Right at n = {LARGEST}", "Kinds that it doesn't order"
    rows = [("Metric", "Experiment", "Measured against", right, "Goal", others)]
    for name, table in tables.items():
        for each in (each for each in table if each.leads):
            verdict = "reaches the goal" if each.right[LARGEST][0] >= GOAL else "doesn't reach it"
            verdict += "" if each.metric in LEADS else "; led when this was run"
            rows.append((each.title, f"`{name}`", each.reads, each.share(LARGEST), verdict, each.others))
    yield markdown(rows) + "\n"


def _short_section(tables: Mapping[str, Sequence[Recovered]]) -> Iterator[str]:
    """By kind of spoiling the metrics that order it in every experiment that has it."""
    yield "### What to trust for what\n"
    yield _paragraph(SHORT)
    rows = [("To see", *(f"`{name}`" for name in tables))]
    for kind in dict.fromkeys(kind for table in tables.values() for each in table for kind in each.lowest):
        cells = [", ".join(each.title for each in table if kind in each.ordered) for table in tables.values()]
        rows.append((kind, *cells))
    yield markdown(rows) + "\n"


def _recovery_section(name: str, runs: Sequence[Judged], table: Sequence[Recovered]) -> Iterator[str]:
    """The table of one experiment with spoiled explainers, the best metric first."""
    yield f"### Recovery: `experiment={name}`\n"
    for judged in runs:
        networks = ", ".join(f"`{each.setting.model}`" for each in judged.judgements)
        images = int(judged.recovered()["images"].max())
        changed = ", ".join(f"`{text}`" for text in judged.overrides() if text.startswith("metric."))
        yield f"- `{judged.folder}`: {images} images each, {networks}{changed and f'; {changed}'}."
    yield ""
    header = ("Metric", "Measured against", *(f"Right at n = {size}" for size in SIZES), "Orders", "Doesn't order")
    rows = [
        (each.title, each.reads, *(each.share(size) for size in SIZES), ", ".join(each.ordered), each.others)
        for each in table
    ]
    yield markdown([header, *rows])
    yield "\n" + _paragraph(ORDERS)


def _agreement_section(runs: Sequence[Judged]) -> Iterator[str]:
    """Alpha and the number of images, of every metric and setting."""
    yield "### Agreement of images, and how many are needed\n"
    yield _paragraph(AGREEMENT)
    for judged in runs:
        if len(set(judged.run.manifest["methods"]) - set(spoiled_methods(judged.run))) < FEWEST_METHODS:
            continue
        for each in judged.judgements:
            rows = [row for row in each.metrics.to_dict("records") if math.isfinite(row["alpha"])]
            if not rows:
                continue
            yield f"#### `{judged.name}`, `{each.setting.model}` on `{each.setting.data}`\n"
            rows.sort(key=lambda row: -row["alpha"])
            controls = each.controls.drop_duplicates("metric").set_index("metric").to_dict("index")
            header = ("Metric", "Methods", "Images", "Alpha", "n for tau 0.9", "Best control")
            yield markdown([header, *(_agreement_row(judged.run, row, controls) for row in rows)]) + "\n"


def _agreement_row(run: RunFolder, row: dict[Any, Any], controls: dict[Any, dict[Any, Any]]) -> tuple[str, ...]:
    place, alpha = "", f"{row['alpha']:.2f}"
    if control := controls.get(row["metric"]):
        place = f"{run.metadata.method_title(control['control'])}, {control['place']} of {control['places']}"
    if math.isfinite(row["alpha_low"]):
        alpha += f" [{row['alpha_low']:.2f}, {row['alpha_high']:.2f}]"
    return _title(run, row["metric"]), str(row["methods"]), str(row["images"]), alpha, needed_text(row), place


def _title(run: RunFolder, metric: str) -> str:
    """With its arrow."""
    value = run.metadata.value(metric)
    return value.title + {"higher": " ↑", "lower": " ↓"}.get(value.better, "")


def _reads(run: RunFolder, metric: str) -> str:
    """What the metric's needs name."""
    needs = (run.manifest.get("metrics") or {}).get(metric, {}).get("needs") or ()
    names = [name for need in needs for name in (need if isinstance(need, dict) else [need])]
    reads = ", ".join(dict.fromkeys(READS[name] for name in names if name in READS))
    return reads or ("ablations" if "score_scale" in names else "the network")


def _paragraph(text: str) -> str:
    """In lines of the docs' width, and an empty one."""
    return "\n".join(textwrap.wrap(text, WIDTH)) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--truth", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--agreement", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if options.run:
        for run in RUNS:
            subprocess.run([sys.executable, "-m", "axiom_bench.cli.main", *run.arguments], check=True)
    if options.truth is None:
        options.truth = [run.folder for run in RUNS if run.is_truth]
        options.agreement = options.agreement or [run.folder for run in RUNS if not run.is_truth]
    truth, agreement = ([Judged.read(path) for path in paths] for paths in (options.truth, options.agreement or ()))
    written = options.output.read_text() if options.output.exists() else ""
    start, _, rest = written.partition(DEGREES_OF_SPOILING)
    _, heading, end = rest.partition(METHOD)
    options.output.write_text(f"{start}{DEGREES_OF_SPOILING}\n{page(truth, agreement)}{heading}{end}")


if __name__ == "__main__":
    main()
