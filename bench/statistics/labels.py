"""Names and numbers as readers see them: what a run's manifest says about the names in its records,
and a number in three significant digits, the same everywhere.
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
    """Where methods are compared with each other: one model, cut at one layer, on one data set."""

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
    tolerance: str = ""
    note: str = ""
    kind: str = "unbounded"
    reached_by: str = ""

    @property
    def lead(self) -> str:
        """The statistic that tables lead with: the median of kinds with heavy tails, ratios (near a
        score of 0) and squares.
        """
        return "median" if self.kind in ("ratio", "squared") else "mean"

    @property
    def is_proportion(self) -> bool:
        """Whether each value is 0 or 1, and their mean the share of ones."""
        return self.kind == "proportion"

    @property
    def has_unit_scale(self) -> bool:
        """Whether values are on a scale of 1: shares, probabilities, correlations, errors in units
        of the score. On it what is small is float32's rounding; other kinds have a scale of their
        own.
        """
        return self.kind in ("proportion", "bounded", "ratio")

    @property
    def rounding(self) -> float:
        """Numbers below it are float32's rounding and print as "<1e-6"; 0 where a value may be as
        small as that.
        """
        return FLOAT32_ROUNDING if self.has_unit_scale else 0.0

    @property
    def has_direction(self) -> bool:
        """Whether lower or higher is better."""
        return self.better in ("lower", "higher")

    @property
    def why_no_best(self) -> str:
        """Say why no method can be best in this metric, whichever methods are chosen; "" if one
        can.
        """
        return (
            f"{self.reached_by}, which explain nothing, reach the best value"
            if self.reached_by
            else ""
        )


@dataclass(frozen=True, eq=False)
class Metadata:
    """Of a run with this manifest."""

    manifest: Manifest

    def value(self, name: str) -> Value:
        """The metadata of a metric's value; a user's own callable without a YAML has its name
        alone.
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
        )

    def method(self, name: str) -> MethodEntry:
        """A method's metadata: what its YAML says beside the call."""
        return self.manifest.methods.get(name, MethodEntry())

    def metric(self, value: str) -> MetricEntry:
        """Return the metadata of a metric's value; the defaults if the manifest doesn't have it."""
        return self.manifest.metrics.get(value, MetricEntry())

    def metric_of(self, value: str) -> str:
        """Return the name of the metric that returns a value."""
        return self.metric(value).metric or value

    def method_title(self, name: str) -> str:
        """The title of the method's YAML, such as "XGrad-CAM"; a callable without one has its name
        alone. Methods of one title, as one method with two parameters, have their names in brackets
        after it.
        """
        method = self.method(name)
        is_shared = method.title and self._titles[str(method.title)] > 1
        return _marked(
            f"{method.title} ({name})" if is_shared else str(method.title or name), method
        )

    @cached_property
    def _titles(self) -> Counter[str]:
        return Counter(str(method.title) for method in self.manifest.methods.values())

    def unstable(self) -> dict[str, str]:
        """{method or metric: why its answers aren't of each image alone, or not the same again}."""
        entries: dict[str, PluginEntry] = {**self.manifest.methods, **self.manifest.metrics}
        return {name: entry.unstable for name, entry in entries.items() if entry.unstable}

    @cached_property
    def controls(self) -> frozenset[str]:
        """The methods that explain nothing by design."""
        return frozenset(name for name, method in self.manifest.methods.items() if method.control)

    def by_construction(self, metric: str) -> frozenset[str]:
        """The methods whose YAML says that they win in this metric by construction."""
        methods = self.manifest.methods
        return frozenset(
            name for name, method in methods.items() if metric in method.wins_by_construction
        )

    @property
    def published(self) -> frozenset[str]:
        """The methods that a suite has published values of; none in a run that isn't shown as a
        suite's.
        """
        return frozenset(self.manifest.published or ())

    def model(self, name: str) -> ModelEntry:
        """Return a model's metadata; the defaults if the manifest doesn't have it."""
        return self.manifest.models.get(name, ModelEntry())

    def model_notes(self) -> list[str]:
        """What a reader must know of the models' values, as the manifest says; one sentence for
        models of one note.
        """
        models: dict[str, list[str]] = {}
        for name, model in self.manifest.models.items():
            models.setdefault(str(model.note or ""), []).append(name)
        return [f"{', '.join(names)}: {note}" for note, names in models.items() if note]


UNSTABLE = "\N{SECTION SIGN}"  # marks what `Metadata.unstable` names


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _marked(title: str, entry: PluginEntry) -> str:
    return f"{title}\N{NO-BREAK SPACE}{UNSTABLE}" if entry.unstable else title


def rows_at(table: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """The rows of a table with the columns model, layer and data that belong to one setting."""
    return table[
        (table.model == setting.model)
        & (table.layer == setting.layer)
        & (table.data == setting.data)
    ]


NOTHING = "\N{EN DASH}"


def number(value: float, rounding: float = FLOAT32_ROUNDING) -> str:
    """Three significant digits; whole from 1,000 on; a dash for what isn't finite; "<1e-6" for
    float32's rounding. rounding: see `Value.rounding`.

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
    """A value with the ends of its interval, three significant digits each; the value alone without
    one, or where all three are float32's rounding.

    >>> with_interval(0.28419, 0.2302, 0.35416)
    '0.284 [0.230, 0.354]'
    """
    is_rounding = all(abs(end) < rounding for end in (value, low, high))
    if is_rounding or not (math.isfinite(low) and math.isfinite(high)):
        return number(value, rounding)
    return f"{number(value, rounding)} [{number(low, rounding)}, {number(high, rounding)}]"


def p_value(p: float) -> str:
    """A p value for a sentence.

    >>> [p_value(p) for p in (0.25, 0.0375, 0.00042)]
    ['p = 0.25', 'p = 0.037', 'p < 0.001']
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def share(part: float, total: float) -> str:
    """A percentage without decimals: 0 % and 100 % stand for none and all alone, never for a
    rounded share.
    """
    percent = 100 * part / total if total else 0.0
    if 0 < percent < 1:
        return "<1 %"
    if 99 < percent < 100:
        return ">99 %"
    return f"{percent:.0f} %"


def plural(count: int, noun: str) -> str:
    """ "1 image", "1,024 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def counts_text(images: Iterable[int], rows: Iterable[int]) -> str:
    """How many images, and rows (an image and an explained class), values were computed from; of
    several, the range.

    >>> counts_text([64, 64], [120, 124])
    'n = 64 images, 120 to 124 rows'
    """
    texts = []
    for noun, counts in (("image", list(images)), ("row", list(rows))):
        low, high = int(min(counts)), int(max(counts))
        texts.append(
            f"{low:,}{'' if low == high else f' to {high:,}'} {noun}{'' if high == 1 else 's'}"
        )
    return f"n = {', '.join(texts)}"
