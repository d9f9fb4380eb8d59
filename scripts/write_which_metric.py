"""Write docs/which-metric.md from judged runs: which metrics to trust for what, and how many images each needs.

python scripts/write_which_metric.py --truth results/truth/default results/truth_planted/default \
    [--agreement results/mosaic/default results/real/default] [--output docs/which-metric.md]

--truth: runs with spoiled explainers (experiment=truth, experiment=truth_planted). --agreement: runs without a truth,
whose images can only agree. Both as `axiom-bench judge` reads them; its measures are described in docs/judging.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.report.judging.judgement import Judgement, chosen_metrics, judge, overall
from axiom_bench.report.judging.recovery import ALL, GOAL, SIZES
from axiom_bench.report.judging.tables import needed_text
from axiom_bench.report.run_folder import RunFolder

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "which-metric.md"
LARGEST = SIZES[-1]
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
tie counts half; in brackets the 95 % interval. How each number is computed: [judging.md](judging.md). A kind of spoiling
that a metric doesn't order is what it can't see, whatever its rank of methods.
"""


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
        settings = [setting for setting in run.settings if not run.has_random_weights(setting.model)]
        return Judged(run, tuple(judge(run, setting, metrics) for setting in settings))

    @property
    def name(self) -> str:
        return str(self.run.manifest["experiment"])

    def recovered(self) -> pd.DataFrame:
        """Of all settings, with a column `model`."""
        parts = [own.recovery.assign(model=own.setting.model) for own in self.judgements if len(own.recovery)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def page(truth: Sequence[Judged], agreement: Sequence[Judged]) -> str:
    """The whole page."""
    parts = [INTRODUCTION, *_commands(truth, agreement)]
    for judged in truth:
        parts += [*_recovery_section(judged)]
    parts += [*_agreement_section([*truth, *agreement])]
    return "\n".join(parts)


def _commands(truth: Sequence[Judged], agreement: Sequence[Judged]) -> Iterator[str]:
    yield "```sh"
    for judged in (*truth, *agreement):
        yield f"axiom-bench {_command(judged.run)}"
    runs = [" ".join(_folder(own) for own in group) for group in (truth, agreement)]
    yield f"python scripts/write_which_metric.py --truth {runs[0]}" + (f" --agreement {runs[1]}" if agreement else "")
    yield "```\n"


def _command(run: RunFolder) -> str:
    """The overrides of the run's command, without its folders."""
    own = [text for text in run.manifest.get("overrides") or () if not text.startswith(("results=", "shard_size="))]
    return " ".join(f'"{text}"' if "[" in text else text for text in own)


def _folder(judged: Judged) -> str:
    return f"results/{judged.name}/{judged.run.manifest['run']}"


def _recovery_section(judged: Judged) -> Iterator[str]:
    """The table of one run with spoiled explainers, the best metric first."""
    table = judged.recovered()
    networks = ", ".join(f"`{own.setting.model}`" for own in judged.judgements)
    yield f"## Recovery: `experiment={judged.name}`\n"
    yield f"{networks}; {_images(judged)} images each; {len(_kinds(table))} kinds of spoiling: {_names(_kinds(table))}.\n"
    header = ("Metric", "Measured against", *(f"Right at n = {size}" for size in SIZES), "Orders", "Doesn't order")
    yield from _markdown(header, _recovery_rows(judged, table))
    yield (
        f"\n*Orders*: kinds of which at least {GOAL:.0%} of pairs are right at n = {LARGEST} on every network; *doesn't "
        "order*: all others, with the lowest share of a network. A metric measured against the truth that the "
        "explainers are made of puts these in order by construction; its row checks the spoiling.\n"
    )


def _recovery_rows(judged: Judged, table: pd.DataFrame) -> list[tuple[str, ...]]:
    rows = []
    by_metric = {(row["metric"], row["size"]): row for row in overall(table.drop(columns="model")).to_dict("records")}
    for metric in dict.fromkeys(table["metric"]):
        right = [by_metric.get((metric, size)) for size in SIZES]
        own = table[(table["metric"] == metric) & (table["size"] == LARGEST) & (table["kind"] != ALL)]
        lowest = own.groupby("kind")["right"].min().dropna().to_dict()
        ordered = [kind for kind, share in lowest.items() if share >= GOAL]
        others = [f"{kind} {share:.2f}" for kind, share in lowest.items() if share < GOAL]
        cells = (_title(judged.run, metric), _reads(judged.run, metric), *map(_share, right))
        key = right[-1]["right"] if right[-1] is not None else math.nan
        rows.append((key, (*cells, _names(ordered), _names(others))))
    return [row for _, row in sorted(rows, key=lambda entry: -entry[0] if math.isfinite(entry[0]) else 1.0)]


def _agreement_section(runs: Sequence[Judged]) -> Iterator[str]:
    """Alpha and the number of images, of every metric and setting."""
    yield "## Agreement of images, and how many are needed\n"
    yield (
        "Of the methods and controls of each run, not of spoiled explainers. *Alpha*: Krippendorff's ordinal alpha of "
        "the images' rankings. *n*: images of which two sets would put the methods in the same order with Kendall's tau "
        "0.9, extrapolated from half of the images where it is marked with \N{ALMOST EQUAL TO}. *Control*: the place of "
        "the best one among the methods.\n"
    )
    for judged in runs:
        for own in judged.judgements:
            rows = [row for row in own.metrics.to_dict("records") if math.isfinite(row["alpha"])]
            if not rows:
                continue
            yield f"### `{judged.name}`, `{own.setting.model}`\n"
            rows.sort(key=lambda row: -row["alpha"])
            controls = own.controls.drop_duplicates("metric").set_index("metric").to_dict("index")
            header = ("Metric", "Methods", "Images", "Alpha", "n for tau 0.9", "Best control")
            yield from _markdown(header, [_agreement_row(judged.run, row, controls) for row in rows])
            yield ""


def _agreement_row(run: RunFolder, row: dict[Any, Any], controls: dict[Any, dict[Any, Any]]) -> tuple[str, ...]:
    control = controls.get(row["metric"])
    place = f"{run.method_title(control['control'])}, {control['place']} of {control['places']}" if control else ""
    alpha = f"{row['alpha']:.2f}"
    if math.isfinite(row["alpha_low"]):
        alpha += f" [{row['alpha_low']:.2f}, {row['alpha_high']:.2f}]"
    counts = (str(row["methods"]), str(row["images"]))
    return (_title(run, row["metric"]), *counts, alpha, needed_text(row), place)


def _title(run: RunFolder, metric: str) -> str:
    """With its arrow, and a mark where the report leads with it."""
    value = run.value(metric)
    arrow = {"higher": " ↑", "lower": " ↓"}.get(value.better, "")
    return f"{value.title}{arrow}"


def _reads(run: RunFolder, metric: str) -> str:
    """What the metric's needs name."""
    needs = (run.manifest.get("metrics") or {}).get(metric, {}).get("needs") or ()
    names = [name for need in needs for name in (need if isinstance(need, dict) else [need])]
    if "score_scale" in names:
        return "ablations"
    return ", ".join(dict.fromkeys(READS[name] for name in names if name in READS)) or "the network"


def _share(row: dict[Any, Any] | None) -> str:
    if row is None or not math.isfinite(row["right"]):
        return ""
    interval = f" [{row['low']:.3f}, {row['high']:.3f}]" if math.isfinite(row["low"]) else ""
    return f"{row['right']:.3f}{interval}"


def _kinds(table: pd.DataFrame) -> list[str]:
    return [kind for kind in dict.fromkeys(table["kind"]) if kind != ALL]


def _images(judged: Judged) -> int:
    return max(int(own.metrics["images"].max()) for own in judged.judgements)


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", nargs="+", type=Path, required=True, metavar="RUN")
    parser.add_argument("--agreement", nargs="*", type=Path, default=[], metavar="RUN")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    truth, agreement = ([Judged.read(path) for path in paths] for paths in (options.truth, options.agreement))
    options.output.write_text(page(truth, agreement))


if __name__ == "__main__":
    main()
