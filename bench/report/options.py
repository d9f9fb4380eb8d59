"""The options of a report: the manifest's `config.report` over the defaults of conf/config.yaml.

A manifest may be of another version. A key that it lacks has its default, and a key that this
version lacks doesn't count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import yaml

from axiom_bench.columns import LAYER
from axiom_bench.environment import conf_folder, entry_names
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.kinds import check, check_group, described_values

if TYPE_CHECKING:
    from axiom_bench.statistics.run_folder import RunFolder

FORMATS = ("png", "pdf", "svg")  # of figures
COLUMN = 3.3  # inches: the width of a column on a page with two columns
PAGE = 7.0  # inches: the width of a page
HEIGHT = 9.0  # inches: the most that a page holds
# Any text, since a run folder may come from a stranger: the page escapes it.
Word = Annotated[Any, described_values("a text", lambda value: isinstance(value, str))]
Metrics = Annotated[tuple[Word, ...], described_values("a list of metrics, as [zeta,epsilon]")]
Methods = Annotated[tuple[Word, ...], described_values("a list of methods, as [grad_cam,cam]")]
Method = Annotated[
    Any, described_values("a method of the run", lambda value: isinstance(value, str))
]
# The ends of an interval are quantiles of 1,000 resamples, which show no smaller tails.
LEAST_LEVEL = 0.002


def _is_level(value: object) -> bool:
    return isinstance(value, float) and LEAST_LEVEL <= value < 0.5


Level = Annotated[Any, described_values(f"a level from {LEAST_LEVEL} to below 0.5", _is_level)]
Formats = Annotated[tuple[Word, ...], described_values("a list of formats, as [png,pdf,svg]")]


@dataclass(frozen=True)
class Figures:
    """The metrics and methods that the figures show. An empty choice leaves a figure out."""

    over_models: Metrics  # metrics of the layer
    by_depth: Metrics  # metrics of the layer
    plane: Metrics  # the two errors of the axiom plane
    grid: Methods | None  # the methods of the maps; `None`: all
    perturbed: Method | None
    pair: Methods  # two methods
    class_seen: Word | None  # the metric of the classes that maps show
    formats: Formats  # the formats of the files: png, and others of FORMATS

    @property
    def values(self) -> dict[str, Collection[str]]:
        """{setting: the names of values that it chooses}."""
        class_seen = () if self.class_seen is None else (self.class_seen,)
        return {
            "figures.over_models": self.over_models,
            "figures.by_depth": self.by_depth,
            "figures.plane": self.plane,
            "figures.class_seen": class_seen,
        }

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise unknown_name(
                    "format", name, FORMATS, place="of figures (report.figures.formats)"
                )
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
class Latex:
    """The columns of the LaTeX overview."""

    columns: Metrics | None  # `None`: the first of the page's overview

    @property
    def values(self) -> dict[str, Collection[str]]:
        """{setting: the names of values that it chooses}."""
        return {"latex.columns": self.columns or ()}


@dataclass(frozen=True)
class Options:
    """The options of a report, the fields of `config.report`."""

    methods: Methods | None  # the methods that are shown and compared, in order; `None`: all
    level: Level  # of every test; the confidence of the intervals is 1 - level
    sort: Word | None  # methods are sorted by this value of a metric; `None`: the run's order
    headline: Metrics  # the metrics of a run's last lines
    columns: Metrics  # the metrics of the overview table, in order
    columns_off: Metrics  # the columns that the page shows only when a reader asks
    compare: Method | None  # paired tests compare this method with every other; `None`: no tests
    rival: Method  # the title compares `compare` with this method
    figures: Figures
    latex: Latex

    @property
    def values(self) -> dict[str, Collection[str]]:
        """{setting: the names of values that it chooses}."""
        return {
            "headline": self.headline,
            "columns": self.columns,
            "columns_off": self.columns_off,
            **self.figures.values,
            **self.latex.values,
        }

    @classmethod
    def of(cls, report: Mapping[str, object] | None = None) -> Options:
        """Return the options that a run's `config.report` chooses. Raise BenchError for a value
        that doesn't fit.
        """
        values = deepcopy(_defaults())
        chosen = _group("report", report)
        for name, options in GROUPS.items():
            setting = f"report.{name}"
            chosen_group = _group(setting, chosen.pop(name, None))
            group_values = {**values[name], **_known(setting, options, chosen_group)}
            values[name] = options(**with_tuples(group_values))
        values |= _known("report", cls, chosen)
        return cls(**with_tuples(values))


GROUPS: dict[str, type[Figures] | type[Latex]] = {"figures": Figures, "latex": Latex}


def _keys() -> Iterator[str]:
    """Yield the keys of all settings, as a command line names them."""
    for field in fields(Options):
        if field.name not in GROUPS:
            yield f"report.{field.name}"
    for group, options in GROUPS.items():
        for field in fields(options):
            yield f"report.{group}.{field.name}"


KEYS = tuple(_keys())


def check_keys(report: Mapping[str, object] | None) -> None:
    """Raise BenchError, with the nearest name, for a key of `report` that this version doesn't
    have.
    """
    settings: list[str] = []
    for key, value in _group("report", report).items():
        if key in GROUPS:
            settings += [f"report.{key}.{name}" for name in _group(f"report.{key}", value)]
        else:
            settings.append(f"report.{key}")
    for setting in settings:
        if setting not in KEYS:
            raise unknown_name("setting", setting, KEYS, place="of a report")


def check_shown(options: Options, methods: Collection[str], values: Collection[str]) -> None:
    """Check `report.methods`, `report.compare` and `report.sort`, whose names must be in the run.

    Args:
        options: The options to check.
        methods: The methods of the run.
        values: The names of the values that the run has of methods.

    Raises:
        BenchError: If a name is unknown; the message has the nearest names.
    """
    if options.methods is not None and not options.methods:
        raise BenchError("report.methods names no method; write report.methods=null for all.")
    for name in options.methods or ():
        if name not in methods:
            raise unknown_name("method", name, methods, place="in this run (report.methods)")
    if options.compare is not None and options.compare not in methods:
        raise unknown_name("method", options.compare, methods, place="in this run")
    if options.compare is not None and options.compare not in (options.methods or methods):
        names = ",".join((*(options.methods or ()), options.compare))
        raise BenchError(
            f"report.methods leaves out {options.compare}, which report.compare compares; add it: "
            f'"report.methods=[{names}]".'
        )
    if options.sort is not None and options.sort not in values:
        raise unknown_name(
            "metric", options.sort, values, place="of methods in this run (report.sort)"
        )


def check_names(options: Options, methods: Collection[str], values: Collection[str]) -> None:
    """Raise BenchError, with the nearest names, for an option that names an unknown method or
    metric value.

    Args:
        options: The options to check.
        methods: The methods of the run.
        values: The names of all values that a run may have, whether this run has them or not.
    """
    methods_by_setting: dict[str, Collection[str | None]] = {
        "compare": (options.compare,),
        "figures.pair": options.figures.pair,
        # A run need not have the default rival.
        "rival": () if options.rival == _defaults()["rival"] else (options.rival,),
        "figures.perturbed": (options.figures.perturbed,),
        "figures.grid": options.figures.grid or (),
    }
    for setting, chosen_methods in methods_by_setting.items():
        for name in chosen_methods:
            if name is not None and name not in methods:
                raise unknown_name("method", name, methods, place=f"in this run (report.{setting})")
    for setting, chosen_values in options.values.items():
        for name in chosen_values:
            if name is not None and name not in values:
                raise unknown_name("metric", name, values, place=f"in this run (report.{setting})")


def options_of(run: RunFolder) -> Options:
    """Return the options of a run's report, with only metrics that the run has.

    If the run has no metric of the headline, its own metrics lead, in the order given. They also
    take the place of absent columns. If no metric of the headline tells methods apart, the first
    column that does leads. A user's own metrics are columns, too.

    Raises:
        BenchError: If a value of `config.report` doesn't fit.
    """
    # Imported here, so that checking options before a run doesn't load the statistics.
    from axiom_bench.statistics.answer import separates_methods

    options = Options.of(run.config.report)
    directed = [name for name in run.metrics if run.metadata.value(name).has_direction]
    if not directed:
        directed = list(run.metrics)
    headline = tuple(name for name in options.headline if name in run.metrics)
    columns = tuple(name for name in options.columns if name in run.metrics)
    # The table has as many columns as the options choose, except for the user's own metrics.
    num_columns = len(options.columns)
    if options.headline and not headline:
        headline = tuple(directed[: num_columns or 1])
        columns = ()
    columns = tuple(dict.fromkeys([*columns, *headline, *directed]))[:num_columns]
    shipped_metrics = entry_names("metric")
    method_values = [name for name in run.metrics if name in run.records.metrics_with_images(LAYER)]
    own_values = [
        name for name in method_values if run.metadata.metric_of(name) not in shipped_metrics
    ]
    columns = tuple(dict.fromkeys([*columns, *own_values]))
    if headline and not any(separates_methods(run, name) for name in headline):
        other_columns = (name for name in columns if name not in headline)
        telling = [name for name in other_columns if separates_methods(run, name)]
        headline = (*telling[:1], *headline)
    rivals = [
        name
        for name in run.methods
        if name != options.compare and name not in run.metadata.controls
    ]
    rival = options.rival
    if rivals and rival not in rivals:
        rival = rivals[0]
    return replace(options, headline=headline, columns=columns, rival=rival)


@cache
def _defaults() -> dict[str, Any]:
    """Return the block `report` of conf/config.yaml."""
    text = (conf_folder() / "config.yaml").read_text(encoding="utf-8")
    defaults: dict[str, Any] = yaml.safe_load(text)["report"]
    return defaults


def _group(setting: str, value: object) -> dict[str, Any]:
    """Return a group of settings; it may be absent. Raise BenchError if the value is no group."""
    return {} if value is None else dict(check_group(setting, value))


def _known(setting: str, options: type, chosen: Mapping[str, object]) -> dict[str, Any]:
    """Return the chosen settings that a group has, checked by the annotations of its dataclass."""
    known = {field.name: chosen[field.name] for field in fields(options) if field.name in chosen}
    check(options, known, f"{setting}.")
    return known


def with_tuples(options: Mapping[str, object]) -> dict[str, Any]:
    """Return settings read from YAML with tuples for the lists, so that nobody can change them."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
    }
