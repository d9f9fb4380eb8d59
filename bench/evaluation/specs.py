"""The metadata of methods and metrics: the keys of their YAML files other than `_target_` and
`params`.

`method_spec` and `metric_spec` check the keys. A misspelt or unknown key, or a value of the wrong
kind, raises a BenchError of one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from axiom_bench.columns import NOT_FINITE
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.kinds import (
    Name,
    check_group,
    check_values,
    described_values,
    is_name,
    shorten_for_error,
)

Extra = Literal["interventions", "other_images"]
# loaded in addition to the images if a method or a metric asks for them
EXTRAS = frozenset(get_args(Extra))
Degree = Annotated[
    float | None,
    described_values("0, for not spoiled, or more", lambda value: value is None or value >= 0),
]
CamForm = Literal["model_layer_images_targets", "model_images", "class"]
Better = Literal["lower", "higher", "none"]
ValueKind = Literal["proportion", "bounded", "ratio", "squared", "count", "unbounded"]
Read = Literal[
    "drops",  # ablation drops
    "contributions",  # true contributions
    "effects",  # effects of the image's parts
    "regions",  # boxes and masks
    "score",
    "gradients",
    "perturbed_scores",
    "other_maps",  # re-explanations
]
MAPS = "maps"  # `reads` of a metric that needs neither the model nor the trace
# the form that `gate.compare` reads
RULE = re.compile(r"(mean|median):\d{1,9}(\.\d{1,9})?(e-?\d{1,2})?%?")
Tolerance = Annotated[
    str,
    described_values(
        "median:0.5%, mean:0.01, or both with a space", lambda text: _is_tolerance(text)
    ),
]
Texts = Annotated[Mapping[str, str], described_values("a mapping to texts")]
PASSES = re.compile(r"(\d{1,6} )?K")  # a multiple of the layer's channels
PassCount = Annotated[
    int | str | None,
    described_values(
        "a number of passes, K for one per channel, 10 K for ten, or the name of a parameter that "
        "is a number",
        lambda count: _is_pass_count(count),
    ),
]
DATA = {1: "signals", 2: "images", 3: "volumes"}  # by the number of spatial axes
Dimensions = Annotated[
    tuple[Literal[1, 2, 3], ...],
    described_values("a list of 1, 2 and 3", lambda numbers: set(numbers) <= {1, 2, 3}),
]
Bounds = Annotated[
    tuple[float | int | None, ...],
    described_values(
        "two numbers, the least value and the largest, or null for none: [0, null]",
        lambda ends: _is_range(ends),
    ),
]
DIFFERS_ON = ("signals", "volumes", "rows")
Differences = Annotated[
    Mapping[str, str],
    described_values(
        f"a mapping of {', '.join(DIFFERS_ON)} to the reason",
        lambda reasons: set(reasons) <= set(DIFFERS_ON),
    ),
]
Spec = TypeVar("Spec", "MethodSpec", "MetricSpec", "ValueSpec")


# The fields of a spec stand in the order in which manifest.json has the keys, and in which wrong
# values are reported.


@dataclass(frozen=True)
class MethodSpec:
    """The metadata of a method."""

    # Names, the score's scale and the source
    title: Name | None = None
    """The method's name in tables and figures."""
    on_score_scale: bool | None = None
    """True if the method's contributions are on the score's scale. None: a check on the first trace
    decides."""
    needs_drops: bool = False
    """True if the method reads `trace.ablation_drops`."""
    reference: Name | None = None
    """A key of conf/references.bib."""
    note: str | None = None
    """A remark for readers of the tables."""
    library: Name | None = None
    """The distribution whose code the method runs."""

    # The form of a user's own CAM that doesn't take a trace
    form: CamForm | None = None
    """The form in which a CAM is called that isn't a function of a trace (docs/your-cam.md). None:
    the names of its parameters decide."""

    # Properties that the formula has by its nature
    exempt: Texts = field(default_factory=dict)
    """{check of the common suite: why the method breaks the check by its nature}."""
    differs_on: Differences = field(default_factory=dict)
    """{kind of difference: the reason}. "signals": the map of a signal differs from the map of the
    image with one row that has the same values. "volumes": the map of an image differs from that of
    the volume with one slice. "rows": the position of an image in the batch changes the last bits.
    """
    changes_under: Texts = field(default_factory=dict)
    """{"input_shift": why the map changes if a constant is added to all pixels, and the first
    layer's bias takes it back}."""
    wins_by_construction: tuple[Name, ...] = ()
    """The values that the method's formula makes 0 with the default parameters. A report ranks the
    method in none of them."""

    # The data and networks that the method needs, and its place in tables and charts
    requires: tuple[Extra, ...] = ()
    """The data of EXTRAS that the method reads from the trace. They are loaded only on demand."""
    control: bool | None = None
    """True if the method explains nothing by design, such as a random map. Other methods should do
    better."""
    blind: bool | None = None
    """True if the map is the same for every image."""
    of_objects: bool | None = None
    """True if the method explains only one object of a network of boxes or masks. `all` leaves such
    a method out."""
    of_attention: bool | None = None
    """True if the method explains only vision transformers. `all` leaves such a method out."""
    style: int | None = None
    """The number of the method's colour and marker in every chart, among the controls or among the
    other methods. If it is None, or another method of the run has the same number, the method's
    name decides them."""

    # Explanations that are right, or spoiled on purpose
    spoiling: Name | None = None
    """The kind of spoiling, such as "noise", of a right explanation that was spoiled on purpose."""
    degree: Degree = None
    """The extent of this spoiling. 0: not spoiled at all."""
    unspoiled: Name | None = None
    """The entry that is the same explanation unspoiled, which has degree 0 of this kind."""
    computed_from: tuple[Read, ...] = ()
    """The data that make a right explanation, a truth, right. If the data have several forms, all
    of them."""

    # Stability, supported data and cost
    unstable: str | None = None
    """The reason why answers aren't of each image alone, or not the same again."""
    dimensions: Dimensions = ()
    """The numbers of spatial axes that the method is made for: 1 (signals), 2 (images), 3
    (volumes). Empty: images."""
    passes: PassCount = None
    """The number of passes of the whole network, forward and backward, that explaining an image
    takes in addition to its trace: a number, K for one per channel of the layer, or a multiple such
    as 10 K. A YAML file may name the parameter that is the number. None: the number is unknown, or
    it depends on the network or the image."""
    shares_passes: bool | None = None
    """True if the rows of an image, one for each of its labels, share the method's passes."""

    # Reuse of a user's own values
    reuse: bool | None = None
    """True if a later command reuses the values of a user's own method. The values must depend only
    on its source, the modules next to it that the source imports, its parameters and `files`."""
    files: tuple[str, ...] = ()
    """The paths of the data that the method reads."""

    def as_dict(self) -> dict[str, object]:
        """Return the keys that are set, as plain data."""
        return _set_entries(self)


