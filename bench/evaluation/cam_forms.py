"""Recognise the form in which a CAM implementation is called, from the names of its parameters.

The implementation may be a function, an object or a class. If all of its parameters are variadic,
as in `cam(*args, **kwargs)`, it fits several forms, and a trial decides.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, Literal

from axiom_bench.evaluation.specs import CamForm

Role = Literal["model", "layer", "images", "targets", "scores"]
Implementation = Callable[..., Any]

# The names of parameters in public implementations, by their meaning.
NAMES: Mapping[Role, str] = {
    "model": "model|net|network|classifier|forward_func",
    "layer": r"((target|feature|final|(last_)?conv)_)?layers?(_names?)?|target_module",
    "images": "(input_)?(image|img)s?(_tensor)?|inputs?(_tensor|_batch)?|batch|xs?",
    "targets": "(target_)?(class|classes|category|labels?|targets?)(_(id|ids|idx|index|indices))?"
    "|index|idx|y",
    "scores": "scores|logits",
}
TRACE_NAMES = ("trace", "explanation")  # a method of axiom-bench's own form takes one of these
STARS: Mapping[object, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


@dataclass(frozen=True)
class Form:
    """A way in which implementations are called."""

    example: str
    """A call as its author would write it."""
    call: tuple[Role, ...]
    """The arguments of the function, or of the object's method, in order."""
    needs: tuple[Role, ...]
    """The arguments without which it isn't this form."""
    made_with: tuple[Role, ...] = ()
    """The arguments of the class; empty for a function or an object."""


FORMS: Mapping[CamForm, Form] = {
    "model_layer_images_targets": Form(
        "cam(model, layer, images, targets)",
        ("model", "layer", "images", "targets"),
        ("model", "layer", "images"),
    ),
    "model_images": Form(
        "cam(model, images), at a layer that it knows", ("model", "images"), ("model", "images")
    ),
    "class": Form(
        "Cam(model, layer)(images, targets)", ("images", "targets"), ("model",), ("model", "layer")
    ),
}
# The methods of a class that compute maps; the first that it has is called.
METHODS = ("attribute", "__call__", "generate", "explain", "compute", "forward")


@dataclass(frozen=True)
class Signature:
    """The parameters of a callable and their roles."""

    parameters: tuple[Parameter, ...]
    """All parameters, without `self`."""
    roles: Mapping[str, Role]
    """The role of each parameter that gets a value of the call, by the parameter's name."""

    @property
    def options(self) -> list[str]:
        """The names of the other parameters, which options can set."""
        named = [parameter.name for parameter in self.parameters if parameter.kind not in STARS]
        return [name for name in named if name not in self.roles]

    @property
    def takes_any_option(self) -> bool:
        """True if the callable has `**kwargs`."""
        return any(parameter.kind == Parameter.VAR_KEYWORD for parameter in self.parameters)

    def call(
        self,
        function: Implementation,
        values: Mapping[Role, object],
        options: Mapping[str, object],
    ) -> Any:
        """Call a function with the values of its roles and with options."""
        positional: list[object] = []
        keywords = dict(options)
        for parameter in self.parameters:
            role = self.roles.get(parameter.name)
            if role is None:
                continue
            if parameter.kind == Parameter.POSITIONAL_ONLY:
                positional.append(values[role])
            else:
                keywords[parameter.name] = values[role]
        return function(*positional, **keywords)


@dataclass(frozen=True)
class RecognisedForm:
    """The form of one implementation."""

    name: CamForm
    """The form's key in FORMS."""
    call: Signature
    """The parameters of the function, or of the object's method."""
    made_with: Signature | None = None
    """The parameters of the class; None for a function or an object."""
    method: str = "__call__"
    """The object's method that computes maps."""

    @property
    def signatures(self) -> list[Signature]:
        """The parameters of the class, if there is one, and those of the call."""
        return [self.call] if self.made_with is None else [self.made_with, self.call]

    def parameter_of(self, role: Role) -> str:
        """Return the name of the parameter with a role; "" if there is none."""
        for signature in self.signatures:
            for name, other in signature.roles.items():
                if other == role:
                    return name
        return ""


def recognised_forms(
    implementation: Implementation, given: CamForm | None = None
) -> list[RecognisedForm]:
    """Return the forms that an implementation fits, the likeliest first.

    Args:
        implementation: A function, an object or a class.
        given: The form's key if the user gave it. Then the order of parameters decides if their
            names don't.
    """
    fitting: list[RecognisedForm] = []
    for name in FORMS if given is None else [given]:
        recognised = _recognised(implementation, name, given is not None)
        calls = [other.call for other in fitting]
        if recognised is not None and recognised.call not in calls:
            fitting.append(recognised)
    return fitting


