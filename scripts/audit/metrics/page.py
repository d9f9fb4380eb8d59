"""docs/metrics-audit.md from what was measured, and the table of docs/metrics.md that says who agrees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from axiom_bench import metrics
from axiom_bench.evaluation.plugins import value_names

from .. import cases
from ..libraries import versions
from ..markdown import AGREES, difference, paragraph, table
from .findings import MetricFinding, Side
from .pairs import PAIRS, MetricPair
from .samples import IMAGES

COMMAND = "python -m scripts.audit metrics"
DISTRIBUTIONS = (
    *("quantus", "grad-cam", "torchcam", "captum"),
    *("scipy", "scikit-learn", "scikit-image", "numpy", "torch"),
)
MARKERS = (f"<!-- {COMMAND} -->", "<!-- end -->")


def metrics_page(findings: Sequence[MetricFinding]) -> str:
    """The whole page."""
    lines = [*_head(findings), *_values(findings), *cases.section("metrics")]
    return "\n".join(lines).rstrip() + "\n"


def _head(findings: Sequence[MetricFinding]) -> list[str]:
    """Versions, the command, and the counts."""
    agreeing = [finding for finding in findings if finding.agrees]
    predicted = [finding for finding in findings if not finding.agrees and finding.is_predicted]
    return [
        "# Audit of other libraries' metrics",
        "",
        f"Written by `{COMMAND}`; don't edit. {', '.join(map(' '.join, versions(DISTRIBUTIONS).items()))}.",
        "",
        *paragraph(
            """Each library's metric is called as its documentation says and compared with this project's, on the same
            maps, images and classes, with softmax probabilities wherever a score is needed, unless the settings say
            logit. The settings name what both were set to where their defaults differ. A metric of a whole data set is
            called for each image alone."""
        ),
        f"- {len(agreeing)} of {len(findings)} comparisons agree within {AGREES:g} on every image.",
        f"- {len(predicted)} differ by what the table says, and by nothing else: values predicted from it agree with "
        + f"theirs within {AGREES:g}.",
        f"- Not compared (no pair in `scripts/audit/metrics/pairs.py`): {', '.join(_unpaired())}.",
        "",
    ]


def _unpaired() -> list[str]:
    """Our values that no pair is about."""
    paired = {pair.value for pair in PAIRS}
    names = [value for name in metrics.names() for value in value_names(metrics.get(name))]
    return [f"`{name}`" for name in names if name not in paired]


def _values(findings: Iterable[MetricFinding]) -> list[str]:
    """A row for each pair."""
    header = ("Ours", "Library", "Settings", "Tiny: ours", "library", "Trained: ours", "library", "Difference", "Left",
              "Why")  # fmt: skip
    return [
        "## Values",
        "",
        *paragraph(
            f"""Tiny: one image of 2 x 2 pixels; the script stops where our value isn't the one computed on paper.
            Trained: {IMAGES} scenes, the embedded network `scenes_vgg`, Grad-CAM: means, and the largest difference of
            an image. Left: the largest difference between the library's values and those predicted from ours and the
            last column. A reason beside a difference in normal type: none of these images meets it. A dash: not
            measured."""
        ),
        *table(header, map(_row, findings), text_columns=3),
    ]


def _row(finding: MetricFinding) -> tuple[str, ...]:
    pair, trained = finding.pair, finding.trained
    why = " ".join([pair.why, f"(`{pair.case}.py`)" if pair.case else ""]).strip()
    return (
        f"`{pair.value}`",
        pair.title,
        pair.settings,
        *_means(finding.tiny),
        *_means(trained),
        difference(trained.difference if trained else None),
        difference(trained.unexplained if trained else None),
        why,
    )


def _means(side: Side | None) -> tuple[str, str]:
    """Both means over the images."""
    if side is None:
        return "-", "-"
    return _mean(side.own), side.peer if isinstance(side.peer, str) else _mean(side.peer)


def _mean(values: np.ndarray) -> str:
    return f"{np.nanmean(values):.6g}"


def summary(findings: Iterable[MetricFinding]) -> list[str]:
    """A row for each of our values: which libraries agree, and which differ."""
    by_value: dict[str, list[MetricFinding]] = {}
    for finding in findings:
        by_value.setdefault(finding.pair.value, []).append(finding)
    rows = [
        (
            f"`{value}`",
            ", ".join(dict.fromkeys(_agreement(finding.pair) for finding in of_value if finding.agrees)) or "-",
            "; ".join(f"{finding.pair.title}: {finding.pair.why}" for finding in of_value if not finding.agrees) or "-",
        )
        for value, of_value in by_value.items()
    ]
    return table(("metric", "agrees with", "differs from"), rows, text_columns=3)


def _agreement(pair: MetricPair) -> str:
    """The library and its metric, and what would differ on other images."""
    return f"{pair.title} (on other images: {pair.why})" if pair.why else pair.title


def with_summary(text: str, findings: Iterable[MetricFinding]) -> str:
    """A page with the table of `summary` between MARKERS. Exits with a message where the page lacks these lines."""
    before, start, rest = text.partition(MARKERS[0])
    _, end, after = rest.partition(MARKERS[1])
    if not (start and end):
        raise SystemExit(f"docs/metrics.md needs the lines {' and '.join(MARKERS)}.")
    return "\n".join([before + start, "", *summary(findings), end + after])
