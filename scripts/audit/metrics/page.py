"""docs/studies/metrics-audit.md, and the table of docs/metrics.md that says who agrees, from what is measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from axiom_bench import metrics
from axiom_bench.evaluation.plugins import value_names

from ..cases import replace_cases
from ..libraries import named, quiet
from ..pages import AGREES, Page, difference
from .pairs import PAIRS, MetricPair
from .samples import Sample, tiny, trained

DISTRIBUTIONS = (
    *("quantus", "grad-cam", "torchcam", "captum"),
    *("scipy", "scikit-learn", "scikit-image", "numpy", "torch"),
)
VALUES = ("Ours", "Library", "Settings", "Tiny: ours", "library", "Trained: ours", "library", "Difference", "Left",
          "Why")  # fmt: skip


@dataclass(frozen=True)
class Side:
    """Both values of each image of one sample, (B,); the library's is a sentence where it raises."""

    own: np.ndarray
    peer: np.ndarray | str
    predicted: np.ndarray | None = None

    @property
    def difference(self) -> float:
        """The largest of an image; infinite where the library gives no value."""
        return _largest_difference(self.own, self.peer)

    @property
    def unexplained(self) -> float | None:
        """The largest difference of the library's values to those predicted from ours; None without a prediction."""
        return None if self.predicted is None else _largest_difference(self.predicted, self.peer)

    @property
    def means(self) -> tuple[str, str]:
        """Both means over the images."""
        return _mean(self.own), self.peer if isinstance(self.peer, str) else _mean(self.peer)


@dataclass(frozen=True)
class Finding:
    """A pair's values; None where the sample doesn't suit it."""

    pair: MetricPair
    tiny: Side | None
    trained: Side | None

    @property
    def agrees(self) -> bool:
        """Within AGREES on every sample measured."""
        return all(side.difference <= AGREES for side in (self.tiny, self.trained) if side is not None)

    @property
    def is_predicted(self) -> bool:
        """Whether the library differs by what the pair's `why` says, and by nothing else."""
        unexplained = self.trained.unexplained if self.trained else None
        return unexplained is not None and unexplained <= AGREES


def write(docs: Path) -> None:
    """Measure every pair, of which a line is printed, and run every case. Raises AssertionError as `measured` does."""
    small, large, findings = tiny(), trained(), list[Finding]()
    for pair in PAIRS:
        findings.append(measured(pair, small, large))
        print(f"{pair.value}, {pair.title}: {'agrees' if findings[-1].agrees else 'differs'}", flush=True)
    page = Page("studies/metrics-audit.md")
    page.replace(r"(?<=don't edit\. ).*\.$", f"{named(DISTRIBUTIONS)}.")
    page.replace(r"^(- .*\n)+", "".join(f"- {line}\n" for line in _counts(findings)))
    page.replace_table(VALUES, map(row, findings), text_columns=3)
    replace_cases(page, "metrics", {})
    page.write(docs)
    page = Page("metrics.md")
    page.replace_table(("metric", "agrees with", "differs from"), summary(findings), text_columns=3)
    page.write(docs)


def measured(pair: MetricPair, small: Sample, large: Sample) -> Finding:
    """Measure a pair. Raises AssertionError where our value of the tiny sample isn't the one computed by hand."""
    check_by_hand(pair, small)
    return Finding(
        pair,
        None if pair.by_hand is None else _side(pair, small),
        _side(pair, large) if pair.on_trained else None,
    )


def check_by_hand(pair: MetricPair, small: Sample) -> None:
    """Compare our value of the tiny sample with the one computed by hand. Raises AssertionError."""
    if pair.by_hand is not None:
        np.testing.assert_allclose(pair.own(small), pair.by_hand, rtol=0, atol=1e-6, err_msg=pair.value)


def _side(pair: MetricPair, sample: Sample) -> Side:
    """Both metrics on one sample."""
    own = pair.own(sample)
    predicted = None if pair.predicted is None else pair.predicted(sample, own)
    try:
        with quiet():
            peer = np.asarray(pair.peer(sample), dtype=np.float64)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
        return Side(own, f"raises {type(error).__name__}", predicted)
    return Side(own, peer, predicted)


def _largest_difference(values: np.ndarray, others: np.ndarray | str) -> float:
    if isinstance(others, str):
        return math.inf
    differences = np.abs(values - others)
    return math.inf if np.isnan(differences).any() else float(differences.max())


def _mean(values: np.ndarray) -> str:
    return f"{np.nanmean(values):.6g}"


def _counts(findings: list[Finding]) -> list[str]:
    agreeing = sum(finding.agrees for finding in findings)
    predicted = sum(finding.is_predicted for finding in findings if not finding.agrees)
    paired = {pair.value for pair in PAIRS}
    names = [value for name in metrics.names() for value in value_names(metrics.get(name))]
    return [
        f"{agreeing} of {len(findings)} comparisons agree within {AGREES:g} on every image.",
        f"{predicted} differ by what the table says, and by nothing else: values predicted from it agree with theirs "
        f"within {AGREES:g}.",
        "Not compared (no pair in `scripts/audit/metrics/pairs.py`): "
        f"{', '.join(f'`{name}`' for name in names if name not in paired)}.",
    ]


def row(finding: Finding) -> tuple[str, ...]:
    """Of the table of values."""
    pair, trained = finding.pair, finding.trained
    return (
        f"`{pair.value}`",
        pair.title,
        pair.settings,
        *(finding.tiny.means if finding.tiny else "--"),
        *(trained.means if trained else "--"),
        difference(trained.difference if trained else None),
        difference(trained.unexplained if trained else None),
        " ".join([pair.why, f"(`{pair.case}.py`)" if pair.case else ""]).strip(),
    )


def summary(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """A row for each of our values: which libraries agree, with what would differ on other images, and which differ."""
    agreeing: dict[str, list[str]] = {}
    differing: dict[str, list[str]] = {}
    for pair, agrees in ((finding.pair, finding.agrees) for finding in findings):
        agree, differ = (texts.setdefault(pair.value, []) for texts in (agreeing, differing))
        if agrees:
            agree.append(f"{pair.title} (on other images: {pair.why})" if pair.why else pair.title)
        else:
            differ.append(f"{pair.title}: {pair.why}")
    return [
        (f"`{value}`", ", ".join(dict.fromkeys(agree)) or "-", "; ".join(differing[value]) or "-")
        for value, agree in agreeing.items()
    ]
