"""The registry of methods and metrics: each entry is one YAML file in conf/, which this module
turns into a `Plugin`, a function with its parameters bound and its metadata.

A YAML file holds `_target_` (the dotted path to a function) and `params` (the function's keyword
arguments). Every other key is metadata, which specs.py defines. You can also add an entry of your
own on the command line: `+method.mine._target_=my_module.my_cam`. A method's function takes a
trace, or it is a CAM implementation of any form that cam_forms.py knows.

`names` lists the entries and `load` returns one by its name. `from_config` builds a plug-in from a
mapping. `plugin_for` also accepts the dotted path of a function, or a callable.
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
from axiom_bench.environment import choice_names, entry_names, letters, read_yaml
from axiom_bench.environment import conf_folder as conf_folder
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.other_names import unknown_plugin
from axiom_bench.evaluation.specs import (
    DATA,
    EXTRAS,
    MethodSpec,
    MetricSpec,
    method_spec,
    metric_spec,
)

Entry = Mapping[str, Any]
"""The content of a method's or metric's YAML file, which isn't checked yet."""
Spec = TypeVar("Spec", bound=MethodSpec | MetricSpec, covariant=True)

PEERS = "peers"  # the group of other libraries' methods, whose names are method@library
SPOILED = "spoiled"  # the group of methods that are right, or wrong by a known degree
ALL = "all"  # conf/<kind>/all.yaml isn't an entry: it chooses all entries
# conf/metric/all_fast.yaml is no entry either: it is `all` with some metrics in a fast form
ALL_FAST = "all_fast"
TARGET = {
    "_target_": Annotated[
        Any,
        kinds.described_values("the dotted path of a function, as my_module.my_cam", kinds.is_path),
    ]
}
NEEDS_DROPS = "nonzero_drops"  # the need of every metric that reads ablation drops
# Arguments that functions of other libraries often take. No setting could give them a value, so no
# message suggests it.
NOT_PARAMS = ("trace", "explanation", "model", "layer", "images", "targets")
PACKAGE = __name__.partition(".")[0]
# These modules import torch, and are no part of the code that decides the values of other methods.
CAM_METHOD = f"{PACKAGE}.evaluation.cam_method"
USER_CODE = f"{PACKAGE}.models.user_code"
ENGINE = str(Path(__file__).parent)  # frames in this folder are skipped when an error is located