@dataclass(frozen=True)
class Need:
    """A precondition of a metric, which may apply only with some parameters."""

    name: str
    """The precondition's name."""
    where: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    """{parameter: values}. The need counts if each of these parameters has one of its values."""

    def counts(self, params: Mapping[str, object]) -> bool:
        """Return True if the precondition applies with these parameters of the metric."""
        return all(params[name] in values for name, values in self.where.items())

    def as_entry(self) -> str | dict[str, dict[str, list[object]]]:
        """Return the need in the form that the YAML file has: the name, or {name: {parameter: list
        of values}}.
        """
        if not self.where:
            return self.name
        return {self.name: {parameter: list(values) for parameter, values in self.where.items()}}


@dataclass(frozen=True)
class ValueSpec:
    """The metadata of one value of a metric that differ from those of the metric. The keys are
    explained there.
    """

    title: Name | None = None
    unit: Name | None = None
    kind: ValueKind | None = None
    bounds: Bounds = ()
    better: Better | None = None
    tolerance: Tolerance | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the keys that are set, as plain data."""
        return _set_entries(self)


@dataclass(frozen=True)
class MetricSpec:
    """The metadata of a metric."""

    # The values
    title: Name | None = None
    """The metric's name in tables and figures."""
    unit: Name | None = None
    """The unit of the values."""
    kind: ValueKind = "unbounded"
    """The kind of values, which decides the statistics (docs/statistics.md): "proportion" (0 or 1),
    "bounded" (shares, probabilities, correlations), "ratio" (heavy-tailed where the score is near
    0), "squared", "count" or "unbounded" (in units of its own)."""
    bounds: Bounds = ()
    """The least value and the largest; null for none. A value's own bounds replace these."""
    better: Better = "none"
    """The direction that is better."""
    tolerance: Tolerance | None = None
    """The tolerance of the gate, such as "mean:0.002"."""

    # The source
    note: str | None = None
    """A remark for readers of the tables."""
    reference: Name | None = None
    """A key of conf/references.bib."""
    definition: str | None = None
    """The definition of the reference that the default parameters follow."""
    deviation: str | None = None
    """The difference between the default parameters and this definition."""

    # The subject and the data that the metric reads
    of: Literal["method", "layer"] = "method"
    """The subject: each method's explanation, or only the layer."""
    reads: Literal["maps"] | None = None
    """Set to "maps" if the metric reads only heatmap, raw map and annotations. Next to a GPU it
    runs on the CPU."""
    computed_from: tuple[Read, ...] = ()
    """The data that the metric reads in addition to the map. A truth that is computed from the same
    can't judge it."""

    # Properties that the formula has by its nature
    changes_under: Texts = field(default_factory=dict)
    """{relation of `testing.relations`: why the values change under it}."""
    exempt: Texts = field(default_factory=dict)
    """{check of the common suite: why the metric breaks the check by its nature}."""
    differs_on: Differences = field(default_factory=dict)
    """See `MethodSpec`."""

    # Preconditions, and the names of values and curves
    needs: tuple[Need, ...] = ()
    """The preconditions, in the order in which they are checked."""
    undefined: Name = NOT_FINITE
    """The status of NaN if all needs are met."""
    values: Mapping[str, ValueSpec] = field(default_factory=dict)
    """The names of the metric's values. Empty: there is one value, which has the metric's name."""
    curves: Annotated[tuple[Name, ...], described_values("a list of names")] = ()
    """The names of the curves that the metric returns in addition to its values."""

    # Comparisons
    reached_by: Name | None = None
    """A plural noun for methods that reach the best value and explain nothing. If it is set, no
    method is best."""
    fast_form_of: Name | None = None
    """The metric of which this is a cheaper form. `metric=all` contains that metric,
    `metric=all_fast` this one."""
    equal_at: Mapping[str, object] = field(default_factory=dict)
    """The parameters with which a fast form has the values of the metric with the same parameters.
    """

    # Values of the whole data set
    aggregate: Name | None = None
    """The dotted path of a function that computes values of the whole data set from the curves of
    all images."""
    aggregate_values: Mapping[str, ValueSpec] = field(default_factory=dict)
    """The names of these values. Empty: the names in `values`."""

    # Stability, supported data and cost
    unstable: str | None = None
    """See `MethodSpec`."""
    dimensions: Dimensions = ()
    """See `MethodSpec`."""
    passes: PassCount = None
    """See `MethodSpec`. This number is for an image and one method, without the passes of the
    method."""

    # Reuse of a user's own values
    reuse: bool | None = None
    """See `MethodSpec`."""
    files: tuple[str, ...] = ()
    """See `MethodSpec`."""

    def about(self, value: str) -> ValueSpec:
        """Return the metadata of one of the metric's values: its own, otherwise the metric's."""
        value_specs = {**self.aggregate_values, **self.values}
        own = value_specs.get(value, ValueSpec())
        resolved = {name: getattr(own, name) or getattr(self, name) for name in asdict(own)}
        return ValueSpec(**resolved)

    def as_dict(self) -> dict[str, object]:
        """Return the keys that are set, as plain data in the form that the YAML file has."""
        plain = _set_entries(self)
        if self.needs:
            plain["needs"] = [need.as_entry() for need in self.needs]
        if self.curves:
            plain["curves"] = list(self.curves)
        if self.values:
            plain["values"] = {name: value.as_dict() for name, value in self.values.items()}
        if self.aggregate_values:
            plain["aggregate_values"] = {
                name: value.as_dict() for name, value in self.aggregate_values.items()
            }
        return plain


