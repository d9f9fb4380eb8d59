"""What changed in a library's values from one release to the next, by the gate's own comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axiom_bench.gate.baseline import Baseline
from axiom_bench.gate.findings import Finding, moved_names, moved_values

from .release import Release
from .values import DIFFERENCE

BETTER = {DIFFERENCE: "lower"}
METHOD = 3  # its place in a finding's row


@dataclass(frozen=True)
class Change:
    """A method of which the gate has findings. moved: the largest difference of its maps, as a fraction of a map's
    largest value; infinite where a map has another size or other NaN; None where one side has no map. to_formula: the
    mean of its differences to our formula before and after, on the trained network where there is one."""

    method: str
    findings: tuple[Finding, ...]
    moved: float | None
    to_formula: tuple[float, float]

    @property
    def statuses(self) -> Finding | None:
        """Where it came, went, failed or was mended, the first of the findings that say so."""
        return next((finding for finding in self.findings if finding.what == "statuses"), None)


def changes(before: Release, after: Release) -> Iterator[Change]:
    """The methods of which the gate has findings, in order. Raises SystemExit where the two were measured on other
    images, BenchError for a damaged file."""
    old, new = Baseline.read(before.baseline), Baseline.read(after.baseline)
    if old.configuration != new.configuration:
        raise SystemExit(f"{before.folder} and {after.folder} hold values of other images; delete one's measured.json.")
    findings = [*moved_names(old.rows, new.rows), *moved_values(old.rows, new.rows, BETTER)]
    by_method: dict[str, list[Finding]] = {}
    for finding in findings:
        by_method.setdefault(finding.place[METHOD if finding.row else 1], []).append(finding)
    for method, own in sorted(by_method.items()):
        to_formula = (_to_formula(old, method), _to_formula(new, method))
        yield Change(method, tuple(own), moved(before, after, method), to_formula)


def _to_formula(baseline: Baseline, method: str) -> float:
    rows = baseline.rows[(baseline.rows["method"] == method) & (baseline.rows["metric"] == DIFFERENCE)]
    trained = rows[~rows["model"].str.startswith("tiny")]
    return float((rows if trained.empty else trained)["mean"].iloc[0])


def moved(before: Release, after: Release, method: str) -> float | None:
    """How far the maps of a method differ, of the worst image of the worst network; None where no network has both."""
    with np.load(before.maps) as old, np.load(after.maps) as new:
        keys = [key for key in old.files if key.endswith(f", {method}") and key in new.files]
        return max((_largest(old[key], new[key]) for key in keys), default=None)


def _largest(old: NDArray[Any], new: NDArray[Any]) -> float:
    """Of (B, h, w) each."""
    if old.shape != new.shape or not (np.isfinite(old) == np.isfinite(new)).all():
        return float("inf")
    differences = np.nan_to_num(np.abs(new - old)).max(axis=(1, 2))
    units = np.nan_to_num(np.abs(old)).max(axis=(1, 2))
    return float((differences / np.where(units > 0, units, 1)).max())


def result(release: Release) -> dict[str, Any]:
    """What was kept of a release beside its values: failures and cases."""
    content: dict[str, Any] = json.loads(release.result.read_text())
    return content


def counts(release: Release) -> tuple[int, int]:
    """How many methods have values of every map, and how many the release has."""
    if not release.baseline.is_file():
        return 0, 0
    statuses = Baseline.read(release.baseline).rows.groupby("method")["statuses"].agg(" ".join)
    has = ~statuses.str.contains("absent:")
    return int((has & ~statuses.str.contains("failed:|not_finite:")).sum()), int(has.sum())
