"""docs/audit.md from what was measured: every number of its sentences is measured in the same run."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from .. import cases
from ..libraries import PEERS, versions
from ..markdown import AGREES, difference, paragraph, table
from .findings import MethodFinding

COMMAND = "python -m scripts.audit methods"


def methods_page(findings: Sequence[MethodFinding], load_average: float) -> str:
    """The whole page. load_average: of the machine while times were taken."""
    lines = [*_head(findings, load_average), *_values(findings), *_run_times(findings), *_degenerate(findings)]
    return "\n".join([*lines, *_left(findings), *cases.section("methods")]).rstrip() + "\n"


def _head(findings: Sequence[MethodFinding], load_average: float) -> list[str]:
    """Versions, the command, and the counts."""
    installed = ", ".join(" ".join(entry) for entry in versions((*PEERS, "torch")).items())
    agreeing = [finding for finding in findings if finding.agrees]
    differing = [f"`{finding.pair.name}`" for finding in findings if not finding.agrees]
    ratios = sorted(finding.times.ratio for finding in findings)
    return [
        "# Audit of other libraries",
        "",
        f"Written by `{COMMAND}`; don't edit. {installed}; {torch.get_num_threads()} threads on {os.cpu_count()} "
        + f"cores, load average {load_average:.1f}.",
        "",
        *paragraph(
            """Each library is called as its documentation says, and compared with this project's method of the same
            name, which the tests compare with a float64 brute force of the formula. Where a paper can be read in
            several ways, the formula is the reading that [methods.md](methods.md) and the method's docstring state;
            another reading counts as a difference."""
        ),
        f"- {len(agreeing)} of {len(findings)} return what the formula gives, within {AGREES:g} of the map's largest "
        + "value, on both networks.",
        f"- {len(differing)} return something else: {', '.join(differing)}.",
        "- A batch and its images one by one differ by at most "
        + f"{max(finding.batch for finding in findings):.1g} on these networks; the cases below show larger ones.",
        f"- From images to heatmaps they take {ratios[0]:.2g} to {ratios[-1]:.2g} times this project's time; "
        + f"the median is {ratios[len(ratios) // 2]:.2g}.",
        "",
    ]


def _values(findings: Sequence[MethodFinding]) -> list[str]:
    """Differences to the formula."""
    rows = [
        (
            f"`{finding.pair.name}`",
            finding.pair.extractor,
            finding.pair.settings.text,
            difference(finding.on_tiny.raw),
            difference(finding.on_tiny.returned),
            difference(finding.on_trained.raw),
            difference(finding.on_trained.returned),
            finding.network,
            difference(finding.batch),
        )
        for finding in findings
    ]
    header = ("Method", "Class", "Settings", "Tiny: raw", "Tiny: returned", "Trained: raw", "Trained: returned",
              "Trained network", "Batch")  # fmt: skip
    return [
        "## Values",
        "",
        *paragraph(
            """The largest difference to the formula in float64, as a fraction of the map's largest value. Tiny: a
            network of two 2 x 2 maps in small integers; the script compares its gradients, drops and weights with
            numbers computed by hand. Trained: a trained network. Raw: before scaling and resizing (torchcam's after its
            ReLU). Returned: what a user gets, compared with our map after the library's own steps (grad-cam: ReLU,
            min-max, resize; torchcam: ReLU, min-max; captum: none, so both are divided by their largest value). Batch:
            the map of an image in a batch compared with that of the image alone. A dash: not available, or in a unit
            that can't be compared."""
        ),
        *table(header, rows, text_columns=3),
    ]


def _run_times(findings: Sequence[MethodFinding]) -> list[str]:
    rows = [
        (
            f"`{finding.pair.name}`",
            f"{finding.times.peer:.3g}",
            f"{finding.times.own:.3g}",
            f"**{finding.times.ratio:.2g}**",
            f"{finding.times.peer_passes:g}",
            finding.network,
        )
        for finding in findings
    ]
    header = ("Method", "Library, ms/image", "Ours, ms/image", "Library / ours", "Library's forward passes", "Network")
    return [
        "## Run time",
        "",
        *paragraph(
            """From images to heatmaps in float32. Ours includes the trace, the library's the construction of its
            extractor. Both run in one process, in turn, after a call of each. The ratio is the median over the rounds.
            Methods that mask or ablate have one image and 3 rounds, all others a batch of 8 and 5 rounds."""
        ),
        *table(header, rows, text_columns=1),
    ]


def _degenerate(findings: Sequence[MethodFinding]) -> list[str]:
    rows = [
        (
            f"`{finding.pair.name}`",
            *finding.zero_maps,
            *finding.zero_score,
            *finding.constant_maps,
            *finding.without_gradients,
        )
        for finding in findings
    ]
    header = ("Method", "Layer of zeros", "ours", "Score and gradients 0", "ours", "Constant layer", "ours",
              "Frozen parameters", "under no_grad")  # fmt: skip
    return [
        "## Degenerate cases",
        "",
        *paragraph(
            """What the returned maps of the tiny network contain when it is changed as the column says: their range,
            zeros, NaN, or the error raised."""
        ),
        *table(header, rows, text_columns=9),
    ]


def _left(findings: Sequence[MethodFinding]) -> list[str]:
    rows = [(f"`{finding.pair.name}`", *finding.left) for finding in findings]
    return [
        "## What is left on the model",
        "",
        *paragraph(
            """What has changed on a model in training mode with accumulated gradients: after the documented call (with
            `with` where the library has it), and after an error in the call's last forward pass. Mode: the model is in
            eval mode. Gradients: the parameters' `.grad` have changed. Modules: some were replaced. Hooks: some
            remain."""
        ),
        *table(("Method", "After a call", "After an error"), rows, text_columns=3),
    ]