@dataclass(frozen=True)
class Plugin(Generic[Spec]):
    """A method or a metric: a function with its keyword arguments bound, its name and its
    metadata.
    """

    name: str
    target: str
    """The dotted path of the function."""
    call: Callable[..., Any]
    """The function with `params` bound. It takes one argument: a trace, or for a metric an
    explanation."""
    spec: Spec
    """The metadata."""
    params: Mapping[str, object] = field(default_factory=dict)
    """The keyword arguments of the function, as plain data."""
    inner: Plugin[MethodSpec] | None = None
    """The method that this one wraps, which one of its parameters names."""
    bare: bool = False
    """True for a callable without metadata, such as a function in a notebook. The values of a bare
    metric may have any names that no other metric of the run has."""

    @property
    def is_foreign(self) -> bool:
        """True if the plug-in, or the method that it wraps, isn't this project's own. Its own
        are proved by tests.
        """
        return not self.target.startswith(f"{PACKAGE}.") or (
            self.inner is not None and self.inner.is_foreign
        )

    @property
    def function(self) -> Callable[..., object]:
        """The function without its bound arguments."""
        function = self.call.func if isinstance(self.call, partial) else self.call
        # the call of a CAM implementation names it
        wrapped: Callable[..., object] = getattr(function, "implementation", function)
        return wrapped

    def __call__(self, argument: Any) -> Any:
        """Return a method's weights or Map of a trace, or a metric's values of an explanation.

        If a metric asks the model, its requests are answered at once, for this metric only. An
        error of the function gets a note with the plug-in's name and the line.

        Raises:
            BenchError: if the plug-in isn't made for maps with this number of spatial axes.
        """
        # an aggregate's argument, its curves, has none
        dimensions = getattr(argument, "dimensions", None)
        if dimensions is not None:
            refusal = self.refusal(dimensions)
            if refusal is not None:
                raise BenchError(refusal)
        from axiom_bench.cutting.passes import full_precision  # here, because it imports torch
        from axiom_bench.evaluation.answers import answer_alone

        with full_precision(), self.noting_errors():
            answer = self.call(argument)
        if inspect.isgenerator(answer):
            return answer_alone(self, argument, answer)
        return answer

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Add a note with the plug-in's name and the line to any error of the function that isn't a
        BenchError.

        A plug-in that calls sys.exit raises an error as well, because it mustn't end the run. A
        user's own plug-in runs with the user's default device.
        """
        from axiom_bench.cutting.passes import users_device  # here, because it imports torch

        try:
            with users_device() if self.is_foreign else nullcontext():
                yield
        except BenchError:
            raise
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)
            frames_outside = [frame for frame in frames if not frame.filename.startswith(ENGINE)]
            frame = frames_outside[0] if frames_outside else frames[-1]
            raised: BaseException = error
            if isinstance(error, SystemExit):
                raised = RuntimeError(f"sys.exit({error.code!r})")
            raised.add_note(
                f"raised by {self.name!r} ({self.target}) at {frame.filename}:{frame.lineno}"
            )
            if raised is error:
                raise
            raise raised from error

    @property
    def dimensions(self) -> set[int]:
        """The numbers of spatial axes that both the plug-in and the method that it wraps are made
        for.
        """
        own: set[int] = set(self.spec.dimensions or (2,))
        return own & self.inner.dimensions if self.inner else own

    def refusal(self, dimensions: int) -> str | None:
        """Return why the plug-in can't explain or measure maps with this many spatial axes; None if
        it can.
        """
        if dimensions in self.dimensions:
            return None
        supported_data = [DATA[number] for number in sorted(self.dimensions)]
        made_for = " and ".join(supported_data) or "other data than what it wraps"
        hint = (
            f"; if it also works for them, set dimensions: [{dimensions}]"
            if self.is_foreign
            else ""
        )
        return f"{self.name!r} is made for {made_for}, and these are {DATA[dimensions]}{hint}."

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        docstring = inspect.getdoc(self.function) or ""
        return docstring.split("\n")[0]

    def as_dict(self) -> dict[str, object]:
        """Return target, params and the metadata that is set, as plain data."""
        return {"target": self.target, "params": dict(self.params), **self.spec.as_dict()}


Method = Plugin[MethodSpec]
Metric = Plugin[MetricSpec]
# A plug-in whose kind ("method" or "metric") is known only when the code runs.
AnyPlugin = Plugin[Any]


def names(kind: str) -> list[str]:
    """Return the names of all entries of conf/<kind>/, sorted.

    kind: "method", "metric", or a group of methods that `method=all` doesn't contain. The groups
    are "peers", methods of other libraries, and "spoiled".
    """
    if kind == SPOILED:
        return sorted(_spoiled_entries(conf_folder()))
    choices = choice_names()
    return [name for name in entry_names(kind) if name not in choices]


def by_degree(name: str, config: Mapping[str, Any]) -> dict[str, Entry]:
    """Return one entry per degree of a kind of spoiling, by name.

    A judge of metrics needs explanations that are wrong by a known degree, and one YAML file then
    suffices for all degrees.

    >>> config = {"title": "Blurred", "params": {"sigma": 2}, "degrees": [0.25, 1]}
    >>> entries = by_degree("blur", config)
    >>> list(entries), entries["blur_25"]["title"], entries["blur_25"]["params"]
    (['blur_25', 'blur_100'], 'Blurred, 25 %', {'degree': 0.25, 'sigma': 2})
    """
    entries: dict[str, Entry] = {}
    for degree in config["degrees"]:
        percent = f"{100 * degree:g}"
        entry = {key: value for key, value in config.items() if key != "degrees"}
        entry["params"] = {"degree": degree, **(config.get("params") or {})}
        entry["title"] = f"{config['title']}, {percent} %"
        entry["spoiling"] = name
        entry["degree"] = degree
        entries[f"{name}_{percent}"] = entry
    return entries


@cache
def _spoiled_entries(folder: Path) -> dict[str, Entry]:
    """Return the entries of conf/spoiled/ by name; a file with several degrees holds one entry for
    each of them.
    """
    entries: dict[str, Entry] = {}
    for name in entry_names(SPOILED):
        if name == ALL:
            continue
        config = read_yaml(folder / SPOILED / f"{name}.yaml")[name]
        if "degrees" in config:
            entries.update(by_degree(name, config))
        else:
            entries[name] = config
    return entries


def is_left_out_of_all(config: object) -> bool:
    """Return True if `all` leaves an entry out.

    That is an entry with a parameter that has no default (`???`), or a method that explains only
    objects or only attentions. A file with `defaults`, which chooses other entries, is no entry.
    """
    entry = config if isinstance(config, Mapping) else {}
    if "defaults" in entry:
        return True
    params = entry.get("params")
    has_special_input = bool(entry.get("of_objects") or entry.get("of_attention"))
    return has_special_input or (isinstance(params, Mapping) and "???" in params.values())


def names_of_all(kind: str) -> list[str]:
    """Return the names of the entries of conf/<kind>/ that `all` chooses, sorted."""
    return list(_names_of_all(kind))


@cache
def _names_of_all(kind: str) -> tuple[str, ...]:
    """Return `names_of_all`, for which each entry's file is read only once."""
    return tuple(name for name in names(kind) if not is_left_out_of_all(_config(kind, name)))


