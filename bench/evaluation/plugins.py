"""Methods and metrics are found in conf/: the folder is the registry, one YAML file an entry.

A plug-in's YAML holds `_target_` (a dotted path to a function) and `params` (its keyword arguments); every other key is
metadata. A user's own entry may also come from the command line: `+method.mine._target_=my_module.my_cam`.
"""

from __future__ import annotations

import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args

from axiom_bench import kinds
from axiom_bench.environment import conf_folder as conf_folder
from axiom_bench.environment import entry_names, read_yaml
from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation.specs import DATA, EXTRAS, MethodSpec, MetricSpec, method_spec, metric_spec

Spec = TypeVar("Spec", bound=MethodSpec | MetricSpec)

PEERS = "peers"  # the group of other libraries' methods, whose names are method@library
SPOILED = "spoiled"  # the group of methods that are right, or wrong by a known degree
ALL = "all"  # conf/<kind>/all.yaml chooses all entries, it isn't one
ALL_FAST = "all_fast"  # conf/metric/all_fast.yaml likewise: those with a fast form in that form
TARGET = {"_target_": Annotated[Any, kinds.worded("the dotted path of a function, as my_module.my_cam", kinds.is_path)]}
NEEDS_DROPS = "nonzero_drops"  # the need of every metric that reads ablation drops
NOT_PARAMS = ("trace", "explanation", "model", "layer", "images", "targets")  # which other libraries' functions take
PACKAGE = __name__.partition(".")[0]
ENGINE = str(Path(__file__).parent)  # frames in this folder are skipped when an error is located


@dataclass(frozen=True)
class Plugin(Generic[Spec]):
    """A named function with its keyword arguments bound and its metadata beside it.

    target: the dotted path of the function. params: its keyword arguments, as plain data. spec: the metadata.
    inner: the method that this one wraps, which a parameter names. bare: a callable without metadata, as in a notebook;
    the values of such a metric may have any names that no other metric of the run has.
    """

    name: str
    target: str
    call: Callable[..., Any]
    spec: Spec
    params: Mapping[str, Any] = field(default_factory=dict)
    inner: Plugin[MethodSpec] | None = None
    bare: bool = False

    @property
    def is_foreign(self) -> bool:
        """Whether it, or the method that it wraps, isn't the suite's own, which its tests prove."""
        return not self.target.startswith(f"{PACKAGE}.") or (self.inner is not None and self.inner.is_foreign)

    def __call__(self, argument: Any) -> Any:
        """A method's weights or Map of a trace, or a metric's values of an explanation.

        What a metric asks the model is answered at once. An error of the function gets a note with its name and place.
        Raises BenchError for maps of so many axes of space as it isn't made for.
        """
        dimensions = getattr(argument, "dimensions", None)  # the curves that an aggregate takes have none
        if dimensions is not None and (refusal := self.refusal(dimensions)) is not None:
            raise BenchError(refusal)
        from axiom_bench.cutting.passes import full_precision  # here, because it imports torch
        from axiom_bench.evaluation.answers import answer_alone

        with full_precision(), self.noting_errors():
            answer = self.call(argument)
        return answer_alone(self, argument, answer) if inspect.isgenerator(answer) else answer

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Adds a note with the plug-in's name and the line to any error of the function that isn't a BenchError.

        A plug-in that exits is an error as well: the run isn't its own to end. A user's own has his default device.
        """
        from axiom_bench.cutting.passes import users_device

        try:
            with users_device() if self.is_foreign else nullcontext():
                yield
        except BenchError:
            raise
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)
            frame = next((frame for frame in frames if not frame.filename.startswith(ENGINE)), frames[-1])
            raised = RuntimeError(f"sys.exit({error.code!r})") if isinstance(error, SystemExit) else error
            raised.add_note(f"raised by {self.name!r} ({self.target}) at {frame.filename}:{frame.lineno}")
            if raised is error:
                raise
            raise raised from error

    @property
    def dimensions(self) -> set[int]:
        """How many axes of space it is made for, with the method that it wraps."""
        own: set[int] = set(self.spec.dimensions or (2,))
        return own & self.inner.dimensions if self.inner else own

    def refusal(self, dimensions: int) -> str | None:
        """Why it can't be called where maps have so many axes of space; None where it can."""
        if dimensions in self.dimensions:
            return None
        made_for = " and ".join(DATA[each] for each in sorted(self.dimensions)) or "other data than what it wraps"
        mended = f"; where it holds for them too, say so by dimensions: [{dimensions}]" if self.is_foreign else ""
        return f"{self.name!r} is made for {made_for}, and these are {DATA[dimensions]}{mended}."

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.call.func if isinstance(self.call, partial) else self.call) or "").split("\n")[0]

    def as_dict(self) -> dict[str, Any]:
        """Target, params and the metadata that is set, as plain data."""
        return {"target": self.target, "params": dict(self.params), **self.spec.as_dict()}