def is_cam(implementation: Implementation) -> bool:
    """Return True if a callable takes a model by name, and isn't a function of a trace."""
    parameters = _parameters(implementation)
    names = [parameter.name for parameter in parameters]
    roles = [role_of(name) for name in names]
    if "model" not in roles or set(names) & set(TRACE_NAMES):
        return False
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    if len(required) <= 1 and roles[0] != "model":
        return False  # the one argument is a trace, whatever its name
    return bool(recognised_forms(implementation))


def role_of(name: str) -> Role | None:
    """Return the role of a parameter by its name; None if the name says nothing."""
    roles = (role for role, pattern in NAMES.items() if re.fullmatch(pattern, name))
    return next(roles, None)


def name_of(implementation: Implementation) -> str:
    """Return the name of a function or a class, or of an object's class."""
    return str(getattr(implementation, "__name__", type(implementation).__name__))


def definition(implementation: Implementation) -> str:
    """Return an implementation's name with those of its parameters, for messages."""
    names = []
    for parameter in _parameters(implementation):
        names.append(STARS.get(parameter.kind, "") + parameter.name)
    return f"{name_of(implementation)}({', '.join(names)})"


def _recognised(
    implementation: Implementation, name: CamForm, is_given: bool
) -> RecognisedForm | None:
    """Return a form with the implementation's parameters, or None if it doesn't fit."""
    form = FORMS[name]
    if inspect.isclass(implementation) != bool(form.made_with):
        return None
    parameters = _parameters(implementation)
    made_with = None
    method = "__call__"
    if form.made_with:
        made_with = _with_roles(parameters, form.made_with, is_given)
        method = next((key for key in METHODS if _defines(implementation, key)), "")
        if made_with is None or not method:
            return None
        parameters = _method_parameters(implementation, method)
    call = _with_roles(parameters, form.call, is_given)
    if call is None:
        return None
    recognised = RecognisedForm(name, call, made_with, method)
    return recognised if all(map(recognised.parameter_of, form.needs)) else None


def _parameters(function: Implementation) -> tuple[Parameter, ...]:
    """Return the parameters of a callable. A compiled function without a signature has `*args`."""
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return (Parameter("args", Parameter.VAR_POSITIONAL),)


def _defines(kind: Implementation, method: str) -> bool:
    # every class has the `__call__` that makes its objects
    return any(method in vars(base) for base in inspect.getmro(kind)[:-1])  # type: ignore[arg-type]


def _method_parameters(kind: Implementation, method: str) -> tuple[Parameter, ...]:
    """Return the parameters of a class's method; of `forward` if `__call__` passes all on."""
    parameters = _parameters(getattr(kind, method))[1:]
    if _are_variadic(parameters) and method == "__call__" and hasattr(kind, "forward"):
        return _parameters(kind.forward)[1:]
    return parameters


def _are_variadic(parameters: Sequence[Parameter]) -> bool:
    return bool(parameters) and all(parameter.kind in STARS for parameter in parameters)


def _with_roles(
    parameters: tuple[Parameter, ...], order: Sequence[Role], is_given: bool
) -> Signature | None:
    """Return the parameters with their roles; None if a required parameter has none.

    The names decide. Required parameters with unknown names get the remaining roles in order. If
    the form is given and the names don't give all of its roles, the order alone decides. It also
    decides if all parameters are variadic.
    """
    if _are_variadic(parameters):
        is_positional = parameters[0].kind == Parameter.VAR_POSITIONAL
        kind = Parameter.POSITIONAL_ONLY if is_positional else Parameter.KEYWORD_ONLY
        passed = [Parameter(role, kind) for role in order]
        return Signature((*passed, *parameters), {role: role for role in order})
    named = [parameter for parameter in parameters if parameter.kind not in STARS]
    roles: dict[str, Role] = {}
    for parameter in named:
        role = role_of(parameter.name)
        if role is not None and role not in roles.values():
            roles[parameter.name] = role
    if is_given and not set(order) <= set(roles.values()):
        in_order = zip(named, order, strict=False)
        roles = {parameter.name: role for parameter, role in in_order}
    remaining = [role for role in order if role not in roles.values()]
    for parameter in named:
        is_required = parameter.default is parameter.empty
        if is_required and parameter.name not in roles:
            if not remaining:
                return None
            roles[parameter.name] = remaining.pop(0)
    return Signature(parameters, roles)