def matching(kind: str, text: str) -> str:
    """Return the name of the entry whose name or printed title a text is, ignoring case, spaces and
    signs.

    If the text is a name already, or fits no entry or several, return the text itself.

    >>> [matching("method", text) for text in ("GradCAM++", "x-grad-cam", "Grad-CAM", "MyCAM")]
    ['grad_cam_pp', 'xgrad_cam', 'grad_cam', 'MyCAM']
    """
    if text in names(kind):
        return text
    return _names_by_letters(kind).get(letters(text), text)


@cache
def _names_by_letters(kind: str) -> dict[str, str]:
    """Return entries by the letters of their names and titles, except letters that several entries
    share.
    """
    candidates: dict[str, set[str]] = {}
    for name in names(kind):
        title = str(_config(kind, name).get("title"))
        for text in (name, title):
            candidates.setdefault(letters(text), set()).add(name)
    return {letters: matches.pop() for letters, matches in candidates.items() if len(matches) == 1}


@cache
def load(kind: str, name: str) -> AnyPlugin:
    """Return the entry of that name: the plug-in of conf/<kind>/<name>.yaml.

    A method@library comes from conf/peers/, and spoiled methods from conf/spoiled/. The name may be
    written in any form that `matching` reads.

    Raises:
        BenchError: with the nearest names, if there is no such entry.
    """
    if kind in ("method", "metric"):
        name = matching(kind, name)
    return from_config(kind, name, _config(kind, name))


def with_params(kind: str, name: str, params: Mapping[str, object]) -> AnyPlugin:
    """Return the entry of that name with other values of some parameters.

    Raises:
        BenchError: as `load` and `from_config` do.
    """
    config = {**_config(kind, name)}
    all_params = {**(config.get("params") or {}), **params}
    if params and config.get("passes") not in all_params:
        # the YAML file's number holds only for the YAML file's parameters
        config.pop("passes", None)
    config["params"] = all_params
    return from_config(kind, name, config)


def _config(kind: str, name: str) -> Entry:
    """Return an entry as its YAML file has it, or raise BenchError if there is none."""
    folder = kind
    if kind == "method":
        spoiled_entries = _spoiled_entries(conf_folder())
        if name in spoiled_entries:
            return spoiled_entries[name]
        if "@" in name:
            folder = PEERS
    # doesn't ask for the file, because a name may be too long for one
    known_names = names(folder)
    if name not in known_names:
        raise unknown_plugin(kind, name, known_names)
    config: Entry = read_yaml(conf_folder() / folder / f"{name}.yaml")[name]
    return config


