"""Names and numbers as readers see them, the same in tables, charts, the page and messages: the
manifest's facts about the names in a run's records, and numbers in three significant digits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from axiom_bench.columns import FLOAT32_ROUNDING as FLOAT32_ROUNDING
from axiom_bench.records.entries import Manifest, MethodEntry, MetricEntry, ModelEntry, PluginEntry


class Setting(NamedTuple):
    """The setting in which methods are compared with each other: one model, cut at one layer, on
    one data set.
    """

    model: str
    layer: str
    data: str


@dataclass(frozen=True)
class Value:
    """A metric's value as its YAML describes it."""

    name: str
    title: str
    unit: str = ""
    better: str = "none"
    """The direction: "lower", "higher" or "none"."""
    tolerance: str = ""
    note: str = ""
    kind: str = "unbounded"
    """The numbers that the value may be, such as "proportion" or "ratio"."""
    reached_by: str = ""
    """The controls that reach the best value, in words; empty if none does."""
    reads_contributions: bool = False
    """True if the value compares contributions of channels, which belong to one layer."""

    @property
    def lead(self) -> str:
        """The statistic that tables lead with: the median for kinds with heavy tails, which are
        ratios (near a score of 0) and squares; otherwise the mean.
        """
        return "median" if self.kind in ("ratio", "squared") else "mean"

    @property
    def is_proportion(self) -> bool:
        """True if each value is 0 or 1, and their mean is the share of ones."""
        return self.kind == "proportion"

    @property
    def has_unit_scale(self) -> bool:
        """True if values are on a scale of 1: shares, probabilities, correlations, and errors in
        units of the score. On this scale small values are float32's rounding, while other kinds
        have a scale of their own.
        """
        return self.kind in ("proportion", "bounded", "ratio")

    @property
    def rounding(self) -> float:
        """The number below which values are float32's rounding and print as "<1e-6"; 0 if a value
        may be that small.
        """
        return FLOAT32_ROUNDING if self.has_unit_scale else 0.0

    @property
    def has_direction(self) -> bool:
        """True if lower or higher is better."""
        return self.better in ("lower", "higher")

    @property
    def why_no_best(self) -> str:
        """The reason why no method can be best in this metric, whichever methods are chosen; "" if
        one can.
        """
        if not self.reached_by:
            return ""
        return f"{self.reached_by}, which explain nothing, reach the best value"


@dataclass(frozen=True, eq=False)
class Metadata:
    """The metadata of the methods, metrics and models of a run, from its manifest. Names that the
    manifest lacks have defaults, because a run folder may come from a stranger.
    """

    manifest: Manifest

    def value(self, name: str) -> Value:
        """Return the metadata of a metric's value; a user's own callable without a YAML has only
        its name.
        """
        entry = self.metric(name)
        title = name if entry.title is None else str(entry.title)
        return Value(
            name,
            title=_marked(title, entry),
            unit=entry.unit,
            better=entry.better or Value.better,
            tolerance=entry.tolerance,
            note=_text(entry.note),
            kind=entry.kind or Value.kind,
            reached_by=_text(entry.reached_by),
            reads_contributions="contributions" in entry.needs,
        )

    def method(self, name: str) -> MethodEntry:
        """Return a method's entry in the manifest; the defaults if the manifest doesn't have it."""
        return self.manifest.methods.get(name) or MethodEntry()

    def metric(self, value: str) -> MetricEntry:
        """Return the metadata of a metric's value; the defaults if the manifest doesn't have it."""
        return self.manifest.metrics.get(value) or MetricEntry()

    def metric_of(self, value: str) -> str:
        """Return the name of the metric to which a value belongs."""
        return self.metric(value).metric or value

    def method_title(self, name: str) -> str:
        """Return the title of the method's YAML, such as "XGrad-CAM", or only the name of a
        callable without one.

        Methods of the same title, such as one method with two parameters, have their names in
        brackets after it.
        """
        method = self.method(name)
        title = str(method.title or name)
        if method.title and self._titles[title] > 1:
            title = f"{title} ({name})"
        return _marked(title, method)

    @cached_property
    def _titles(self) -> Counter[str]:
        """The number of methods that have a title."""
        return Counter(str(method.title) for method in self.manifest.methods.values())

    def unstable(self) -> dict[str, str]:
        """Return {method or metric: the reason why its answers for an image depend on other images,
        or differ from run to run}.
        """
        entries: dict[str, PluginEntry] = {**self.manifest.methods, **self.manifest.metrics}
        return {name: entry.unstable for name, entry in entries.items() if entry.unstable}

    @cached_property
    def controls(self) -> frozenset[str]:
        """The methods that explain nothing by design."""
        return frozenset(name for name, method in self.manifest.methods.items() if method.control)

    def by_construction(self, metric: str) -> frozenset[str]:
        """Return the methods whose YAML says that they win in this metric by construction."""
        methods = self.manifest.methods
        return frozenset(
            name for name, method in methods.items() if metric in method.wins_by_construction
        )

    @property
    def published(self) -> frozenset[str]:
        """The methods of which a suite has published values; none if the run isn't shown as a
        suite's.
        """
        return frozenset(self.manifest.published or ())

    def model(self, name: str) -> ModelEntry:
        """Return a model's metadata; the defaults if the manifest doesn't have it."""
        return self.manifest.models.get(name, ModelEntry())

    def model_notes(self) -> list[str]:
        """Return the manifest's notes on the models' values, which a reader must know. Models with
        the same note share a sentence.
        """
        models: dict[str, list[str]] = {}
        for name, model in self.manifest.models.items():
            models.setdefault(str(model.note or ""), []).append(name)
        return [f"{', '.join(names)}: {note}" for note, names in models.items() if note]


