"""Check the sampled gate on simulated runs, and write what comes of it into docs/ci.md.

python scripts/simulate_gate.py                # 100 gates of each kind and size
python scripts/simulate_gate.py --gates 100    # fewer, printed only
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd

from axiom_bench.gate.by_image import ByImage
from axiom_bench.gate.findings import KEY, Finding
from axiom_bench.gate.limits import Limit
from axiom_bench.gate.sampled import values
from axiom_bench.report.statistics.bootstrap import Floats

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ci.md"
START, END = "<!-- written by scripts/simulate_gate.py -->", "<!-- end of the tables -->"
GATES = 100
METHODS, METRICS = 5, 4  # the family: 20 rows
IMAGES = (32, 256)
SHIFTS = (0.25, 0.5, 1.0)  # in standard deviations of the difference of one image's values
NO_EFFECT = Limit("mean", 0.0, False, floor=0.0)  # no minimum: every significant change is a finding


@dataclass(frozen=True)
class Kind:
    """How values have chance in them. of: standard normal numbers -> values. are_paired: whether the images are the
    same, so that values of one image go together."""

    title: str
    of: Callable[[Floats], Floats]
    are_paired: bool = True


KINDS = (
    Kind("the same images, normal", lambda z: z),
    Kind("the same images, heavy-tailed", np.exp),
    Kind("the same images, 0 or 1", lambda z: (z > 0).astype(float)),
    Kind("other images, normal", lambda z: z, are_paired=False),
    Kind("other images, heavy-tailed", np.exp, are_paired=False),
)


def sides(kind: Kind, images: int, generator: np.random.Generator, shift: float = 0.0) -> tuple[ByImage, ByImage]:
    """Two runs of one setting. Half of the variance belongs to the image, which is the same on both sides of paired
    ones. shift: of the normal numbers of the first row, on the second side, in standard deviations of the difference of
    two values of an image."""
    shape = (images, METHODS * METRICS)
    image = generator.normal(0, sqrt(0.5), shape)
    before = image + generator.normal(0, sqrt(0.5), shape)
    after = (image if kind.are_paired else generator.normal(0, sqrt(0.5), shape)) + generator.normal(
        0, sqrt(0.5), shape
    )
    after[:, 0] += shift * (1.0 if kind.are_paired else sqrt(2.0))
    first = 0 if kind.are_paired else images
    return _by_image(kind.of(before), 0), _by_image(kind.of(after), first)


def _by_image(numbers: Floats, first: int) -> ByImage:
    """numbers: (images, rows). first: the number of the first image."""
    images, rows = numbers.shape
    names = [(f"method {row // METRICS}", f"metric {row % METRICS}") for row in range(rows)]
    table = pd.DataFrame({
        **dict.fromkeys(KEY[:3], "one"),
        "method": np.tile([method for method, _ in names], images),
        "metric": np.tile([metric for _, metric in names], images),
        "image_id": np.repeat([f"{first + image:05d}" for image in range(images)], rows),
        "target_class": 0,
        "value": numbers.ravel(),
    })  # fmt: skip
    return ByImage(table, pd.DataFrame(columns=[*KEY, "value", "replicates"]))


def gated(kind: Kind, images: int, generator: np.random.Generator, shift: float = 0.0) -> list[Finding]:
    """The findings of one simulated gate, without a minimum effect."""
    limits = {f"metric {metric}": (NO_EFFECT,) for metric in range(METRICS)}
    return values(*sides(kind, images, generator, shift), limits, {})


def false_alarms(kind: Kind, images: int, gates: int, seed: int = 0) -> float:
    """The share of gates that find anything where only chance differs."""
    generator = np.random.default_rng(seed)
    return float(np.mean([bool(gated(kind, images, generator)) for _ in range(gates)]))


def power(kind: Kind, images: int, shift: float, gates: int, seed: int = 0) -> float:
    """The share of gates that find the one row that moved."""
    generator = np.random.default_rng(seed)
    row = ("one", "one", "one", "method 0", "metric 0")
    return float(
        np.mean([any(finding.row == row for finding in gated(kind, images, generator, shift)) for _ in range(gates)])
    )


def tables(gates: int) -> Iterator[str]:
    """The parts of the page, one after the other."""
    margin = 100 * 1.96 * sqrt(0.05 * 0.95 / gates)
    yield (
        f"{gates:,} simulated gates of each kind and size, {METHODS * METRICS} rows, without a minimum effect. False "
        f"alarms: the share of gates with any finding where only chance differs, in per cent; goal: at most 5.0, known "
        f"to {margin:.1f}. Then how often one row that moved by so many standard deviations of the difference of an "
        "image's two values is found, in per cent."
    )
    head = ["values", "images", "false alarms", *(f"moved by {shift:g}" for shift in SHIFTS)]
    lines = [f"| {' | '.join(head)} |", "|:---|" + "---:|" * (len(head) - 1)]
    for kind in KINDS:
        for images in IMAGES:
            shares = [false_alarms(kind, images, gates)]
            shares += [power(kind, images, shift, max(gates // 4, 1), seed=1) for shift in SHIFTS]
            cells = [kind.title, f"{images:,}", *(f"{100 * share:.1f}" for share in shares)]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    yield "\n".join(lines)


def written(page: str, parts: Sequence[str]) -> str:
    """The page with these parts between its two markers."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return "\n\n".join([before + START, *parts, END]) + after


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, print, and write the page where all GATES were simulated."""
    parser = argparse.ArgumentParser(description="Simulate runs to check the sampled gate.")
    parser.add_argument("--gates", type=int, default=GATES, help="of each kind and size; fewer are printed only")
    gates = parser.parse_args(argv).gates
    parts = list(tables(gates))
    print("\n\n".join(parts))
    if gates == GATES:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), parts), encoding="utf-8")
        print(f"written to {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
