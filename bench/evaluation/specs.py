"""Metadata of methods and metrics: what their YAML files hold beside `_target_` and `params`, checked on reading.

A misspelt or unknown key, and a value of the wrong kind, is a BenchError in one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from axiom_bench.columns import NOT_FINITE
from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import Name, check_group, check_values, is_name, shown, worded

Extra = Literal["interventions", "other_images"]
EXTRAS = frozenset(get_args(Extra))  # loaded beside the images where something asks for them
Degree = Annotated[float | None, worded("0, for not spoiled, or more", lambda value: value is None or value >= 0)]
Better = Literal["lower", "higher", "none"]
ValueKind = Literal["proportion", "bounded", "ratio", "squared", "count", "unbounded"]
Read = Literal[
    "drops", "contributions", "effects", "regions", "score", "gradients", "perturbed_scores", "other_maps"
]  # ablation drops, true contributions, effects of the image's parts, boxes and masks, ..., re-explanations
MAPS = "maps"  # what a metric reads that needs neither the model nor a pass's trace
RULE = re.compile(r"(mean|median):\d{1,9}(\.\d{1,9})?(e-?\d{1,2})?%?")  # what `gate.compare` reads
Tolerance = Annotated[str, worded("median:0.5%, mean:0.01, or both with a space", lambda text: _is_tolerance(text))]
Texts = Annotated[Mapping[str, str], worded("a mapping to texts")]
PASSES = re.compile(r"(\d{1,6} )?K")  # a multiple of the layer's channels
PassCount = Annotated[
    int | str | None,
    worded("a number of passes, K for one per channel, or 10 K for ten", lambda count: _is_pass_count(count)),
]
DATA = {1: "signals", 2: "images", 3: "volumes"}  # by the number of axes of space
Dimensions = Annotated[tuple[Literal[1, 2, 3], ...], worded("a list of 1, 2 and 3", lambda of: set(of) <= {1, 2, 3})]
Bounds = Annotated[
    tuple[float | int | None, ...],
    worded("two numbers, the least value and the largest, or null for none: [0, null]", lambda ends: _is_range(ends)),
]
DIFFERS_ON = ("signals", "volumes", "rows")
Differences = Annotated[
    Mapping[str, str],
    worded(f"a mapping of {', '.join(DIFFERS_ON)} to the reason", lambda reasons: set(reasons) <= set(DIFFERS_ON)),
]
Spec = TypeVar("Spec", "MethodSpec", "MetricSpec", "ValueSpec")


@dataclass(frozen=True)
class MethodSpec:
    """Metadata of a method.

    on_score_scale: whether its contributions are on the score's scale; None: a check on the first trace decides.
    needs_drops: whether it reads `trace.ablation_drops`. reference: a key of conf/references.bib. library: the
    distribution whose code it runs. exempt: {check of the common suite: why the method breaks it by its nature}.
    differs_on: {of what: why}. "signals": the map of a signal differs from that of the image with one row that has the
    same values; "volumes": that of an image from that of the volume with one slice; "rows": the place of an image in
    the batch changes the last bits. changes_under: {"input_shift": why the map changes if a constant is added to all
    pixels, and the first layer's bias takes it back}.
    wins_by_construction: values that its formula makes 0 with the default parameters; a report ranks it in none of
    them. requires: what it reads of the trace that is loaded on demand, of EXTRAS. control: whether it
    explains nothing by design, such as a random map, so that a method should do better. blind: whether its map is the
    same for every image. of_objects: whether it explains one object of a network of boxes or masks alone, and
    of_attention: a vision transformer alone, so that `all` leaves it out. style: the number of its colour and marker in
    every chart, among the controls or the others; None: one that is free in the run.
    spoiling, degree: of a right explanation that was spoiled on purpose the kind, such as "noise", and how far; 0: not
    at all. unspoiled: the entry that is the same explanation unspoiled, and so has degree 0 of this kind.
    computed_from: of a right explanation, a truth, what makes it right; of several forms all.
    dimensions: how many axes of space it is made for: 1, signals; 2, images; 3, volumes. None listed: images alone.
    passes: how many passes of the whole network, forward and backward, explaining an image takes beyond its trace: a
    number, K for one per channel of the layer, or a multiple such as 10 K. None: unknown, or it depends on the network.
    reuse: whether a later command takes the values of a user's own, which depend on nothing but its source, what this
    imports beside it, its parameters and `files`: paths of what it reads.
    """

    title: Name | None = None
    on_score_scale: bool | None = None
    needs_drops: bool = False
    reference: Name | None = None
    note: str | None = None
    library: Name | None = None
    exempt: Texts = field(default_factory=dict)
    differs_on: Differences = field(default_factory=dict)
    changes_under: Texts = field(default_factory=dict)
    wins_by_construction: tuple[Name, ...] = ()
    requires: tuple[Extra, ...] = ()
    control: bool | None = None
    blind: bool | None = None
    of_objects: bool | None = None
    of_attention: bool | None = None
    style: int | None = None
    spoiling: Name | None = None
    degree: Degree = None
    unspoiled: Name | None = None
    computed_from: tuple[Read, ...] = ()
    unstable: str | None = None
    dimensions: Dimensions = ()
    passes: PassCount = None
    reuse: bool | None = None
    files: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The keys that are set, as plain data."""
        return _set_entries(self)


@dataclass(frozen=True)
class Need:
    """A precondition by name. where: {parameter: values}; the need counts if each parameter has one of its values."""

    name: str
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def counts(self, params: Mapping[str, Any]) -> bool:
        """Whether these parameters of the metric make it a need."""
        return all(params[name] in values for name, values in self.where.items())


@dataclass(frozen=True)
class ValueSpec:
    """One value of a metric, where it differs from the metric itself."""

    title: Name | None = None
    unit: Name | None = None
    kind: ValueKind | None = None
    bounds: Bounds = ()
    better: Better | None = None
    tolerance: Tolerance | None = None

    def as_dict(self) -> dict[str, Any]:
        """The keys that are set."""
        return _set_entries(self)


@dataclass(frozen=True)
class MetricSpec:
    """Metadata of a metric.

    kind: what its values are, which decides statistics (docs/statistics.md): "proportion" (0 or 1), "bounded" (shares,
    probabilities, correlations), "ratio" (heavy-tailed where the score is near 0), "squared", "count", "unbounded" (in
    units of its own).
    bounds: the least value and the largest; null for none. A value's own replaces it.
    better: which direction is better. tolerance: of the gate, such as "mean:0.002". of: a metric of each method's
    explanation, or of the layer alone. needs: preconditions, in the order in which they are checked. undefined: the
    status of NaN where all needs are met. values: its values' names, if they aren't the metric's own name alone.
    curves: names of the curves that it returns beside its values. aggregate: dotted path to a function that computes
    values of the whole data set from all images' curves. aggregate_values: their names, if they aren't `values`.
    definition: which definition of the reference the default parameters follow. deviation: where they differ from it.
    reads: "maps" where the metric reads heatmap, raw map and annotations alone: beside a GPU it runs on the CPU.
    computed_from: what it reads beside the map; a truth that is computed from the same can't judge it.
    changes_under: {relation of `testing.relations`: why the values change under it}.
    exempt, differs_on: as a method's.
    reached_by: what reaches the best value and explains nothing, a plural; then no method is best.
    fast_form_of: the metric of which this is a cheaper form: `metric=all` has that one, `metric=all_fast` this one.
    equal_at: parameters of a fast form at which its values are those of the metric with the same parameters.
    passes: as a method's, for an image and one method, without those of the method.
    unstable, dimensions, reuse, files: as a method's.
    """

    title: Name | None = None
    unit: Name | None = None
    kind: ValueKind = "unbounded"
    bounds: Bounds = ()
    better: Better = "none"
    tolerance: Tolerance | None = None
    note: str | None = None
    reference: Name | None = None
    definition: str | None = None
    deviation: str | None = None
    of: Literal["method", "layer"] = "method"
    reads: Literal["maps"] | None = None
    computed_from: tuple[Read, ...] = ()
    changes_under: Texts = field(default_factory=dict)
    exempt: Texts = field(default_factory=dict)
    differs_on: Differences = field(default_factory=dict)
    needs: tuple[Need, ...] = ()
    undefined: Name = NOT_FINITE
    values: Mapping[str, ValueSpec] = field(default_factory=dict)
    curves: Annotated[tuple[Name, ...], worded("a list of names")] = ()
    reached_by: Name | None = None
    fast_form_of: Name | None = None
    equal_at: Mapping[str, Any] = field(default_factory=dict)
    aggregate: Name | None = None
    aggregate_values: Mapping[str, ValueSpec] = field(default_factory=dict)
    unstable: str | None = None
    dimensions: Dimensions = ()
    passes: PassCount = None
    reuse: bool | None = None
    files: tuple[str, ...] = ()

    def about(self, value: str) -> ValueSpec:
        """Return the metadata of one of the metric's values: its own, otherwise the metric's."""
        own = {**self.aggregate_values, **self.values}.get(value, ValueSpec())
        resolved = {name: getattr(own, name) or getattr(self, name) for name in asdict(own)}
        return ValueSpec(**resolved)

    def as_dict(self) -> dict[str, Any]:
        """The keys that are set, as plain data in the form that the YAML file has."""
        plain = _set_entries(self)
        if self.needs:
            plain["needs"] = [
                {need.name: {name: list(values) for name, values in need.where.items()}} if need.where else need.name
                for need in self.needs
            ]
        if self.curves:
            plain["curves"] = list(self.curves)
        for key in ("values", "aggregate_values"):
            if key in plain:
                plain[key] = {name: value.as_dict() for name, value in getattr(self, key).items()}
        return plain


def method_spec(setting: str, config: Mapping[str, Any]) -> MethodSpec:
    """The metadata of a method. setting: where it is set, as "method.mine". Raises BenchError for a wrong entry."""
    spec = _checked(MethodSpec, setting, config)
    if (spec.spoiling is None) != (spec.degree is None):
        raise BenchError(f"{setting} needs both spoiling, the kind, and degree, a number from 0 on, or neither.")
    if spec.unspoiled is not None and spec.spoiling is None:
        raise BenchError(f"{setting}.unspoiled needs spoiling and degree beside it.")
    return spec


def metric_spec(setting: str, config: Mapping[str, Any], params: Iterable[str], needs: Iterable[str]) -> MetricSpec:
    """The metadata of a metric. params: names of its parameters; needs: of all preconditions that there are.

    Raises BenchError for a wrong entry.
    """
    config = dict(config)
    if "needs" in config:
        config["needs"] = _needs(f"{setting}.needs", config["needs"], set(params), set(needs))
    for key in ("values", "aggregate_values"):
        if key in config:
            config[key] = _values(f"{setting}.{key}", config[key])
    if isinstance(config.get("curves"), list):
        config["curves"] = tuple(config["curves"])
    return _checked(MetricSpec, setting, config)


def _values(setting: str, entries: Any) -> dict[str, ValueSpec]:
    if not isinstance(entries, Mapping) or not all(map(is_name, entries)):
        raise BenchError(f"{setting} must be a mapping of value names, not {shown(entries)}.")
    return {
        name: _checked(ValueSpec, f"{setting}.{name}", {} if entry is None else entry)
        for name, entry in entries.items()
    }


def _needs(setting: str, entries: Any, params: set[str], valid: set[str]) -> tuple[Need, ...]:
    """From a list of names, or of mappings {name: {parameter: list of values}}."""
    if not isinstance(entries, list | tuple):
        raise BenchError(f"{setting} must be a list of preconditions, not {shown(entries)}.")
    needs = []
    for entry in entries:
        for name, where in list(entry.items()) if isinstance(entry, Mapping) else [(entry, {})]:
            if not isinstance(name, str) or name not in valid:
                raise unknown(f"precondition ({setting})", name, valid)
            if not isinstance(where, Mapping) or not all(isinstance(values, list | tuple) for values in where.values()):
                expected = "a mapping of parameters to lists of values"
                raise BenchError(f"{setting}: {name} must be {expected}, not {shown(where)}.")
            if absent := [param for param in where if param not in params]:
                raise unknown(f"parameter ({setting}: {name})", absent[0], params)
            needs.append(Need(name, {param: tuple(values) for param, values in where.items()}))
    return tuple(needs)


def _checked(kind: type[Spec], setting: str, config: Mapping[str, Any]) -> Spec:
    """The dataclass from a mapping whose values have been converted. Raises BenchError."""
    hints = get_type_hints(kind, include_extras=True)
    for key in check_group(setting, config):
        if key not in hints:
            raise unknown(f"setting of {setting}", key, hints)
    check_values(config, hints, f"{setting}.")
    return kind(**config)


def pass_count(passes: int | str, channels: int) -> int:
    """Return the number of passes that a spec's `passes` says, for a layer of so many channels.

    >>> pass_count(25, 512), pass_count("K", 512), pass_count("10 K", 512)
    (25, 512, 5120)
    """
    if isinstance(passes, int):
        return passes
    factor = passes.removesuffix("K").strip()
    return int(factor or 1) * channels


def _is_pass_count(count: int | str | None) -> bool:
    if isinstance(count, str):
        return bool(PASSES.fullmatch(count))
    return count is None or count >= 0


def _is_range(bounds: Sequence[float | None]) -> bool:
    if not bounds:
        return True
    if len(bounds) != 2:
        return False
    least, most = bounds
    return least is None or most is None or least < most


def _is_tolerance(text: str) -> bool:
    rules = [RULE.fullmatch(part) for part in text.split()[:3]]
    return 1 <= len(rules) <= 2 and all(rules) and len({rule[1] for rule in rules if rule}) == len(rules)


def _set_entries(spec: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(spec).items() if value is not None and value not in ((), {})}
