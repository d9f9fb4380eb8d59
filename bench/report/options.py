"""What a report shows: the manifest's `config.report` over the defaults of conf/config.yaml.

A manifest may be of another version. Keys that it lacks have their defaults, and keys that this
version lacks don't count.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml

from axiom_bench.columns import LAYER
from axiom_bench.environment import conf_folder, entry_names
from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import check, check_group, worded

if TYPE_CHECKING:
    from axiom_bench.records.entries import Manifest
    from axiom_bench.statistics.run_folder import RunFolder

FORMATS = ("png", "pdf", "svg")  # of figures
COLUMN, PAGE = 3.3, 7.0  # inches: of a column of a page of two, and of a page
HEIGHT = 9.0  # inches: the most that a page holds
# Any text, since a run folder may come from a stranger: it is escaped where it is shown.
Word = Annotated[Any, worded("a text", lambda value: isinstance(value, str))]
Metrics = Annotated[tuple[Word, ...], worded("a list of metrics, as [zeta,epsilon]")]
Methods = Annotated[tuple[Word, ...], worded("a list of methods, as [grad_cam,cam]")]
Method = Annotated[Any, worded("a method of the run", lambda value: isinstance(value, str))]
Formats = Annotated[tuple[Word, ...], worded("a list of formats, as [png,pdf,svg]")]


@dataclass(frozen=True)
class Figures:
    """Which metrics and methods the figures show; an empty choice leaves a figure out.

    over_models, by_depth: metrics of the layer. plane: the two errors of the axiom plane. grid:
    methods of the maps, or None for all. perturbed: a method. pair: two methods. class_seen: the
    metric of the classes that maps show. numbers: {metric: the paper's figure that shows it}.
    formats: of the files, png and others of FORMATS.
    """

    over_models: Metrics
    by_depth: Metrics
    plane: Metrics
    grid: Methods | None
    perturbed: Method | None
    pair: Methods
    class_seen: Word | None
    numbers: Annotated[Mapping[Word, Word], worded("a mapping to texts")]
    formats: Formats

    @property
    def values(self) -> dict[str, Collection[str]]:
        """{setting: the names of values that it chooses}."""
        lists = {name: getattr(self, name) for name in ("over_models", "by_depth", "plane")}
        seen = () if self.class_seen is None else (self.class_seen,)
        return {
            f"figures.{name}": names
            for name, names in (lists | {"class_seen": seen, "numbers": self.numbers}).items()
        }

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise unknown("format of report.figures.formats", name, FORMATS)
        if FORMATS[0] not in self.formats:
            raise BenchError(
                f"report.figures.formats needs {FORMATS[0]}, which report.html shows: "
                f"[{FORMATS[0]},pdf]."
            )
        if len(self.plane) not in (0, 2):
            raise BenchError(
                "report.figures.plane needs two metrics, of the axes x and y, or none: []."
            )


@dataclass(frozen=True)
class Options:
    """headline: the metrics of a run's last lines. columns: the metrics of the overview table, in
    order; columns_off: those of them that the page shows when a reader asks. compare: the method
    that the paired tests compare with every other; None: no such tests. rival: the method that the
    title compares it with.
    """

    headline: Metrics
    columns: Metrics
    columns_off: Metrics
    compare: Method | None
    rival: Method
    figures: Figures

    @property
    def values(self) -> dict[str, Collection[str]]:
        """{setting: the names of values that it chooses}."""
        return {
            name: getattr(self, name) for name in ("headline", "columns", "columns_off")
        } | self.figures.values

    @classmethod
    def of(cls, report: Mapping[str, Any] | None = None) -> Options:
        """Return the options that a run's `config.report` chooses. Raises BenchError for a value
        that doesn't fit.
        """
        defaults = _defaults()
        chosen = _group("report", report)
        groups = {}
        for name, options in GROUPS.items():
            setting = f"report.{name}"
            selected = _known(setting, options, _group(setting, chosen.pop(name, None)))
            groups[name] = options(**with_tuples({**deepcopy(defaults[name]), **selected}))
        selected = _known("report", cls, chosen)
        return cls(**with_tuples({**deepcopy(defaults), **selected}) | groups)


GROUPS: dict[str, Any] = {"figures": Figures}
KEYS = tuple(  # of all settings, as a command line names them
    f"report.{group}{field.name}"
    for group, options in (
        ("", Options),
        *((f"{name}.", options) for name, options in GROUPS.items()),
    )
    for field in fields(options)
    if field.name not in GROUPS
)


def check_keys(report: Mapping[str, Any] | None) -> None:
    """Raise BenchError, with the nearest name, for a key of `report` that this version doesn't
    have.
    """
    settings = []
    for key, value in _group("report", report).items():
        if key in GROUPS:
            settings += [f"report.{key}.{name}" for name in _group(f"report.{key}", value)]
        else:
            settings.append(f"report.{key}")
    for setting in settings:
        if setting not in KEYS:
            raise unknown("setting of a report", setting, KEYS)


def check_names(options: Options, methods: Collection[str], values: Collection[str]) -> None:
    """Raise BenchError, with the nearest names, for an option that names an unknown method or
    metric value.

    methods: those of the run. values: all names of values that a run may have, in it or not.
    """
    of_methods = {"compare": (options.compare,), "figures.pair": options.figures.pair}
    of_methods["rival"] = (options.rival,) * (
        options.rival != _defaults()["rival"]
    )  # which a run need not have
    of_methods |= {
        "figures.perturbed": (options.figures.perturbed,),
        "figures.grid": options.figures.grid or (),
    }
    for chosen, names, kind in (
        (of_methods, methods, "method"),
        (options.values, values, "metric"),
    ):
        for key, requested in chosen.items():
            for name in requested:
                if name is not None and name not in names:
                    raise unknown(f"{kind} for report.{key}", name, names)


def options_of(run: RunFolder) -> Options:
    """What the report of a run shows: of the headline and the columns what the run has. Where it
    has nothing of the headline, its own metrics lead, in the order given; they also take the place
    of absent columns. Where no metric of the headline tells methods apart, the first column that
    does leads. A user's own metrics are columns, too. Raises BenchError for an unknown key of
    `config.report`.
    """
    from axiom_bench.statistics.ranking import (
        tells_apart,
    )  # here: not where options are checked before a run

    options = Options.of(run.config.report)
    directed = [name for name in run.metrics if run.metadata.value(name).has_direction] or list(
        run.metrics
    )
    headline, columns = (
        tuple(name for name in chosen if name in run.metrics)
        for chosen in (options.headline, options.columns)
    )
    if options.headline and not headline:
        headline, columns = tuple(directed[: len(options.columns) or 1]), ()
    columns = tuple(dict.fromkeys([*columns, *headline, *directed]))[: len(options.columns)]
    shipped = entry_names("metric")
    of_methods = [name for name in run.metrics if name in run.records.measured(LAYER)]
    own = [name for name in of_methods if run.metadata.metric_of(name) not in shipped]
    columns = tuple(dict.fromkeys([*columns, *own]))
    if headline and not any(tells_apart(run, name) for name in headline):
        headline = (
            *[name for name in columns if name not in headline and tells_apart(run, name)][:1],
            *headline,
        )
    others = [
        name
        for name in run.methods
        if name != options.compare and name not in run.metadata.controls
    ]
    rival = options.rival if options.rival in others else next(iter(others), options.rival)
    return replace(options, headline=headline, columns=columns, rival=rival)


def number_of(run: RunFolder, value: str) -> str:
    """The paper's figure that shows a metric's value, as "Fig 2(a)"; empty where none does."""
    return options_of(run).figures.numbers.get(run.metadata.metric_of(value), "")


def read_run(folder: Path, settings: Mapping[str, Any] | None = None) -> RunFolder:
    """Read a run folder with other `report.*` settings. Raises as `RunFolder.read`."""
    from axiom_bench.records import reading
    from axiom_bench.statistics.run_folder import RunFolder

    return RunFolder.of(folder, with_settings(reading.read_manifest(folder), settings))


def with_settings(manifest: Manifest, settings: Mapping[str, Any] | None) -> Manifest:
    """Return the manifest with other `config.report` settings, {"headline": ..., "figures": {...}}.

    Raises BenchError, with the nearest name, for a key that there is not.
    """
    check_keys(settings)
    if not settings:
        return manifest
    report = dict(manifest.config.report)
    for key, value in settings.items():
        report[key] = {**(report.get(key) or {}), **value} if isinstance(value, Mapping) else value
    return manifest.model_copy(
        update={"config": manifest.config.model_copy(update={"report": report})}
    )


@cache
def _defaults() -> dict[str, Any]:
    """The block `report` of conf/config.yaml."""
    defaults: dict[str, Any] = yaml.safe_load(
        (conf_folder() / "config.yaml").read_text(encoding="utf-8")
    )["report"]
    return defaults


def _group(setting: str, value: object) -> dict[str, Any]:
    """A group of settings that may be absent. Raises BenchError for what is no group."""
    return {} if value is None else dict(check_group(setting, value))


def _known(setting: str, options: type, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chosen settings that a group has, checked by the annotations of its dataclass."""
    known = {field.name: chosen[field.name] for field in fields(options) if field.name in chosen}
    check(options, known, f"{setting}.")
    return known


def with_tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was read from YAML, whose lists no one changes."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
    }