def method_spec(setting: str, config: Mapping[str, object]) -> MethodSpec:
    """Return the checked metadata of a method, or raise BenchError. setting: the key, such as
    method.mine.
    """
    spec = _checked(MethodSpec, setting, config)
    if (spec.spoiling is None) != (spec.degree is None):
        raise BenchError(
            f"{setting} needs both spoiling, the kind, and degree, a number from 0 on, or neither."
        )
    if spec.unspoiled is not None and spec.spoiling is None:
        raise BenchError(f"{setting}.unspoiled is set, so spoiling and degree are needed, too.")
    return spec


def metric_spec(
    setting: str, config: Mapping[str, object], params: Iterable[str], needs: Iterable[str]
) -> MetricSpec:
    """Return the checked metadata of a metric, or raise BenchError.

    setting: the key, such as metric.mine. params: the names of the metric's parameters. needs: the
    names of all preconditions that exist.
    """
    config = dict(config)
    if "needs" in config:
        config["needs"] = _needs(f"{setting}.needs", config["needs"], set(params), set(needs))
    for key in ("values", "aggregate_values"):
        if key in config:
            config[key] = _values(f"{setting}.{key}", config[key])
    curves = config.get("curves")
    if isinstance(curves, list):
        config["curves"] = tuple(curves)
    return _checked(MetricSpec, setting, config)


