"""What a run's manifest says about the names in its records: metrics' values, methods, models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd


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

    @property
    def lead(self) -> str:
        """The statistic that tables lead with: the median for ratios, whose tails are heavy near a score of 0."""
        return "median" if self.unit == "ratio" else "mean"

    @property
    def has_direction(self) -> bool:
        """Whether lower or higher is better."""
        return self.better in ("lower", "higher")


@dataclass(frozen=True, eq=False)
class Metadata:
    """Of a run with this manifest."""

    manifest: Mapping[str, Any]

    def value(self, name: str) -> Value:
        """The metadata of a metric's value; a user's own callable without a YAML has its name alone."""
        entry = (self.manifest.get("metrics") or {}).get(name) or {}
        keys = ("title", "unit", "better", "tolerance", "note")
        return Value(name, **{"title": name, **{key: str(entry[key]) for key in keys if entry.get(key) is not None}})

    def method(self, name: str) -> Mapping[str, Any]:
        """A method's metadata: what its YAML says beside the call."""
        entry = (self.manifest.get("methods") or {}).get(name)
        return entry if isinstance(entry, Mapping) else {}

    def method_title(self, name: str) -> str:
        """The title of the method's YAML, such as "XGrad-CAM"; a callable without one has its name alone. Methods of
        one title, as one method with two parameters, have their names in brackets after it."""
        title = self.method(name).get("title")
        if not title:
            return name
        return f"{title} ({name})" if self._titles[str(title)] > 1 else str(title)

    @cached_property
    def _titles(self) -> Counter[str]:
        return Counter(str(self.method(name).get("title")) for name in self.manifest.get("methods") or {})

    def by_construction(self, metric: str) -> frozenset[str]:
        """The methods whose YAML says that they win in this metric by construction."""
        methods = self.manifest.get("methods") or {}
        return frozenset(name for name in methods if metric in self.method(name).get("wins_by_construction", ()))

    def images(self, model: str) -> Mapping[str, Mapping[str, Any]]:
        """{data set: how many images were `chosen`, how many the model has `kept`, and why not the `others`}.

        Empty where the manifest doesn't say.
        """
        return self._model(model).get("images") or {}

    def has_random_weights(self, model: str) -> bool:
        """Whether the model ran with random weights, so that its values rank no method."""
        return bool(self._model(model).get("random_weights"))

    def _model(self, name: str) -> Mapping[str, Any]:
        return (self.manifest.get("models") or {}).get(name) or {}


def rows_at(table: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """The rows of a table with the columns model, layer and data that belong to one setting."""
    return table[(table.model == setting.model) & (table.layer == setting.layer) & (table.data == setting.data)]
