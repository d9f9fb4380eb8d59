"""docs/studies/audit.md: of each pair of methods its values, batches, degenerate maps, and what stays on the model."""

from __future__ import annotations

import copy
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab

from .libraries import PEERS
from .method_pairs import MethodPair, pairs
from .networks import Network, check_tiny, tiny, with_layer
from .pages import AGREES, Page, cases, difference

BATCH = 2  # photographs explained in a batch and one by one
VALUES = ("Method", "Their class", "Settings", "Tiny: raw", "Tiny: returned", "Photographs: median", "largest",
          "differing", "Network", "Batch", "Passes")  # fmt: skip
DEGENERATE = ("Method", "Layer of zeros", "ours", "Score and gradients 0", "ours", "Constant layer", "ours",
              "Frozen parameters", "under no_grad")  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What was measured of a pair. Differences are relative, the largest of an image. raw: of the tiny network's raw
    maps, None where there are none. returned: of its maps as the library returns them. photographs: (B,) of the
    returned maps. batch: of a batch to its images one by one. passes: the library's forward passes of the network, an
    image. degenerate, left_behind: cells of the page's tables."""

    pair: MethodPair
    network: str
    raw: float | None
    returned: float
    photographs: Tensor
    batch: float
    passes: float
    degenerate: tuple[str, ...]
    left_behind: tuple[str, str]

    @property
    def agrees(self) -> bool:
        """Whether the library returns what the formula gives, on the tiny network and on all photographs."""
        return max(self.returned, float(self.photographs.max())) <= AGREES

    @property
    def differing(self) -> str:
        """On how many photographs it doesn't, as "3 of 50"."""
        return f"{int((self.photographs > AGREES).sum())} of {len(self.photographs)}"

    @property
    def row(self) -> tuple[str, ...]:
        """Of the table of values."""
        shown = (self.raw, self.returned, float(self.photographs.median()), float(self.photographs.max()))
        about = (self.pair.title, self.pair.extractor, self.pair.settings.text)
        measured = (self.differing, self.network, difference(self.batch), f"{self.passes:g}")
        return (*about, *map(difference, shown), *measured)

    @property
    def sentence(self) -> str:
        """What photographs show."""
        median, largest = float(self.photographs.median()), float(self.photographs.max())
        amounts = f"by {median:.1e} in the median and {largest:.1e} at most"
        return f"{self.pair.title} differs from ours on {self.differing}, {amounts}."


def write(docs: Path) -> None:
    """Measure every pair, of which a line is printed, and run every case."""
    check_tiny(tiny())
    findings = list[Finding]()
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # ShapleyCAM fails once more in its `__del__`
    for pair in pairs():
        start = time.perf_counter()
        findings.append(measured(pair, pair.tiny(), pair.trained()))
        print(f"{pair.title}: {time.perf_counter() - start:.1f} s", flush=True)
    sys.unraisablehook = hook
    sentences: dict[str, str] = {}
    for finding in findings:
        name = finding.pair.name
        sentences[name] = f"{sentences.get(name, '')} {finding.sentence}".strip()
    page, listed = Page("studies/audit.md"), cases("methods")
    page.replace_head((*PEERS, "torch"), _counts(findings))
    page.replace_table(VALUES, (finding.row for finding in findings), text_columns=3)
    page.replace_table(DEGENERATE, ((f"`{each.pair.name}`", *each.degenerate) for each in findings), text_columns=9)
    left = ((f"`{each.pair.name}`", *each.left_behind) for each in findings)
    page.replace_table(("Method", "After a call", "After an error"), left, text_columns=3)
    classes = ((f"`{case.name}`", case.libraries, case.kind) for case in listed)
    page.replace_table(("Case", "Library", "Class"), classes, text_columns=3)
    page.replace_cases("methods", sentences)
    page.write(docs)


def _counts(findings: Sequence[Finding]) -> list[str]:
    differing = [finding.pair.title for finding in findings if not finding.agrees]
    kinds = Counter(case.kind for case in cases("methods"))
    return [
        f"{len(findings) - len(differing)} of {len(findings)} comparisons agree within {AGREES:g} of the map's largest "
        f"value, on the tiny network and on all {len(findings[0].photographs)} photographs.",
        f"{len(differing)} don't: {', '.join(differing)}.",
        "A batch and its images one by one differ by at most "
        f"{max(finding.batch for finding in findings):.1g} on these networks; the cases below show larger ones.",
        f"Of {kinds.total()} cases, {', '.join(f'{count} are of the class {kind}' for kind, count in kinds.items())}.",
    ]


def measured(pair: MethodPair, small: Network, large: Network) -> Finding:
    """Measure a pair on the tiny and on the trained network."""
    few = replace(large, images=large.images[:BATCH], targets=large.targets[:BATCH])
    raw, returned = raw_difference(pair, small), float(returned_differences(pair, small).max())
    batch, passes = max(batch_dependence(pair, small), batch_dependence(pair, few)), forward_passes(pair, few)
    on_photographs, left = returned_differences(pair, large), left_behind(pair, small)
    return Finding(pair, large.title, raw, returned, on_photographs, batch, passes, degenerate(pair, small), left)


