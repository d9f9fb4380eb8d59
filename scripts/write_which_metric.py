"""Write docs/which-metric.md from judged runs: which metrics to trust for what, and how many images each needs.

python scripts/write_which_metric.py [--run] [--truth RUN ...] [--agreement RUN ...] [--output docs/which-metric.md]

--run: first compute what is missing of the runs in which_metric_runs.py, which takes hours on two cores and goes on
where it stopped. --truth: runs with spoiled explainers (experiment=truth, experiment=truth_planted). --agreement: runs
without a truth, whose images can only agree. Both are those of which_metric_runs.py by default, and are read as
`axiom-bench judge` reads them; its measures are described in docs/which-metric.md.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from measuring import DOCS, text_columns
from which_metric_runs import RUNS

from axiom_bench.judging.judgement import ALL, GOAL, SIZES, Judgement, chosen_metrics, judge, overall, spoiled_methods
from axiom_bench.report.options import Options, options_of
from axiom_bench.report.scorecard import needed_text
from axiom_bench.statistics.run_folder import RunFolder

OUTPUT = DOCS / "which-metric.md"
METHOD = "\n## Judging the metrics\n"  # begins the section of the page that is written by hand
LARGEST = SIZES[-1]
WIDTH = 120
LEFT_OUT = ("results=", "shard_size=", "real_root=", "pictures.", "runtime.")  # settings that change no value
LEADS = Options.of({}).headline  # of a report by default
FEWEST_METHODS = 6  # that aren't spoiled, for an order worth comparing
READS = {  # needs of a metric that tell what it is measured against
    "interventions": "the true effects",
    "truth": "the true contributions",
    "positive_truth": "the true contributions",
    "masks": "masks",
    "boxes": "boxes",
}
INTRODUCTION = """\
# Which metric to trust

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


