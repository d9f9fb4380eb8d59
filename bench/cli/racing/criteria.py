"""The criteria of a race: the metrics that decide or disagree, chosen before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.plugins import NEEDS_DROPS, Metric, precondition_names
from axiom_bench.run.shards import MOST_PASSES
from axiom_bench.statistics.ranking import in_sentence, joined

REGIONS = frozenset({"boxes", "masks", "objects"})  # preconditions that need annotations
CONTRIBUTIONS = "contributions"


@dataclass(frozen=True)
class Criteria:
    """The metrics of a race."""

    names: tuple[str, ...]
    """The metrics that race, the deciding one first."""
    unmeasured: tuple[str, ...]
    """Metrics of the command that this model or these images can't have."""
    at_default_layer: tuple[str, ...]
    """Metrics of ablation drops, which are measured at the default layer only."""
    sentence: str
    """The criteria in a sentence."""

    def at(self, layer: str, default_layer: str) -> list[str]:
        """Return the metrics that race at a layer."""
        is_default = layer == default_layer
        return [name for name in self.names if is_default or name not in self.at_default_layer]


def criteria_of(
    metrics: Sequence[Metric],
    headline: Sequence[str],
    trace: Trace,
    layers: Sequence[str],
    with_regions: bool,
) -> Criteria:
    """Return the criteria of a race.

    If the images have boxes or masks, metrics of regions race in addition to the first metric.
    Otherwise metrics of contributions do, at the default layer.

    Args:
        metrics: The metrics of the command.
        headline: The names of the metrics that may race, the deciding one first.
        trace: A trace of an image at the default layer.
        layers: The layers that race.
        with_regions: True if the images have boxes or masks.
    """
    racing = [*headline]
    unmeasured = []
    of_drops = []
    titles = {metric.name: in_sentence(metric.spec.title or metric.name) for metric in metrics}
    costly = ""
    for metric in metrics:
        needs = precondition_names(metric)
        needs_drops = NEEDS_DROPS in needs
        is_possible = True
        if REGIONS.intersection(needs):
            is_possible = with_regions
        elif CONTRIBUTIONS in needs:
            is_possible = not with_regions and trace.layer in layers
            if is_possible and needs_drops and trace.drops_cost > MOST_PASSES:
                is_possible = False
                costly = (
                    f" {titles[metric.name].capitalize()} isn't measured: it would take about "
                    f"{trace.drops_cost:,.0f} forward passes for each image."
                )
        if not is_possible and metric.name in racing:
            racing.remove(metric.name)
        if not is_possible and (needs_drops or REGIONS.intersection(needs)):
            unmeasured.append(metric.name)
        elif needs_drops:
            of_drops.append(metric.name)
    first, *others = [titles.get(name, name) for name in racing]
    sentence = f"{first.capitalize()} decides"
    if others:
        verb = "is" if len(others) == 1 else "are"
        sentence += f"; {joined(others)} {verb} compared as well"
    return Criteria(
        names=tuple(racing),
        unmeasured=tuple(unmeasured),
        at_default_layer=tuple(of_drops),
        sentence=f"{sentence}.{costly}",
    )


def has_regions(batch: Batch) -> bool:
    """Return whether images have boxes or masks."""
    return any(
        len(annotation.labels) > 0 or annotation.mask is not None
        for annotation in batch.annotations
    )