def _values(setting: str, entries: object) -> dict[str, ValueSpec]:
    if not isinstance(entries, Mapping) or not all(map(is_name, entries)):
        raise BenchError(
            f"{setting} must be a mapping of value names, not {shorten_for_error(entries)}."
        )
    values = {}
    for name, entry in entries.items():
        values[name] = _checked(ValueSpec, f"{setting}.{name}", {} if entry is None else entry)
    return values


def _needs(setting: str, entries: object, params: set[str], valid: set[str]) -> tuple[Need, ...]:
    """Return the needs of a list, whose entries are names or mappings {name: {parameter: list of
    values}}.
    """
    if not isinstance(entries, list | tuple):
        raise BenchError(
            f"{setting} must be a list of preconditions, not {shorten_for_error(entries)}."
        )
    needs = []
    for entry in entries:
        named_conditions = entry.items() if isinstance(entry, Mapping) else [(entry, {})]
        # a need that is misspelt would never be checked, and its values would look defined
        for name, where in named_conditions:
            if not isinstance(name, str) or name not in valid:
                raise unknown_name(f"precondition ({setting})", name, valid)
            if not isinstance(where, Mapping) or not all(
                isinstance(values, list | tuple) for values in where.values()
            ):
                expected = "a mapping of parameters to lists of values"
                raise BenchError(
                    f"{setting}: {name} must be {expected}, not {shorten_for_error(where)}."
                )
            for parameter in where:
                if parameter not in params:
                    raise unknown_name(f"parameter ({setting}: {name})", parameter, params)
            needs.append(
                Need(name, {parameter: tuple(values) for parameter, values in where.items()})
            )
    return tuple(needs)


def _checked(kind: type[Spec], setting: str, config: Mapping[str, Any]) -> Spec:
    """Return the dataclass of a mapping whose values have their final types, or raise BenchError
    for an unknown key or a wrong value.
    """
    hints = get_type_hints(kind, include_extras=True)
    for key in check_group(setting, config):
        if key not in hints:
            raise unknown_name("setting", key, hints, place=f"of {setting}")
    check_values(config, hints, f"{setting}.")
    return kind(**config)


def pass_count(passes: int | str, channels: int) -> int:
    """Return the number of passes that `passes` of a spec means for a layer with this many
    channels.

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
    least, largest = bounds
    return least is None or largest is None or least < largest


def _is_tolerance(text: str) -> bool:
    rules = [RULE.fullmatch(part) for part in text.split()[:3]]
    statistics = {rule[1] for rule in rules if rule}
    return 1 <= len(rules) <= 2 and all(rules) and len(statistics) == len(rules)


def _set_entries(spec: MethodSpec | MetricSpec | ValueSpec) -> dict[str, object]:
    """Return the fields of a spec that aren't None or empty, for the manifest."""
    return {
        key: value
        for key, value in asdict(spec).items()
        if value is not None and value not in ((), {})
    }