def names(kind: str) -> list[str]:
    """All entries of conf/<kind>/, sorted. kind: "method", "metric", or a group of methods beside
    `method=all`: "peers", other libraries' methods, or "spoiled"."""
    if kind == SPOILED:
        return sorted(_spoiled(conf_folder()))
    return [name for name in entry_names(kind) if name not in (ALL, ALL_FAST)]


def by_degree(name: str, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return one entry per degree of a kind of spoiling, by name.

    >>> entries = by_degree("blur", {"title": "Blurred", "params": {"sigma": 2}, "degrees": [0.25, 1]})
    >>> list(entries), entries["blur_25"]["title"], entries["blur_25"]["params"]
    (['blur_25', 'blur_100'], 'Blurred, 25 %', {'degree': 0.25, 'sigma': 2})
    """
    entries = {}
    for degree in about["degrees"]:
        percent = f"{100 * degree:g}"
        entry = {key: value for key, value in about.items() if key != "degrees"}
        entry["params"] = {"degree": degree, **(about.get("params") or {})}
        entry["title"] = f"{about['title']}, {percent} %"
        entry["spoiling"] = name
        entry["degree"] = degree
        entries[f"{name}_{percent}"] = entry
    return entries


@cache
def _spoiled(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return the entries of conf/spoiled/ by name; kinds of spoiling have one for each of their degrees."""
    entries: dict[str, Mapping[str, Any]] = {}
    for name in entry_names(SPOILED):
        if name != ALL:
            about = read_yaml(folder / SPOILED / f"{name}.yaml")[name]
            entries |= by_degree(name, about) if "degrees" in about else {name: about}
    return entries


def left_out_of_all(config: Any) -> bool:
    """Whether `all` doesn't choose an entry: one that has a parameter without a default, `???`, or is of objects or of
    attentions alone."""
    about = config if isinstance(config, Mapping) else {}
    params = about.get("params")
    is_of_some = about.get("of_objects") or about.get("of_attention")
    return bool(is_of_some) or (isinstance(params, Mapping) and "???" in params.values())


def names_of_all(kind: str) -> list[str]:
    """The entries of conf/<kind>/ that `all` chooses, sorted."""
    return [name for name in names(kind) if not left_out_of_all(_config(kind, name))]


def matching(kind: str, text: str) -> str:
    """The entry that a text names: by its name or printed title, without regard to case, spaces and signs.

    The text itself where it is a name already, and where it is no entry's, or several.

    >>> [matching("method", text) for text in ("GradCAM++", "x-grad-cam", "Grad-CAM", "grad_cam", "MyCAM")]
    ['grad_cam_pp', 'xgrad_cam', 'grad_cam', 'grad_cam', 'MyCAM']
    """
    return text if text in names(kind) else _by_letters(kind).get(_letters(text), text)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text.casefold().replace("+", "p"))


@cache
def _by_letters(kind: str) -> dict[str, str]:
    entries: dict[str, set[str]] = {}
    for name in names(kind):
        for text in (name, str(_config(kind, name).get("title"))):
            entries.setdefault(_letters(text), set()).add(name)
    return {letters: of_text.pop() for letters, of_text in entries.items() if len(of_text) == 1}


@cache
def load(kind: str, name: str) -> Plugin:
    """The entry conf/<kind>/<name>.yaml, of a method@library conf/peers/<name>.yaml, or a method of conf/spoiled/; the
    name may be written as `matching` reads it. Raises BenchError, with the nearest names, where there is none.
    """
    name = matching(kind, name) if kind in ("method", "metric") else name
    return from_config(kind, name, _config(kind, name))


def with_params(kind: str, name: str, params: Mapping[str, Any]) -> Plugin:
    """The entry of that name with other values of some parameters. Raises BenchError as `load` and `from_config` do."""
    config = {**_config(kind, name)}
    if params:
        config.pop("passes", None)  # which are of the parameters in the YAML
    return from_config(kind, name, {**config, "params": {**(config.get("params") or {}), **params}})