def from_config(kind: str, name: str, config: object) -> AnyPlugin:
    """Return the plug-in that a mapping describes: what a YAML file holds, or the command line
    sets.

    Raises:
        BenchError: if the target can't be imported, a parameter is wrong, or the metadata is.
    """
    if not kinds.is_name(name):
        raise BenchError(
            f"A {kind} can't be called {kinds.shorten_for_error(name)}: that is no name; give it "
            "one of letters."
        )
    if not isinstance(config, Mapping):
        raise BenchError(
            f"The {kind} {name!r} is {kinds.shorten_for_error(config)}; set "
            f"{kind}.{name}._target_=module.function."
        )
    # what isn't the call is metadata, so that a misspelt key is refused by `_spec`
    metadata = dict(config)
    target = metadata.pop("_target_", None)
    params = metadata.pop("params", None)
    if target is None:
        raise BenchError(
            f"The {kind} {name!r} has no _target_; set {kind}.{name}._target_=module.function."
        )
    kinds.check_values({"_target_": target}, TARGET, f"{kind}.{name}.")
    assert isinstance(target, str)
    params = kinds.check_group(f"{kind}.{name}.params", {} if params is None else params)
    function = imported(kind, name, target)
    target = _dotted(target, function)
    if kind == "method" and not target.startswith(f"{PACKAGE}."):
        cam_method = importlib.import_module(CAM_METHOD)

        if "form" in metadata or cam_method.is_cam(function):
            # a map has no contributions, so the axioms don't apply
            spec = method_spec(f"method.{name}", {"on_score_scale": False, **metadata})
            call = cam_method.cam_method(function, name, params, spec.form)
            return Plugin(name, target, call, spec, dict(params))
    wrapped_methods = _wrapped_methods(function, params)
    arguments = {**params, **wrapped_methods}
    _check_arguments(kind, name, function, arguments, is_configured=True)
    kinds.check(function, arguments, f"{kind}.{name}.params.")
    # the number of passes may be the value of a parameter
    passes = metadata.get("passes")
    if isinstance(passes, str) and isinstance(params.get(passes), int):
        metadata["passes"] = params[passes]
    return Plugin(
        name=name,
        target=target,
        call=partial(function, **arguments),
        spec=_spec(kind, name, function, params, metadata),
        params=dict(params),
        inner=next(iter(wrapped_methods.values()), None),
    )


