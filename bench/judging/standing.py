"""A method's places among others, network by network, as `axiom-bench rank` tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from axiom_bench.columns import OK
from axiom_bench.statistics.labels import Setting, rows_at
from axiom_bench.statistics.run_folder import RunFolder

EXAMPLES = 3  # images where a method has its best values, and its worst


@dataclass(frozen=True)
class Standing:
    """Of a method by one metric in one setting. value, low, high: the leading statistic with its 95 % interval.
    place_low, place_high: places that can't be excluded, of `groups` methods that differ at all; see
    `Comparison.places`. tied: methods that it can't be told from. beats_controls: whether it is significantly better
    than every control. images: how many all compared methods have. best, worst: ids of images."""

    network: str
    value: float
    low: float
    high: float
    place_low: int
    place_high: int
    groups: int
    tied: tuple[str, ...]
    beats_controls: bool
    images: int
    best: tuple[str, ...]
    worst: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def standing(run: RunFolder, setting: Setting, metric: str, method: str, with_examples: bool = True) -> Standing | None:
    """None where the method has no value that is compared. with_examples: whether best and worst images are looked up,
    which takes most of the time."""
    comparison = run.comparisons.of(setting, metric)
    if comparison is None or not any(method in group for group in comparison.groups):
        return None
    place, own = comparison.place(method), comparison.group_of(method)
    others = [group for group in comparison.groups if group != own]
    tied = [
        name for group in (own, *others) if group == own or not comparison.differ(own[0], group[0]) for name in group
    ]
    sign = 1 if comparison.better == "higher" else -1
    controls = [group for group in others if any(run.metadata.method(name).get("control") for name in group)]
    wins = [
        comparison.differ(own[0], group[0]) and sign * (place.value - comparison.place(group[0]).value) > 0
        for group in controls
    ]
    return Standing(
        setting.model, place.value, place.value_low, place.value_high, place.place_low, place.place_high,
        len(comparison.groups), tuple(name for name in tied if name != method), bool(wins) and all(wins),
        comparison.images, *(_examples(run, setting, metric, method, sign) if with_examples else ((), ())),
    )  # fmt: skip


def _examples(run: RunFolder, setting: Setting, metric: str, method: str, sign: int) -> tuple[tuple[str, ...], ...]:
    rows = rows_at(run.records.rows([metric]), setting)
    rows = rows[(rows["method"].astype(str) == method) & (rows["status"] == OK)]
    ids = rows.assign(value=-sign * rows["value"]).sort_values(["value", "image_id"], kind="stable")["image_id"]
    ordered = list(dict.fromkeys(map(str, ids)))
    return tuple(ordered[:EXAMPLES]), tuple(reversed(ordered[-EXAMPLES:]))


def range_of_places(standings: Sequence[Standing]) -> tuple[int, int, int]:
    """(first place that can't be excluded on any network, last one, most groups)."""
    firsts, lasts, groups = zip(*((each.place_low, each.place_high, each.groups) for each in standings), strict=True)
    return min(firsts), max(lasts), max(groups)