UNSTABLE = "\N{SECTION SIGN}"  # marks the methods and metrics of `Metadata.unstable`


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _marked(title: str, entry: PluginEntry) -> str:
    return f"{title}\N{NO-BREAK SPACE}{UNSTABLE}" if entry.unstable else title


def rows_at(table: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """Return the rows of a table with the columns model, layer and data that belong to one
    setting.
    """
    return table[
        (table.model == setting.model)
        & (table.layer == setting.layer)
        & (table.data == setting.data)
    ]


NOTHING = "\N{EN DASH}"  # the text of a number that isn't finite


def number(value: float, rounding: float = FLOAT32_ROUNDING) -> str:
    """Return a number in three significant digits, and as a whole number from 1,000 on.

    A number that isn't finite is a dash, and float32's rounding is "<1e-6": see `Value.rounding`.

    >>> [number(x) for x in (0.012345, 12.0, 4321.5, 2.5e9, 1.2e-7, 0.0)]
    ['0.0123', '12.0', '4,322', '2.50e9', '<1e-6', '0']
    """
    if not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    if abs(value) < rounding:
        return "<1e-6"
    rounded = float(f"{value:.3g}")
    if not 1e-4 <= abs(rounded) < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if abs(rounded) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{2 - math.floor(math.log10(abs(rounded)))}f}"


def with_interval(value: float, low: float, high: float, rounding: float = FLOAT32_ROUNDING) -> str:
    """Return a value with the ends of its interval, in three significant digits each.

    Without an interval, or if all three are float32's rounding, return only the value.

    >>> with_interval(0.28419, 0.2302, 0.35416)
    '0.284 [0.230, 0.354]'
    """
    is_rounding = all(abs(end) < rounding for end in (value, low, high))
    if is_rounding or not (math.isfinite(low) and math.isfinite(high)):
        return number(value, rounding)
    return f"{number(value, rounding)} [{number(low, rounding)}, {number(high, rounding)}]"


def p_value(p: float) -> str:
    """Return a p value as it is written in a sentence.

    >>> [p_value(p) for p in (0.25, 0.0375, 0.00042)]
    ['p = 0.25', 'p = 0.037', 'p < 0.001']
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def share(part: float, total: float) -> str:
    """Return a percentage without decimals. 0 % and 100 % mean none and all, and are never rounded
    shares.
    """
    percent = 100 * part / total if total else 0.0
    if 0 < percent < 1:
        return "<1 %"
    if 99 < percent < 100:
        return ">99 %"
    return f"{percent:.0f} %"


def percent(level: float) -> str:
    """Return a level as people read it.

    >>> [percent(level) for level in (0.05, 0.01, 0.025)]
    ['5 %', '1 %', '2.5 %']
    """
    return f"{100 * level:g} %"


def confidence(level: float) -> str:
    """Return the confidence of the intervals of a level.

    >>> [confidence(level) for level in (0.05, 0.01, 0.025)]
    ['95 %', '99 %', '97.5 %']
    """
    return percent(1 - level)


def counts_text(images: Iterable[int], rows: Iterable[int]) -> str:
    """Return the numbers of images, and of rows (an image and an explained class), that values were
    computed from. If there are several numbers, the text has their range.

    >>> counts_text([64, 64], [120, 124])
    'n = 64 images, 120 to 124 rows'
    """
    texts = []
    for noun, counts in (("image", list(images)), ("row", list(rows))):
        low = int(min(counts))
        high = int(max(counts))
        numbers = f"{high:,}" if low == high else f"{low:,} to {high:,}"
        texts.append(f"{numbers} {noun}{'' if high == 1 else 's'}")
    return f"n = {', '.join(texts)}"