def _config(kind: str, name: str) -> Mapping[str, Any]:
    folder = kind
    if kind == "method":
        if name in (spoiled := _spoiled(conf_folder())):
            return spoiled[name]
        folder = PEERS if "@" in name else kind
    path = conf_folder() / folder / f"{name}.yaml"
    if name not in names(folder):  # and not whether there is such a file: a name may be too long for one
        raise unknown(kind, name, names(folder))
    config: Mapping[str, Any] = read_yaml(path)[name]
    return config


def from_config(kind: str, name: str, config: Mapping[str, Any]) -> Plugin:
    """A plug-in from its mapping. Raises BenchError for a target that can't be imported or a wrong parameter."""
    if not kinds.is_name(name):
        raise BenchError(f"A {kind} can't be called {kinds.shown(name)}: that is no name; give it one of letters.")
    if not isinstance(config, Mapping):
        raise BenchError(f"The {kind} {name!r} is {kinds.shown(config)}; set {kind}.{name}._target_=module.function.")
    about = dict(config)
    target = about.pop("_target_", None)
    params = about.pop("params", None)
    if target is None:
        raise BenchError(f"The {kind} {name!r} has no _target_; set {kind}.{name}._target_=module.function.")
    kinds.check_values({"_target_": target}, TARGET, f"{kind}.{name}.")
    params = kinds.check_group(f"{kind}.{name}.params", {} if params is None else params)
    function = imported(kind, name, target)
    wrapped = _wrapped(function, params)
    arguments = {**params, **wrapped}
    _check_arguments(kind, name, function, arguments, is_configured=True)
    kinds.check(function, arguments, f"{kind}.{name}.params.")
    spec = _spec(kind, name, function, params, about)
    return Plugin(name, target, partial(function, **arguments), spec, dict(params), next(iter(wrapped.values()), None))


def _check_arguments(
    kind: str,
    name: str,
    function: Callable[..., Any],
    params: Mapping[str, Any],
    is_configured: bool = False,
) -> None:
    """Raise BenchError if a function can't be called with one trace or explanation and these parameters."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a compiled function has no signature to check
        return
    try:
        signature.bind(None, **params)
    except TypeError as error:
        if "unexpected keyword" in str(error):
            hint = f"they are set by {kind}.{name}.params.KEY=VALUE"
            raise BenchError(f"The {kind} {name!r} can't take its params: {error}; {hint}.") from error
        argument = "explanation, which has .heatmap, .images and .trace"
        if kind == "method":
            argument = "trace, which has .images, .activations and .gradients"
        definition = f"{getattr(function, '__name__', name)}({', '.join(signature.parameters)})"
        missing = re.search(r"missing a required .*argument: '(\w+)'", str(error))
        setting = ""
        if is_configured and missing and missing[1] not in NOT_PARAMS:
            setting = f", or set +{kind}.{name}.params.{missing[1]}=VALUE"
        raise BenchError(
            f"The {kind} {name!r} is defined as {definition}, and a {kind} takes one argument, the {argument}; give "
            f"other parameters a default value{setting}."
        ) from error


def _wrapped(function: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Plugin[MethodSpec]]:
    """The methods that a wrapper's parameters name, set or by default: parameters annotated as a `Method`."""
    from axiom_bench.explanation.explanation import Method  # here, because it imports torch

    wrapped = {}
    for entry in kinds.signature(function).values():
        value = params.get(entry.name, entry.default)
        if Method in (entry.annotation, *get_args(entry.annotation)) and (isinstance(value, str) or callable(value)):
            wrapped[entry.name] = of("method", value)
    return wrapped


def _spec(
    kind: str, name: str, function: Callable[..., Any], params: Mapping[str, Any], config: dict[str, Any]
) -> MethodSpec | MetricSpec:
    """The metadata of an entry with this function and params. Raises BenchError."""
    config.setdefault("dimensions", _declared(function))
    if kind == "method":
        return method_spec(f"method.{name}", config)
    from axiom_bench.evaluation.preconditions import PRECONDITIONS  # here, because it imports torch

    params = _with_defaults(function, params)
    for key in ("values", "aggregate_values"):
        if isinstance(config.get(key), str):
            config[key] = _values(name, key, config[key], params)
    return metric_spec(f"metric.{name}", config, params, PRECONDITIONS)


