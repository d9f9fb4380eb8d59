"""What a report shows: the manifest's `config.report` over the defaults of conf/config.yaml.

An old manifest that lacks a key, or has no `config.report`, gets the defaults.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import yaml

from axiom_bench.configs import conf_folder
from axiom_bench.errors import BenchError, unknown

FORMATS = ("png", "pdf", "svg")  # of figures
WIDTHS = ("auto", "column", "page")  # of LaTeX tables


@dataclass(frozen=True)
class Figures:
    """Which metrics and methods the figures show; an empty choice leaves a figure out.

    over_models, by_depth: metrics of the layer. plane: the two errors of the axiom plane; floor: the two coordinates of
    its floor. grid: methods of the maps side by side, None for all. perturbed: a method. pair: two methods.
    class_seen: the metric of the classes that maps show. numbers: {metric: the paper's figure that shows it}.
    formats: of the files, png and others of FORMATS. columns: whether each figure has a file for a column, too.
    """

    over_models: tuple[str, ...]
    by_depth: tuple[str, ...]
    plane: tuple[str, ...]
    floor: tuple[str, ...]
    grid: tuple[str, ...] | None
    perturbed: str | None
    pair: tuple[str, ...]
    class_seen: str | None
    numbers: Mapping[str, str]
    formats: tuple[str, ...]
    columns: bool

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise unknown("format of report.figures.formats", name, FORMATS)
        if FORMATS[0] not in self.formats:
            raise BenchError(f"report.figures.formats needs {FORMATS[0]}, which report.html shows: [{FORMATS[0]},pdf].")
        for key in ("plane", "floor"):
            if len(getattr(self, key)) not in (0, 2):
                raise BenchError(f"report.figures.{key} needs two metrics, of the axes x and y, or none: [].")


@dataclass(frozen=True)
class Latex:
    """width: of the LaTeX tables, one of WIDTHS; auto: of a column where a table fits into it, else of a page."""

    width: str

    def __post_init__(self) -> None:
        if self.width not in WIDTHS:
            raise unknown("report.latex.width", str(self.width), WIDTHS)


@dataclass(frozen=True)
class Options:
    """headline: the metrics of a run's last lines. columns: the metrics of the overview table, in order.
    compare: the method that the paired tests compare with every other; None: no such tests."""

    headline: tuple[str, ...]
    columns: tuple[str, ...]
    compare: str | None
    figures: Figures
    latex: Latex

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Options:
        """From the manifest's config. Raises BenchError, with the nearest names, for an unknown key."""
        defaults, chosen = deepcopy(_defaults()), dict(config.get("report") or {})
        figures = defaults.pop("figures") | _checked("report.figures key", Figures, chosen.pop("figures", None) or {})
        latex = defaults.pop("latex") | _checked("report.latex key", Latex, chosen.pop("latex", None) or {})
        options = defaults | _checked("report key", cls, chosen)
        return cls(**_tuples(options), figures=Figures(**_tuples(figures)), latex=Latex(**latex))


def check_names(options: Options, methods: Collection[str], values: Collection[str]) -> None:
    """Raise BenchError, with the nearest names, for an option that names an unknown method or metric value.

    methods: those of the run. values: all names of values that a run may have, in it or not.
    """
    of_methods = {"compare": (options.compare,), "figures.pair": options.figures.pair}
    of_methods |= {"figures.perturbed": (options.figures.perturbed,), "figures.grid": options.figures.grid or ()}
    of_values = {"headline": options.headline, "columns": options.columns}
    of_values |= {f"figures.{name}": getattr(options.figures, name) for name in ("over_models", "by_depth", "plane")}
    for chosen, names, kind in ((of_methods, methods, "method"), (of_values, values, "metric")):
        for key, requested in chosen.items():
            for name in requested:
                if name is not None and name not in names:
                    raise unknown(f"{kind} for report.{key}", name, names)


def with_settings(
    manifest: Mapping[str, Any], settings: Mapping[str, Any] | None, reload: int | None = None
) -> dict[str, Any]:
    """The manifest with other `config.report` settings, {"headline": ..., "figures": {...}}, and with the seconds after
    which the page loads itself again."""
    config = manifest.get("config") or {}
    report = dict(config.get("report") or {})
    for key, value in (settings or {}).items():
        report[key] = {**(report.get(key) or {}), **value} if isinstance(value, Mapping) else value
    changed = {"config": {**config, "report": report}} if settings else {}
    own = {key: value for key, value in manifest.items() if key != "reload"}  # a stranger's could be another address
    return {**own, **changed, **({"reload": reload} if reload else {})}


@cache
def _defaults() -> dict[str, Any]:
    """The block `report` of conf/config.yaml."""
    defaults: dict[str, Any] = yaml.safe_load((conf_folder() / "config.yaml").read_text())["report"]
    return defaults


def _checked(kind: str, options: type, chosen: Mapping[str, Any]) -> dict[str, Any]:
    names = [field.name for field in fields(options)]
    for key in chosen:
        if key not in names:
            raise unknown(kind, key, names)
    return dict(chosen)


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
