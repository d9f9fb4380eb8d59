"""Where the time of a run went, as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from axiom_bench.statistics.labels import number, share

Numbers = Mapping[str, float]


def lines(jobs: Mapping[str, tuple[Numbers, Numbers]], report: float) -> Iterator[str]:
    """A line for each job, and one of the report, which all of them share.

    jobs: {job: (the manifest's seconds of each stage, its work)}. report: seconds.
    """
    for job, (seconds, work) in jobs.items():
        total = sum(seconds.values())
        rate = images_per_second(work)
        speed = f", {rate} images/s" if rate else ""
        yield f"{job}: {total:.1f} s{speed}: {', '.join(_part(*part, total) for part in seconds.items())}"
    together = report + sum(sum(seconds.values()) for seconds, _ in jobs.values())
    yield f"together {together:.1f} s: {_part('report', report, together)}"


def images_per_second(work: Mapping[str, Any]) -> str:
    """How many images a second were computed; "" where the manifest doesn't say."""
    rate = work.get("images_per_second", math.nan)
    return number(rate) if math.isfinite(rate) else ""


def _part(name: str, seconds: float, total: float) -> str:
    return f"{name} {seconds:.1f} s ({share(seconds, total)})"
