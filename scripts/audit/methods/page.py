"""docs/studies/audit.md: every number of its sentences and tables is measured in the same run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..cases import Case, cases, replace_cases
from ..libraries import PEERS, named, silent_deletion
from ..networks import Networks, check_tiny, tiny
from ..pages import AGREES, Page, difference
from .measures import Finding, measured
from .pairs import pairs
from .photographs import MEASURES

VALUES = ("Method", "Their class", "Settings", "Tiny: raw", "Tiny: returned", "Photographs: median", "largest",
          "differing", "Left", "Network", "Batch", "Passes")  # fmt: skip
DEGENERATE = ("Method", "Layer of zeros", "ours", "Score and gradients 0", "ours", "Constant layer", "ours",
              "Frozen parameters", "under no_grad")  # fmt: skip


def write(docs: Path) -> None:
    """Measure every pair, of which a line is printed, and run every case."""
    check_tiny(tiny())
    findings, networks = list[Finding](), Networks()
    with silent_deletion():
        for pair in pairs():
            start = time.perf_counter()
            findings.append(measured(pair, pair.tiny(), pair.trained(networks)))
            print(f"{pair.name}: {time.perf_counter() - start:.1f} s", flush=True)
    described = {name: " ".join(map(_shown, group)) for name, group in _by_name(findings).items()}
    described |= {name: measure(networks.explained) for name, measure in MEASURES.items()}
    page, listed = Page("studies/audit.md"), cases("methods")
    page.replace(r"(?<=don't edit\. ).*\.$", f"{named((*PEERS, 'torch'))}.")
    page.replace(r"^(- .*\n)+", "".join(f"- {line}\n" for line in _counts(findings, listed)))
    page.replace_table(VALUES, map(_row, findings), text_columns=3)
    page.replace_table(DEGENERATE, ((f"`{each.pair.name}`", *each.degenerate) for each in findings), text_columns=9)
    left = ((f"`{each.pair.name}`", *each.left_behind) for each in findings)
    page.replace_table(("Method", "After a call", "After an error"), left, text_columns=3)
    classes = ((f"`{case.name}`", named(case.libraries), case.kind) for case in listed)
    page.replace_table(("Case", "Library", "Class"), classes, text_columns=3)
    about = {
        case.name: lines_about(case, [text for name, text in described.items() if name in case.photographs])
        for case in listed
    }
    replace_cases(page, "methods", about)
    page.write(docs)


def _by_name(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    names = dict.fromkeys(finding.pair.name for finding in findings)
    return {name: [finding for finding in findings if finding.pair.name == name] for name in names}


def _counts(findings: Sequence[Finding], listed: Sequence[Case]) -> list[str]:
    differing = [finding.pair.code for finding in findings if not finding.agrees]
    left = [finding.left for finding in findings if finding.left is not None]
    kinds = Counter(case.kind for case in listed)
    return [
        f"{len(findings) - len(differing)} of {len(findings)} comparisons agree within {AGREES:g} of the map's largest "
        f"value, on the tiny network and on all {len(findings[0].photographs)} photographs.",
        f"{len(differing)} don't: {', '.join(differing)}. For {len(left)} of these, "
        "`scripts/audit/methods/readings.py` computes what the library's source says; its maps agree with theirs "
        f"within {max(left, default=0):.0e} on every photograph, so nothing else differs.",
        "A batch and its images one by one differ by at most "
        f"{max(finding.batch for finding in findings):.1g} on these networks; the cases below show larger ones.",
        f"Of {len(listed)} cases, {', '.join(f'{count} are of the class {kind}' for kind, count in kinds.items())}.",
    ]


def _row(finding: Finding) -> tuple[str, ...]:
    return (
        finding.pair.code,
        finding.pair.extractor,
        finding.pair.settings.text,
        difference(finding.raw),
        difference(finding.returned),
        difference(float(finding.photographs.median())),
        difference(float(finding.photographs.max())),
        f"{finding.differing} of {len(finding.photographs)}",
        difference(finding.left),
        finding.network,
        difference(finding.batch),
        f"{finding.passes:g}",
    )


def _shown(finding: Finding) -> str:
    each = finding.photographs
    return (
        f"{finding.pair.code} differs from ours on {finding.differing} of {len(each)}, by "
        f"{float(each.median()):.1e} in the median and {float(each.max()):.1e} at most."
    )


def lines_about(case: Case, shown: Sequence[str]) -> list[str]:
    """Class, both readings, the documentation's words, and what photographs show of a case."""
    nothing = "what it shows is on the model or in the call, and doesn't depend on the image."
    return [
        f"- Class: {case.kind}. {named(case.libraries)}.",
        f"- Ours: {case.ours}",
        f"- Theirs, in their own words: {'; '.join(map(str, case.documented)) or 'not documented'}.",
        f"- Photographs: {' '.join(shown) or nothing}",
        "",
    ]
