"""docs/audit.md from what was measured: every number of its sentences is measured in the same run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from .. import cases
from ..libraries import PEERS, versions
from ..markdown import AGREES, difference, paragraph, table
from .claims import CLAIMS, Claim
from .findings import MethodFinding

COMMAND = "python -m scripts.audit methods"


def methods_page(findings: Sequence[MethodFinding], measured: Mapping[str, str]) -> str:
    """The whole page. measured: what was measured on photographs by the functions of MEASURES, by their names."""
    lines = [*_head(findings), *_values(findings), *_degenerate(findings), *_left(findings), *_classes()]
    about = {name: _about(name, claim, findings, measured) for name, claim in CLAIMS.items()}
    return "\n".join([*lines, *cases.section("methods", about)]).rstrip() + "\n"


def _head(findings: Sequence[MethodFinding]) -> list[str]:
    """Versions, the command, and the counts."""
    installed = ", ".join(" ".join(entry) for entry in versions((*PEERS, "torch")).items())
    agreeing = [finding for finding in findings if finding.agrees]
    differing = [_title(finding) for finding in findings if not finding.agrees]
    left = [finding.photographs.left for finding in findings if finding.photographs.left is not None]
    return [
        "# Audit of other libraries",
        "",
        f"Written by `{COMMAND}`; don't edit. {installed}.",
        "",
        *paragraph(
            """Each library is called as its documentation says, and compared with this project's method of the same
            name, which the tests compare with a float64 brute force of the formula. Where a paper can be read in
            several ways, the formula is the reading that [methods.md](methods.md) and the method's docstring state;
            another reading counts as a difference, not as an error: the classes below say which is which."""
        ),
        f"- {len(agreeing)} of {len(findings)} comparisons agree within {AGREES:g} of the map's largest value, on the "
        + f"tiny network and on all {findings[0].photographs.count} photographs.",
        f"- {len(differing)} don't: {', '.join(differing)}. For {len(left)} of these, "
        + "`scripts/audit/methods/readings.py` computes what the library's source says; its maps agree with theirs "
        + f"within {max(left, default=0):.0e} on every photograph, so nothing else differs.",
        "- A batch and its images one by one differ by at most "
        + f"{max(finding.batch for finding in findings):.1g} on these networks; the cases below show larger ones.",
        f"- {_counts()}",
        "",
        *paragraph(
            """Not compared on this page are classes whose target layers depend on the network: RefineCAM of grad-cam
            and torchcam, which takes several, and torchcam's LeGrad, which takes a vision transformer's blocks.
            The adapters run them where `params` names the layers ([methods.md](methods.md)), and
            `tests/methods/test_peers_layers.py` compares both with their formulas. grad-cam's SESS and
            DeepFeatureFactorization have no counterpart here, its RandomCAM and sobel_cam are controls."""
        ),
    ]


def _title(finding: MethodFinding) -> str:
    name = finding.pair.name
    return f"`{name}`{finding.pair.title.removeprefix(name)}"


def _counts() -> str:
    kinds = Counter(claim.kind for claim in CLAIMS.values())
    return f"Of {len(CLAIMS)} cases, {', '.join(f'{count} are of the class {kind}' for kind, count in kinds.items())}."


def _values(findings: Sequence[MethodFinding]) -> list[str]:
    """Differences to the formula."""
    rows = [
        (
            _title(finding),
            finding.pair.extractor,
            finding.pair.settings.text,
            difference(finding.on_tiny.raw),
            difference(finding.on_tiny.returned),
            difference(finding.photographs.median),
            difference(finding.photographs.largest),
            f"{finding.photographs.differing} of {finding.photographs.count}",
            difference(finding.photographs.left),
            finding.network,
            difference(finding.batch),
            f"{finding.passes:g}",
        )
        for finding in findings
    ]
    header = ("Method", "Their class", "Settings", "Tiny: raw", "Tiny: returned", "Photographs: median", "largest",
              "differing", "Left", "Network", "Batch", "Passes")  # fmt: skip
    return [
        "## Values",
        "",
        *paragraph(
            """Differences to the formula in float64: a map's largest, as a fraction of its largest value. Tiny: a
            network of two 2 x 2 maps in small integers; the script compares its gradients, drops and weights with
            numbers computed by hand. Raw: before scaling and resizing (torchcam's after its ReLU). Returned: what a
            user gets, compared with our map after the library's own steps (grad-cam: ReLU, min-max, resize;
            torchcam: ReLU and min-max, for CAM min-max alone; captum: none, so both are divided by their largest
            value). Photographs: the returned maps of a trained network's photographs, the median and the largest
            over them, and on how many it is above 1e-5. Left: the largest difference to `readings.py`, our reading
            of the library's source. Batch: the map of an image in a batch compared with that of the image alone.
            Passes: the library's forward passes of the network, an image. A dash: not available, not needed, or in a
            unit that can't be compared."""
        ),
        *paragraph(
            """CAM, sum_k w_k f_k (Zhou et al.), has no ReLU, and torchcam's code has none; the formula of its docstring
            has one. A score of 0 makes Ablation-CAM's weights, (S - S_k) / S, NaN in grad-cam and here."""
        ),
        *table(header, rows, text_columns=3),
    ]


def _classes() -> list[str]:
    """What the classes mean, and the class of each case."""
    rows = [(f"`{name}`", ", ".join(_libraries(name)), claim.kind) for name, claim in CLAIMS.items()]
    return [
        "## Classes",
        "",
        *paragraph(
            """Documented choice: the library's documentation or source says it. Other reading: the paper leaves it open
            or can be read so, and the library doesn't say. Defect: the result isn't what the library's own
            documentation or the paper says, or depends on what it shouldn't, or something stays on the user's model."""
        ),
        *table(("Case", "Library", "Class"), rows, text_columns=3),
    ]


def _libraries(case: str) -> list[str]:
    """The libraries of a case with their versions."""
    return [" ".join(entry) for entry in versions(cases.libraries_of(case)).items()]


def _about(name: str, claim: Claim, findings: Sequence[MethodFinding], measured: Mapping[str, str]) -> list[str]:
    """Class, both readings, the documentation's words, and what photographs show of a case."""
    documented = "; ".join(str(quotation) for quotation in claim.documented) or "not documented"
    shown = [_shown(finding) for finding in findings if finding.pair.name in claim.pairs]
    if claim.measure:
        shown.append(measured[claim.measure])
    if not shown:
        shown = ["what it shows is on the model or in the call, and doesn't depend on the image."]
    return [
        f"- Class: {claim.kind}. {', '.join(_libraries(name))}.",
        f"- Ours: {claim.ours}",
        f"- Theirs, in their own words: {documented}.",
        f"- Photographs: {' '.join(shown)}",
        "",
    ]


def _shown(finding: MethodFinding) -> str:
    photographs = finding.photographs
    return (
        f"{_title(finding)} differs from ours on {photographs.differing} of {photographs.count}, by "
        f"{photographs.median:.1e} in the median and {photographs.largest:.1e} at most."
    )


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
            `with` where the library has it), and after an error in the call's last forward pass. Mode: the model is
            in eval mode. Gradients: the parameters' `.grad` have changed. Modules: some were replaced. Hooks: some
            remain."""
        ),
        *table(("Method", "After a call", "After an error"), rows, text_columns=3),
    ]
