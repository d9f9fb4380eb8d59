"""docs/audit.md from what was measured: the head, the tables and the cases; no sentence that a number doesn't carry."""

from __future__ import annotations

import io
import os
import runpy
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from peer_measures import Pair, Times, Values

AGREES = 1e-5  # grad-cam scales and resizes in float32
LIBRARIES = ("grad-cam", "torchcam", "captum", "torch")
WIDTH = 140
COMMAND = "python scripts/audit_peers.py"


@dataclass(frozen=True)
class Finding:
    """All that is measured of a pair: theirs beside ours."""

    pair: Pair
    network: str
    by_hand: Values
    trained: Values
    batch: float
    times: Times
    zero_layer: tuple[str, str]
    zero_score: tuple[str, str]
    constant_layer: tuple[str, str]
    left: tuple[str, str]
    without_gradients: tuple[str, str]

    @property
    def agrees(self) -> bool:
        """What they return is what the formula gives, on both networks."""
        return max(self.by_hand.shown, self.trained.shown) <= AGREES


def page(findings: Sequence[Finding], cases: Iterable[Path], load: float) -> str:
    """The whole page. load: the machine's load average while the times were taken."""
    lines = [*head(findings, load), *values_table(findings), *times_table(findings), *degenerate_table(findings)]
    lines += left_table(findings)
    lines += [
        "## Smallest cases",
        "",
        "Run by the script; below each is what it printed. The files: `scripts/peer_cases/`.",
        "",
    ]
    return "\n".join([*lines, *(line for path in cases for line in case(path))]).rstrip() + "\n"


def head(findings: Sequence[Finding], load: float) -> list[str]:
    """Versions, the command, and the counts."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    agreeing = [one for one in findings if one.agrees]
    differing = [f"`{one.pair.name}`" for one in findings if not one.agrees]
    ratios = sorted(one.times.ratio for one in findings)
    return [
        "# Audit of other libraries",
        "",
        f"Written by `{COMMAND}`; not edited. {versions}; {torch.get_num_threads()} threads on {os.cpu_count()} cores, "
        + f"load average {load:.1f}.",
        "",
        *paragraph(
            """Each library is called as its documentation says, beside this project's method of the same name, which
            the tests hold to a float64 brute force of the formula. Where a paper can be read in several ways, the
            formula is in the reading that [methods.md](methods.md) and the method's docstring state, and another
            reading is a difference too."""
        ),
        f"- {len(agreeing)} of {len(findings)} return what the formula gives, within {AGREES:g} of the map's largest "
        + "value, on both networks.",
        f"- {len(differing)} return something else: {', '.join(differing)}.",
        "- A batch and its images one by one differ by at most "
        + f"{max(one.batch for one in findings):.1g} on these networks; the cases below have others.",
        f"- From images to heatmaps they take {ratios[0]:.2g} to {ratios[-1]:.2g} times this project's time, "
        + f"{ratios[len(ratios) // 2]:.2g} in the middle.",
        "",
    ]


def values_table(findings: Sequence[Finding]) -> list[str]:
    """Differences to the formula."""
    rows = [
        (
            f"`{one.pair.name}`",
            str(one.pair.params["extractor"]),
            one.pair.said or "default",
            *(_difference(value) for value in (one.by_hand.raw, one.by_hand.shown, one.trained.raw, one.trained.shown)),
            one.network,
            _difference(one.batch),
        )
        for one in findings
    ]
    header = ("Method", "Class", "Settings", "Tiny: raw", "Tiny: returned", "Trained: raw", "Trained: returned",
              "Trained network", "Batch")  # fmt: skip
    return [
        "## Values",
        "",
        *paragraph(
            """The largest difference to the formula in float64, as a fraction of the map's largest value: on a network
            of two 2 x 2 maps in small integers, whose gradients, drops and weights the script holds to numbers worked
            out by hand, and on a trained one. Raw: before scaling and resizing (torchcam's after its ReLU). Returned:
            what a user gets, beside our map after the library's own steps (grad-cam: ReLU, min-max, resize; torchcam:
            ReLU, min-max; captum: none, so both are divided by their largest value). Batch: the map in a batch against
            the image's alone. A dash: it can't be seen, or is in no unit of ours."""
        ),
        *table(header, rows, text=3),
    ]


def times_table(findings: Sequence[Finding]) -> list[str]:
    """Run times."""
    rows = [
        (
            f"`{one.pair.name}`",
            f"{one.times.theirs:.3g}",
            f"{one.times.ours:.3g}",
            f"**{one.times.ratio:.2g}**",
            f"{one.times.passes:g}",
            one.network,
        )
        for one in findings
    ]
    header = ("Method", "Theirs, ms/image", "Ours, ms/image", "Theirs / ours", "Their forward passes", "Network")
    return [
        "## Run time",
        "",
        *paragraph(
            """From images to heatmaps in float32, ours with its trace, theirs with the making of the extractor; in one
            process, in turn, after a call of each. The ratio is the median over the rounds. Methods that mask or ablate
            have one image and 3 rounds, all others a batch of 8 and 5 rounds."""
        ),
        *table(header, rows, text=1),
    ]


def degenerate_table(findings: Sequence[Finding]) -> list[str]:
    """Maps without an answer."""
    rows = [
        (f"`{one.pair.name}`", *one.zero_layer, *one.zero_score, *one.constant_layer, *one.without_gradients)
        for one in findings
    ]
    header = ("Method", "Layer of zeros", "ours", "Score and gradients 0", "ours", "Constant layer", "ours",
              "Frozen parameters", "under no_grad")  # fmt: skip
    return [
        "## Degenerate cases",
        "",
        *paragraph(
            """What the returned maps hold on the tiny network, changed accordingly: their range, zeros, NaN, or the
            error raised."""
        ),
        *table(header, rows, text=9),
    ]


def left_table(findings: Sequence[Finding]) -> list[str]:
    """What stays on the model."""
    rows = [(f"`{one.pair.name}`", *one.left) for one in findings]
    return [
        "## What is left on the model",
        "",
        *paragraph(
            """A model in training mode with gradients gathered: what has changed after the documented call (using
            `with` where there is one), and after an error in the call's last forward pass. Mode: it is in eval mode.
            Gradients: the parameters' `.grad` are others. Modules: some were replaced. Hooks: some stay."""
        ),
        *table(("Method", "After a call", "After an error"), rows, text=3),
    ]


def paragraph(text: str) -> list[str]:
    """Words in lines of the page's width."""
    return [*textwrap.wrap(" ".join(text.split()), WIDTH), ""]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text: int) -> list[str]:
    """A Markdown table. text: how many columns, from the left, hold text."""
    alignment = [":---" if column < text else "---:" for column in range(len(header))]
    return [*(f"| {' | '.join(row)} |" for row in (header, alignment, *rows)), ""]


def case(path: Path) -> list[str]:
    """A case's claim, code and output; a sentence where it isn't seen any more."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        result = runpy.run_path(str(path))
    title = f"### {' '.join(str(result['__doc__']).split())}"
    if not result["seen"]:
        return [title, "", f"Not seen with these versions (`{path.name}`).", ""]
    code = path.read_text().split('"""', 2)[2].strip()
    return [title, "", "```python", code, "```", "", "prints", "", "```text", printed.getvalue().strip(), "```", ""]


def _difference(value: float | None) -> str:
    if value is None:
        return "-"
    said = "0" if value == 0 else f"{value:.1e}"
    return said if value <= AGREES else f"**{said}**"