def raw_difference(pair: MethodPair, network: Network) -> float | None:
    """Of the raw maps; None where the library offers none."""
    maps, expected = pair.their_raw_maps(network.copied()), pair.our_maps(network)
    if maps is None:
        return None
    if pair.library == "torchcam" and pair.settings.rectified:
        expected = expected.relu()
    if pair.settings.unit == "H W":
        expected = expected * expected[0].numel()
    return float(relative_differences(maps, expected).max())


def returned_differences(pair: MethodPair, network: Network) -> Tensor:
    """Of the library's maps as it returns them, captum's divided by their largest value, to ours after the library's
    steps: ReLU, but for torchcam's CAM, and min-max scaling; grad-cam resizes, too. (B,)."""
    returned, expected = pair.their_maps(network.copied()), pair.our_maps(network)
    if pair.library == "captum":
        return relative_differences(_divided_by_largest(returned), _divided_by_largest(expected))
    expected = _min_max(expected.relu() if pair.settings.rectified else expected)
    if pair.library == "pytorch_grad_cam":
        resized = functional.interpolate(expected[:, None], network.size, mode="bilinear", align_corners=False)
        expected = _min_max(resized[:, 0])
    return relative_differences(returned, expected)


def _min_max(maps: Tensor) -> Tensor:
    """Each map (B, h, w) scaled to [0, 1]; a constant one is 0."""
    return _divided_by_largest(maps - maps.amin((1, 2), keepdim=True))


def _divided_by_largest(maps: Tensor) -> Tensor:
    """Each map (B, h, w) divided by its largest absolute value, where that isn't 0."""
    largest = maps.abs().amax((1, 2), keepdim=True)
    return maps / largest.where(largest > 0, torch.ones_like(largest))


def relative_differences(maps: Tensor, expected: Tensor) -> Tensor:
    """Each image's largest |maps - expected|, as a fraction of its largest |expected|: (B, h, w) -> (B,)."""
    expected = expected.detach()
    largest, units = ((maps.to(expected) - expected).abs().flatten(1).amax(1), expected.abs().flatten(1).amax(1))
    return largest / units.where(units > 0, torch.ones_like(units))


def batch_dependence(pair: MethodPair, network: Network) -> float:
    """The largest difference of the library's maps of a batch to those of its images one by one."""
    together = pair.their_maps(network.copied())
    alone = [
        pair.their_maps(replace(network.copied(), images=image, targets=target))
        for image, target in zip(network.images.split(1), network.targets.split(1), strict=True)
    ]
    return float(relative_differences(together, torch.cat(alone)).max())


def forward_passes(pair: MethodPair, network: Network) -> float:
    """The library's forward passes of the whole network, an image."""
    network, rows = network.copied(), list[int]()
    network.model.register_forward_hook(lambda module, inputs, logits: rows.append(len(logits)))
    pair.their_maps(network)
    return sum(rows) / len(network.images)


def degenerate(pair: MethodPair, small: Network) -> tuple[str, ...]:
    """Of a layer of zeros, of scores and gradients of 0 and of a constant layer the library's maps and our heatmaps;
    then the library's of frozen parameters and under torch.no_grad()."""

    def heatmaps(network: Network) -> Tensor:
        return ab.heatmap(pair.our_maps(network), network.size)

    cells = []
    for network in (with_layer(small, 0, -1.0), with_layer(small, -1, 0.0), with_layer(small, 0, 1.0)):
        cells += [_described(pair.their_maps, network.copied()), _described(heatmaps, network)]
    frozen = small.copied()
    frozen.model.requires_grad_(False)
    cells.append(_described(pair.their_maps, frozen))
    with torch.no_grad():
        return (*cells, _described(pair.their_maps, small.copied()))


def _described(call: Callable[[Network], Tensor], network: Network) -> str:
    """The range of the maps, zeros, NaN, or the name of the error raised."""
    try:
        maps = call(network)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
        return type(error).__name__
    if not maps.isfinite().all():
        return "NaN"
    if not maps.any():
        return "zeros"
    low, high = maps.min().item(), maps.max().item()
    return f"{high:.2g} everywhere" if low == high else f"{low:.2g} to {high:.2g}"


def left_behind(pair: MethodPair, network: Network) -> tuple[str, str]:
    """What has changed on a model in training mode: after a call, and after an error in the call's last pass."""
    changes, passes = _changes(pair, network, failing_pass=-1)
    return changes, _changes(pair, network, failing_pass=passes)[0]


def _changes(pair: MethodPair, network: Network, failing_pass: int) -> tuple[str, int]:
    """(what the documented call changes, its forward passes). failing_pass: its number, from 1 on; -1 for none."""
    passes, changes, model = 0, list[str](), copy.deepcopy(network.model).train()

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1
        if passes == failing_pass:
            raise RuntimeError("the last pass fails")

    model.register_forward_hook(count)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = _state(model)
    try:
        pair.documented_call(replace(network, model=model))
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
        changes = [] if failing_pass > 0 else [f"raises {type(error).__name__}"]
    after = _state(model)
    changes += [name for name in before if before[name] != after[name]]
    return ", ".join(changes) or "nothing", passes


def _state(model: nn.Module) -> dict[str, Any]:
    modules, parameters = list(model.modules()), list(model.parameters())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modules": [id(module) for module in modules],
        "hooks": sum(len(getattr(module, kind)) for module in modules for kind in hooks),
        "mode": model.training,
        "gradients": [None if parameter.grad is None else parameter.grad.tolist() for parameter in parameters],
        "requires_grad": [parameter.requires_grad for parameter in parameters],
    }