def _check_arguments(
    kind: str,
    name: str,
    function: Callable[..., object],
    params: Mapping[str, object],
    is_configured: bool = False,
) -> None:
    """Raise BenchError if a function can't be called with one trace or explanation and these
    parameters.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a compiled function has no signature to check
        return
    try:
        signature.bind(None, **params)
    except TypeError as error:
        if "unexpected keyword" in str(error):
            hint = f"they are set by {kind}.{name}.params.KEY=VALUE"
            raise BenchError(
                f"The {kind} {name!r} can't take its params: {error}; {hint}."
            ) from error
        argument = "explanation, which has .heatmap, .images and .trace"
        form = ""
        if kind == "method":
            argument = "trace, which has .images, .activations and .gradients"
            form = (
                f"; for a CAM that takes a model, name its form: +method.{name}.form="
                "model_layer_images_targets"
            )
        definition = f"{getattr(function, '__name__', name)}({', '.join(signature.parameters)})"
        missing = re.search(r"missing a required .*argument: '(\w+)'", str(error))
        setting = ""
        if is_configured and missing and missing[1] not in NOT_PARAMS:
            setting = f", or set +{kind}.{name}.params.{missing[1]}=VALUE"
        raise BenchError(
            f"The {kind} {name!r} is defined as {definition}, and a {kind} takes one argument, "
            f"the {argument}; give other parameters a default value{setting}{form}."
        ) from error


def _wrapped_methods(
    function: Callable[..., object], params: Mapping[str, object]
) -> dict[str, Plugin[MethodSpec]]:
    """Return the methods that a wrapper's parameters name, set or by default: parameters annotated
    as a `Method`.
    """
    from axiom_bench.explanation.explanation import Method  # here, because it imports torch

    methods = {}
    for parameter in kinds.signature(function).values():
        value = params.get(parameter.name, parameter.default)
        takes_method = Method in (parameter.annotation, *get_args(parameter.annotation))
        if takes_method and (isinstance(value, str) or callable(value)):
            methods[parameter.name] = plugin_for("method", value)
    return methods


def _spec(
    kind: str,
    name: str,
    function: Callable[..., object],
    params: Mapping[str, object],
    metadata: dict[str, object],
) -> MethodSpec | MetricSpec:
    """Return the checked metadata of an entry, or raise BenchError."""
    metadata.setdefault("dimensions", _declared_dimensions(function))
    if kind == "method":
        return method_spec(f"method.{name}", metadata)
    from axiom_bench.evaluation.preconditions import PRECONDITIONS  # here, because it imports torch

    params = _with_defaults(function, params)
    for key in ("values", "aggregate_values"):
        entries = metadata.get(key)
        if isinstance(entries, str):
            metadata[key] = _computed_values(name, key, entries, params)
    return metric_spec(f"metric.{name}", metadata, params, PRECONDITIONS)


def _with_defaults(
    function: Callable[..., object], params: Mapping[str, object]
) -> dict[str, object]:
    """Return the parameters, with the function's defaults for those that aren't set."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a compiled function has no signature, so its defaults are unknown
        return dict(params)
    defaults = {
        entry.name: entry.default for entry in parameters if entry.default is not entry.empty
    }
    return {**defaults, **params}


def accepted_params(
    function: Callable[..., object], params: Mapping[str, object]
) -> dict[str, object]:
    """Return the parameters that a function accepts."""
    accepted = inspect.signature(function).parameters
    return {key: value for key, value in params.items() if key in accepted}


def _computed_values(
    metric: str, key: str, target: str, params: Mapping[str, object]
) -> Mapping[str, object]:
    """Return the entries of a setting that depend on the metric's parameters: a function at
    `target` returns them.
    """
    function = imported("metric", metric, target)
    try:
        entries = function(**accepted_params(function, params))
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise BenchError(
            f"metric.{metric}.{key}: {target!r} raised {type(error).__name__}: {error}."
        ) from error
    if not isinstance(entries, Mapping):
        raise BenchError(
            f"metric.{metric}.{key}: {target!r} must return a dict of the values' names, not "
            f"{kinds.shorten_for_error(entries)}."
        )
    return entries


def value_names(metric: Plugin[MetricSpec]) -> tuple[str, ...]:
    """Return the names of a metric's values of an image: the keys of `spec.values`, otherwise the
    metric's name.
    """
    return tuple(metric.spec.values) or (metric.name,)


def whole_set_value_names(metric: Plugin[MetricSpec]) -> tuple[str, ...]:
    """Return the names of a metric's values of a whole data set; () if the metric has no aggregate.

    These are the keys of `spec.aggregate_values`, otherwise the names of its values of an image.
    """
    if metric.spec.aggregate is None:
        return ()
    return tuple(metric.spec.aggregate_values) or value_names(metric)


def precondition_names(metric: Plugin[MetricSpec]) -> list[str]:
    """Return the names of the preconditions that apply with the metric's parameters, in order."""
    if not metric.spec.needs:
        return []
    params = _with_defaults(metric.function, metric.params)
    return [need.name for need in metric.spec.needs if need.counts(params)]


def required(entries: Iterable[AnyPlugin]) -> frozenset[str]:
    """Return the data of EXTRAS that must be loaded in addition to the images for these methods and
    metrics.

    Methods list these data in `requires`, also on behalf of the methods that they wrap; metrics
    list them in `needs`.
    """
    extras: set[str] = set()
    for entry in entries:
        if not isinstance(entry.spec, MethodSpec):
            extras.update(EXTRAS.intersection(precondition_names(entry)))
            continue
        extras.update(entry.spec.requires)
        if entry.inner is not None:
            extras.update(required([entry.inner]))
    return frozenset(extras)


