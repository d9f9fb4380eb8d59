"""A finished run as tables, figures and gate read it: the manifest and the records that it lists, nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.errors import BenchError
from axiom_bench.records import reading
from axiom_bench.report.options import Options

NAMES = ("experiment", "model", "layer", "data", "method", "metric", "status")
METHOD_FREE = "-"
CLASS = "class"  # the unit of a value that names a class: it is counted, not averaged


class Setting(NamedTuple):
    """Where methods are compared with each other: one model, cut at one layer, on one data set."""

    model: str
    layer: str
    data: str


@dataclass(frozen=True)
class Value:
    """What a metric's YAML says about one of its values."""

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


@dataclass(frozen=True)
class RunFolder:
    """manifest: the parsed manifest.json. records, runtime: the listed rows; NAMES are categories in its order, but
    image ids plain text: there may be many, and no order of them is needed. named: the rows whose value is the index of
    a class, apart from the records, which are numbers."""

    path: Path
    manifest: Mapping[str, Any]
    records: pd.DataFrame
    runtime: pd.DataFrame
    named: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """Raises BenchError where the manifest, or a file that it lists, is missing or can't be read."""
        path = Path(path)
        manifest = _manifest(path)
        rows = reading.read_records(path, manifest)
        about = manifest.get("metrics") or {}
        names_class = rows["metric"].isin([name for name, said in about.items() if (said or {}).get("unit") == CLASS])
        runtime = _runtime(path, manifest.get("runtime", []))
        parts = (rows[~names_class], runtime, rows[names_class])
        return cls(path, manifest, *(_ordered(part, manifest) for part in parts))

    @cached_property
    def options(self) -> Options:
        return Options.of(self.config)

    @property
    def config(self) -> Mapping[str, Any]:
        return self.manifest.get("config") or {}

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.records["metric"].cat.categories)

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Every model x layer x data set with records, layers in the manifest's order."""
        found = self.records[list(Setting._fields)].drop_duplicates().sort_values(list(Setting._fields))
        return tuple(Setting(*map(str, row)) for row in found.itertuples(index=False))

    def value(self, name: str) -> Value:
        """The metadata of a metric's value; a user's own callable without a YAML has its name alone."""
        about = (self.manifest.get("metrics") or {}).get(name) or {}
        said = {
            key: str(about[key])
            for key in ("title", "unit", "better", "tolerance", "note")
            if about.get(key) is not None
        }
        return Value(name, **{"title": name, **said})

    def method(self, name: str) -> Mapping[str, Any]:
        """A method's metadata: what its YAML says beside the call."""
        about = (self.manifest.get("methods") or {}).get(name)
        return about if isinstance(about, Mapping) else {}

    def images(self, model: str) -> Mapping[str, Mapping[str, Any]]:
        """{data set: how many images were `chosen`, how many the model has `kept`, and of the `others` why not}.

        Empty where the manifest doesn't say.
        """
        return ((self.manifest.get("models") or {}).get(model) or {}).get("images") or {}

    def label(self, setting: Setting) -> str:
        """The model's name, with the layer and the data set where the run has several of them for this model."""
        same = [other for other in self.settings if other.model == setting.model]
        parts = [setting.model]
        if len({other.layer for other in same}) > 1:
            parts.append(setting.layer)
        if len({other.data for other in same}) > 1:
            parts.append(f"({setting.data})")
        return " ".join(parts)

    def at(self, setting: Setting) -> pd.DataFrame:
        """The records of one setting."""
        rows = self.records
        return rows[(rows.model == setting.model) & (rows.layer == setting.layer) & (rows.data == setting.data)]


def _manifest(path: Path) -> Mapping[str, Any]:
    file = path / "manifest.json"
    try:
        manifest = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BenchError(
            f"{path} is no run folder: it has no manifest.json; give results/<experiment>/<run>."
        ) from error
    except (OSError, ValueError) as error:
        raise BenchError(f"{file} can't be read ({error}); run the same command again to write it anew.") from error
    if not isinstance(manifest, dict) or not {"experiment", "run"} <= manifest.keys():
        raise BenchError(f"{file} isn't a run's manifest; run the same command again to write it anew.")
    return manifest


def _runtime(path: Path, files: Sequence[str]) -> pd.DataFrame:
    tables = [pd.DataFrame(columns=list(RUNTIME_COLUMNS))]
    for file in files:
        try:
            tables.append(pd.read_parquet(path / file))
        except (OSError, pa.ArrowInvalid) as error:
            raise BenchError(f"The run times {path / file} can't be read ({error}); run again.") from error
    return pd.concat(tables if len(tables) == 1 else tables[1:], ignore_index=True)[list(RUNTIME_COLUMNS)]


def _ordered(rows: pd.DataFrame, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Names as ordered categories: the manifest's order first, then what it doesn't list; and no status that lies."""
    models = manifest.get("models") or {}
    orders = {
        "model": list(models),
        "layer": [layer for model in models.values() for layer in _layers(model)],
        "data": list(manifest.get("data") or {}),
        "method": [METHOD_FREE, *(manifest.get("methods") or {})],
        "metric": list(manifest.get("metrics") or {}),
    }
    rows = rows.assign(**{name: _category(rows[name], orders.get(name, [])) for name in NAMES if name in rows})
    if "status" in rows:
        # The contract is: NaN unless ok. A row that breaks it must not vanish from n in silence.
        lies = (rows["status"] == "ok") & ~np.isfinite(rows["value"].astype(float))
        if lies.any():
            status = rows["status"].cat.set_categories([*rows["status"].cat.categories.union(["not_finite"])])
            rows["status"] = status.mask(lies, "not_finite")
        rows["status"] = _category(rows["status"], ["ok"])
    return rows


def _layers(model: Mapping[str, Any]) -> list[str]:
    """In the order in which the network runs them; in the run's where the manifest doesn't tell their depths."""
    depths = model.get("depths") or {}
    return sorted(model.get("layers") or [model.get("layer")], key=lambda layer: depths.get(layer, 0))


def _category(names: pd.Series, order: Iterable[str]) -> pd.Series:
    names = names.astype("category").cat.remove_unused_categories()
    present = set(map(str, names.cat.categories))
    listed = [name for name in dict.fromkeys(order) if name in present]
    return names.cat.set_categories([*listed, *sorted(present - set(listed), key=_natural)], ordered=True)


def _natural(name: str) -> list[tuple[int, str]]:
    """features.9 before features.12: the digits of a name count as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