def _with_defaults(function: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, with the function's defaults for others; without, of a compiled one that has no signature."""
    try:
        entries = inspect.signature(function).parameters.values()
    except ValueError:
        return dict(params)
    return {**{entry.name: entry.default for entry in entries if entry.default is not entry.empty}, **params}


def accepted_params(function: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a function accepts."""
    accepted = inspect.signature(function).parameters
    return {key: value for key, value in params.items() if key in accepted}


def _values(metric: str, key: str, target: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A setting's entries where these depend on the parameters: the result of the function at a dotted path."""
    function = imported("metric", metric, target)
    try:
        listed = function(**accepted_params(function, params))
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise BenchError(f"metric.{metric}.{key}: {target!r} raised {type(error).__name__}: {error}.") from error
    if not isinstance(listed, Mapping):
        raise BenchError(
            f"metric.{metric}.{key}: {target!r} must return a dict of the values' names, not {kinds.shown(listed)}."
        )
    return listed


def value_names(metric: Plugin[MetricSpec]) -> tuple[str, ...]:
    """Names of the metric's values of an image: the keys of its spec's `values`, or else its own name."""
    return tuple(metric.spec.values) or (metric.name,)


def whole_set_value_names(metric: Plugin[MetricSpec]) -> tuple[str, ...]:
    """Names of its values of a whole data set: `aggregate_values`, else its value names; () without an aggregate."""
    if metric.spec.aggregate is None:
        return ()
    return tuple(metric.spec.aggregate_values) or value_names(metric)


def needs_of(metric: Plugin[MetricSpec]) -> list[str]:
    """The names of the preconditions that apply at the metric's parameters, in order."""
    function = metric.call.func if isinstance(metric.call, partial) else metric.call
    params = _with_defaults(function, metric.params) if metric.spec.needs else {}
    return [need.name for need in metric.spec.needs if need.counts(params)]


def required(entries: Iterable[Plugin]) -> frozenset[str]:
    """What must be loaded beside the images for these methods and metrics, of EXTRAS: what methods require, also those
    that they wrap, and what metrics need."""
    names: set[str] = set()
    for entry in entries:
        if isinstance(entry.spec, MethodSpec):
            names.update(entry.spec.requires, required([entry.inner] if entry.inner else []))
        else:
            names.update(EXTRAS.intersection(needs_of(entry)))
    return frozenset(names)


def of(kind: str, entry: str | Callable[..., Any]) -> Plugin:
    """A plug-in from a name, from a dotted path to a function, or from a user's own callable, which has no metadata."""
    if isinstance(entry, Plugin):
        return entry
    if isinstance(entry, str):
        return load(kind, entry) if "." not in entry else from_config(kind, entry, {"_target_": entry})
    if not callable(entry):
        raise BenchError(f"A {kind} is a name or a callable, not {entry!r}.")
    name = getattr(entry, "__name__", type(entry).__name__)
    _check_arguments(kind, name, entry, {})
    target = f"{getattr(entry, '__module__', '')}.{name}"
    is_own = target.startswith(f"{PACKAGE}.") and name in names(kind)  # as a wrapper's default
    dimensions: Any = load(kind, name).spec.dimensions if is_own else _declared(entry)
    spec = (MethodSpec if kind == "method" else MetricSpec)(dimensions=dimensions)
    return Plugin(name, target, entry, spec, bare=True)


def _declared(function: Callable[..., Any]) -> tuple[int, ...]:
    """What a function says of itself where no YAML file does: its attribute `dimensions`."""
    return tuple(getattr(function, "dimensions", ()))


def imported(kind: str, name: str, target: str) -> Callable[..., Any]:
    """The function at a dotted path, of the entry of that kind and name. Raises BenchError, which names the entry."""
    module_name, _, attribute = target.rpartition(".")
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except BenchError:  # has a message of its own
        raise
    except (Exception, SystemExit) as error:  # importing runs the user's code, which may raise anything
        raise BenchError(
            f"The {kind} {name!r} names {kinds.shown(target)}, which can't be imported ({type(error).__name__}: "
            f"{error}); give a dotted path to a function, with its folder on PYTHONPATH or the current folder."
        ) from error
    if not callable(function):
        raise BenchError(f"The {kind} {name!r} names {target!r}, which isn't callable.")
    return function