@dataclass(frozen=True)
class Recovered:
    """Of one metric in the runs of one experiment. right: the share of right pairs and its interval by n; lowest: by
    kind of spoiling the lowest share of a network at the largest n."""

    metric: str
    title: str
    reads: str
    leads: bool
    right: Mapping[int, tuple[float, float, float]]
    lowest: Mapping[str, float]

    @property
    def share(self) -> float:
        """At the largest n; -1 where there are too few images."""
        right = self.right.get(LARGEST, (math.nan,))[0]
        return right if math.isfinite(right) else -1.0

    @property
    def ordered(self) -> list[str]:
        """The kinds that it puts in order."""
        return [kind for kind, share in self.lowest.items() if share >= GOAL]

    @property
    def others(self) -> list[str]:
        """The other kinds, with their shares."""
        return [f"{kind} {share:.2f}" for kind, share in self.lowest.items() if share < GOAL]


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
    def num_methods(self) -> int:
        """Methods that aren't spoiled."""
        return len(set(self.run.manifest["methods"]) - set(spoiled_methods(self.run)))

    def recovered(self) -> pd.DataFrame:
        """Of all settings, with a column `model`."""
        parts = [own.recovery.assign(model=own.setting.model) for own in self.judgements if len(own.recovery)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def page(truth: Sequence[Judged], agreement: Sequence[Judged]) -> str:
    """The whole page."""
    experiments = {
        name: [own for own in truth if own.name == name] for name in dict.fromkeys(own.name for own in truth)
    }
    tables = {name: _recovered(runs) for name, runs in experiments.items()}
    parts = [INTRODUCTION, *_commands(truth, agreement), *_lead_section(tables), *_short_section(tables)]
    for name, runs in experiments.items():
        parts += _recovery_section(name, runs, tables[name])
    return "\n".join([*parts, *_agreement_section([*truth, *agreement])])


def _commands(truth: Sequence[Judged], agreement: Sequence[Judged]) -> Iterator[str]:
    yield "```sh"
    for judged in (*truth, *agreement):
        yield f"axiom-bench {_command(judged.run)}"
    runs = [" ".join(_folder(own) for own in group) for group in (truth, agreement)]
    yield f"python scripts/write_which_metric.py --truth {runs[0]}" + (f" --agreement {runs[1]}" if agreement else "")
    yield "```\n"
    yield _paragraph(ONE_COMMAND)


def _command(run: RunFolder) -> str:
    """The overrides of the run's command, without its folders."""
    own = [text for text in run.manifest.get("overrides") or () if not text.startswith(LEFT_OUT)]
    return " ".join(f'"{text}"' if "[" in text else text for text in own)


def _parameters(run: RunFolder) -> str:
    """Of the metrics, where they aren't those of conf/metric/."""
    own = [text for text in run.manifest.get("overrides") or () if text.startswith("metric.")]
    return f"; {', '.join(f'`{text}`' for text in own)}" if own else ""


def _folder(judged: Judged) -> str:
    return f"results/{judged.name}/{judged.run.manifest['run']}"


def _recovered(runs: Sequence[Judged]) -> list[Recovered]:
    """Of the metrics of runs of one experiment, the most right first; each by the first run that has it."""
    found: dict[str, Recovered] = {}
    for judged in runs:
        for metric, table in _by_metric(judged):
            if metric not in found:
                found[metric] = _of_metric(judged, table, metric)
    return sorted(found.values(), key=lambda own: -own.share)


def _by_metric(judged: Judged) -> Iterator[tuple[str, pd.DataFrame]]:
    table = judged.recovered()
    for metric in dict.fromkeys(table["metric"]) if len(table) else ():
        yield metric, table[table["metric"] == metric]


def _of_metric(judged: Judged, table: pd.DataFrame, metric: str) -> Recovered:
    rows = overall(table).to_dict("records")
    right = {row["size"]: (row["right"], row["low"], row["high"]) for row in rows}
    own = table[(table["size"] == LARGEST) & (table["kind"] != ALL)]
    lowest = {str(kind): float(share) for kind, share in own.groupby("kind")["right"].min().dropna().items()}
    run = judged.run
    leads = metric in (*options_of(run).headline, *LEADS)
    return Recovered(metric, _title(run, metric), _reads(run, metric), leads, right, lowest)


def _lead_section(tables: Mapping[str, Sequence[Recovered]]) -> Iterator[str]:
    """What the report leads with, by the goal."""
    yield "## What the report leads with\n"
    yield _paragraph(LEAD)
    rows = []
    for name, table in tables.items():
        for own in (own for own in table if own.leads):
            verdict = "reaches the goal" if own.right[LARGEST][0] >= GOAL else "doesn't reach it"
            verdict += "" if own.metric in LEADS else "; led when this was run"
            rows.append((own.title, f"`{name}`", own.reads, _share(own, LARGEST), verdict, _names(own.others)))
    header = (
        "Metric",
        "Experiment",
        "Measured against",
        f"Right at n = {LARGEST}",
        "Goal",
        "Kinds that it doesn't order",
    )
    yield text_columns([header, *rows])
    yield ""


def _short_section(tables: Mapping[str, Sequence[Recovered]]) -> Iterator[str]:
    """By kind of spoiling the metrics that order it in every experiment that has it."""
    yield "## What to trust for what\n"
    yield _paragraph(SHORT)
    kinds = dict.fromkeys(kind for table in tables.values() for own in table for kind in own.lowest)
    rows = []
    for kind in kinds:
        cells = [_names(own.title for own in table if kind in own.ordered) for table in tables.values()]
        rows.append((kind, *cells))
    yield text_columns([("To see", *(f"`{name}`" for name in tables)), *rows])
    yield ""


def _recovery_section(name: str, runs: Sequence[Judged], table: Sequence[Recovered]) -> Iterator[str]:
    """The table of one experiment with spoiled explainers, the best metric first."""
    yield f"## Recovery: `experiment={name}`\n"
    for judged in runs:
        networks = _names(f"`{own.setting.model}`" for own in judged.judgements)
        images = int(judged.recovered()["images"].max())
        yield f"- `{_folder(judged)}`: {images} images each, {networks}{_parameters(judged.run)}."
    yield ""
    header = ("Metric", "Measured against", *(f"Right at n = {size}" for size in SIZES), "Orders", "Doesn't order")
    rows = [
        (own.title, own.reads, *(_share(own, size) for size in SIZES), _names(own.ordered), _names(own.others))
        for own in table
    ]
    yield text_columns([header, *rows])
    yield "\n" + _paragraph(ORDERS)


def _agreement_section(runs: Sequence[Judged]) -> Iterator[str]:
    """Alpha and the number of images, of every metric and setting."""
    yield "## Agreement of images, and how many are needed\n"
    yield _paragraph(AGREEMENT)
    for judged in runs:
        for own in judged.judgements:
            rows = [row for row in own.metrics.to_dict("records") if math.isfinite(row["alpha"])]
            if judged.num_methods < FEWEST_METHODS:
                continue
            if not rows:
                continue
            yield f"### `{judged.name}`, `{own.setting.model}` on `{own.setting.data}`\n"
            rows.sort(key=lambda row: -row["alpha"])
            controls = own.controls.drop_duplicates("metric").set_index("metric").to_dict("index")
            header = ("Metric", "Methods", "Images", "Alpha", "n for tau 0.9", "Best control")
            yield text_columns([header, *[_agreement_row(judged.run, row, controls) for row in rows]])
            yield ""


def _agreement_row(run: RunFolder, row: dict[Any, Any], controls: dict[Any, dict[Any, Any]]) -> tuple[str, ...]:
    control = controls.get(row["metric"])
    place = (
        f"{run.metadata.method_title(control['control'])}, {control['place']} of {control['places']}" if control else ""
    )
    alpha = f"{row['alpha']:.2f}"
    if math.isfinite(row["alpha_low"]):
        alpha += f" [{row['alpha_low']:.2f}, {row['alpha_high']:.2f}]"
    counts = (str(row["methods"]), str(row["images"]))
    return (_title(run, row["metric"]), *counts, alpha, needed_text(row), place)


def _title(run: RunFolder, metric: str) -> str:
    """With its arrow."""
    value = run.metadata.value(metric)
    arrow = {"higher": " ↑", "lower": " ↓"}.get(value.better, "")
    return f"{value.title}{arrow}"


def _reads(run: RunFolder, metric: str) -> str:
    """What the metric's needs name."""
    needs = (run.manifest.get("metrics") or {}).get(metric, {}).get("needs") or ()
    names = [name for need in needs for name in (need if isinstance(need, dict) else [need])]
    reads = ", ".join(dict.fromkeys(READS[name] for name in names if name in READS))
    return reads or ("ablations" if "score_scale" in names else "the network")


def _share(own: Recovered, size: int) -> str:
    right, low, high = own.right.get(size, (math.nan, math.nan, math.nan))
    if not math.isfinite(right):
        return ""
    return f"{right:.3f} [{low:.3f}, {high:.3f}]" if math.isfinite(low) else f"{right:.3f}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


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
            run.make()
    if options.truth is None:
        options.truth = [run.folder for run in RUNS if run.is_truth]
        options.agreement = options.agreement or [run.folder for run in RUNS if not run.is_truth]
    truth, agreement = ([Judged.read(path) for path in paths] for paths in (options.truth, options.agreement or ()))
    written = options.output.read_text() if options.output.exists() else ""
    _, heading, by_hand = written.partition(METHOD)
    options.output.write_text(page(truth, agreement) + heading + by_hand)


if __name__ == "__main__":
    main()