def plugin_for(kind: str, entry: str | Callable[..., object]) -> AnyPlugin:
    """Return the plug-in of a name, of a dotted path to a function, or of a user's own callable
    without metadata.
    """
    if isinstance(entry, Plugin):
        return entry
    if isinstance(entry, str):
        if not is_code_path(entry):
            return load(kind, entry)
        path, colon, attribute = entry.rpartition(":")
        module = Path(path).stem if path.endswith(".py") else path
        name = f"{module}.{attribute}" if colon else entry
        return from_config(kind, name, {"_target_": entry})
    if not callable(entry):
        raise BenchError(f"A {kind} is a name or a callable, not {entry!r}.")
    name = getattr(entry, "__name__", type(entry).__name__)
    target = f"{getattr(entry, '__module__', '')}.{name}"
    if kind == "method" and not target.startswith(f"{PACKAGE}."):
        cam_method = importlib.import_module(CAM_METHOD)

        if cam_method.is_cam(entry):
            call = cam_method.cam_method(entry, name, {}, None)
            return Plugin(name, target, call, MethodSpec(on_score_scale=False), bare=True)
    _check_arguments(kind, name, entry, {})
    is_own = target.startswith(f"{PACKAGE}.") and name in names(kind)  # such as a wrapper's default
    dimensions: Any = load(kind, name).spec.dimensions if is_own else _declared_dimensions(entry)
    spec_class = MethodSpec if kind == "method" else MetricSpec
    spec: MethodSpec | MetricSpec = spec_class(dimensions=dimensions)
    return Plugin(name, target, entry, spec, bare=True)


def _declared_dimensions(function: Callable[..., object]) -> tuple[int, ...]:
    """Return the function's attribute `dimensions`, which it may have when no YAML file sets this
    key.
    """
    return tuple(getattr(function, "dimensions", ()))


def is_code_path(text: str) -> bool:
    """Return True for the path of a function, such as my_module.my_cam, and False for a name.

    >>> [is_code_path(text) for text in ("my_module.cam", "my_module:cam", "cam.py:cam", "cam")]
    [True, True, True, False]
    """
    return "." in text or ":" in text


def name_of_path(path: str) -> str:
    """Return the last name of a function's path.

    >>> [name_of_path(path) for path in ("my_module.cam", "my_module:cam", "cam.py:cam", "cam")]
    ['cam', 'cam', 'cam', 'cam']
    """
    return re.split("[.:]", path)[-1]


def _dotted(target: str, function: Callable[..., Any]) -> str:
    """Return the dotted path of a function that was imported from MODULE:NAME or FILE.py:NAME."""
    path, colon, attribute = target.rpartition(":")
    if not colon:
        return target
    module = getattr(function, "__module__", path) if path.endswith(".py") else path
    return f"{module}.{attribute}"


def imported(kind: str, name: str, target: str) -> Callable[..., Any]:
    """Return the function at a path, or raise a BenchError with the kind and name of the entry."""
    if ":" in target:
        user_code = importlib.import_module(USER_CODE)

        expected = "give module.function, MODULE:NAME or FILE.py:NAME"
        named: Callable[..., Any] = user_code.import_function(
            target, f"{kind}.{name}._target_", expected
        )
        return named
    module_name, _, attribute = target.rpartition(".")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module_name), attribute)
    except BenchError:  # it has its own message
        raise
    except (Exception, SystemExit) as error:
        # importing runs the user's code, which may raise anything
        raise BenchError(
            f"The {kind} {name!r} names {kinds.shorten_for_error(target)}, which can't be imported "
            f"({type(error).__name__}: {error}); give a dotted path to a function, with its "
            "folder on PYTHONPATH or the current folder."
        ) from error
    if not callable(function):
        raise BenchError(f"The {kind} {name!r} names {target!r}, which isn't callable.")
    return function
