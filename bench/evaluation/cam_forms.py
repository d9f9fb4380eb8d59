"""Call a CAM implementation of any usual form as `cam(model, layer, images, targets) -> maps`.

`as_cam_function` recognises the form from the names of the parameters, and tries it on a tiny
network. An implementation may be a function, an object or a class. It may take the layer as a
module, a name or a list, the classes as a tensor, integers or functions of the output, and images
in a batch or one at a time.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.evaluation.returned_maps import as_maps
from axiom_bench.evaluation.specs import CamForm
from axiom_bench.isolation.foreign_calls import one_line, quiet, result_or_error
from axiom_bench.isolation.global_state import restored_global_state
from axiom_bench.models.user_code import import_function

Role = Literal["model", "layer", "images", "targets", "scores"]
LayerForm = Literal["module", "name", "list"]
TargetForm = Literal["tensor", "integers", "integer", "functions"]
RowForm = Literal["batch", "batches of one", "images"]
Implementation = Callable[..., Any]
Result = TypeVar("Result")
Parameters = Sequence[inspect.Parameter]

# The names of parameters in public implementations, by their meaning.
ROLES: Mapping[str, Role] = {
    "model": "model",
    "net": "model",
    "network": "model",
    "classifier": "model",
    "forward_func": "model",
    "layer": "layer",
    "layers": "layer",
    "layer_name": "layer",
    "target_layer": "layer",
    "target_layers": "layer",
    "target_layer_name": "layer",
    "target_layer_names": "layer",
    "target_module": "layer",
    "feature_layer": "layer",
    "conv_layer": "layer",
    "final_layer": "layer",
    "last_conv_layer": "layer",
    "images": "images",
    "image": "images",
    "img": "images",
    "imgs": "images",
    "input": "images",
    "inputs": "images",
    "input_tensor": "images",
    "input_image": "images",
    "input_img": "images",
    "image_tensor": "images",
    "img_tensor": "images",
    "input_batch": "images",
    "batch": "images",
    "x": "images",
    "xs": "images",
    "targets": "targets",
    "target": "targets",
    "classes": "targets",
    "class_idx": "targets",
    "class_index": "targets",
    "class_indices": "targets",
    "class_id": "targets",
    "class_ids": "targets",
    "target_class": "targets",
    "target_classes": "targets",
    "target_category": "targets",
    "target_index": "targets",
    "target_idx": "targets",
    "labels": "targets",
    "label": "targets",
    "category": "targets",
    "index": "targets",
    "idx": "targets",
    "y": "targets",
    "scores": "scores",
    "logits": "scores",
}
TRACE_NAMES = ("trace", "explanation")  # a method of axiom-bench's own form takes one of these
PLURAL_TARGETS = (
    "targets",
    "classes",
    "labels",
    "class_ids",
    "class_indices",
    "target_classes",
)
SINGLE_IMAGES = ("image", "img", "input_image", "input_img", "image_tensor", "img_tensor")
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
HID_AN_ERROR = object()
# A tensor's attribute is missing if the network was taken for the images.
MISSING_MODULE = r"'TinyNetwork' object has no attribute '(\w+)'"
MOST_ERRORS = 3  # in a message; further presentations mostly fail for the same reason


@dataclass(frozen=True)
class Form:
    """A way in which an implementation is called."""

    example: str
    """A call as its author would write it."""
    call_roles: tuple[Role, ...]
    """The arguments of the function, or of the object's method, in order."""
    made_with: tuple[Role, ...] = ()
    """The arguments of the class; empty for a function or an object."""
    methods: tuple[str, ...] = ("__call__",)
    """The names of the object's method; the first that the class has is called."""


MODEL_AND_LAYER: tuple[Role, ...] = ("model", "layer")
FORMS: Mapping[CamForm, Form] = {
    "model_layer_images_targets": Form(
        "cam(model, layer, images, targets)", ("model", "layer", "images", "targets")
    ),
    "model_images": Form("cam(model, images), at a layer that it knows", ("model", "images")),
    "torchcam": Form(
        "with GradCAM(model, layer) as cam: cam(class_idx, scores)",
        ("targets", "scores"),
        MODEL_AND_LAYER,
    ),
    "captum": Form(
        "LayerGradCam(model, layer).attribute(inputs, target=targets)",
        ("images", "targets"),
        MODEL_AND_LAYER,
        ("attribute",),
    ),
    "pytorch_grad_cam": Form(
        "GradCAM(model, target_layers=[layer])(input_tensor=images, targets=[...])",
        ("images", "targets"),
        MODEL_AND_LAYER,
    ),
    "class": Form(
        "Cam(model, layer)(images, targets)",
        ("images", "targets"),
        MODEL_AND_LAYER,
        ("__call__", "generate", "explain", "compute", "forward"),
    ),
}
EXPECTED = "give MODULE:NAME or FILE.py:NAME of a function or a class"


@dataclass(frozen=True)
class Signature:
    """The parameters of a callable and their roles."""

    parameters: tuple[inspect.Parameter, ...]
    """All parameters, without `self`."""
    roles: Mapping[str, Role]
    """The role of each parameter that gets a value of the call, by the parameter's name."""

    @property
    def options(self) -> list[str]:
        """The names of the other parameters, which options can set."""
        return [
            parameter.name
            for parameter in self.parameters
            if parameter.name not in self.roles and parameter.kind not in VARIADIC
        ]

    @property
    def takes_any_option(self) -> bool:
        """True if the callable has `**kwargs`."""
        return any(parameter.kind == parameter.VAR_KEYWORD for parameter in self.parameters)

    def name_of(self, role: Role) -> str:
        """Return the name of the parameter with a role; "" if there is none."""
        return next((name for name, other in self.roles.items() if other == role), "")

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
            if parameter.kind == parameter.POSITIONAL_ONLY:
                positional.append(values[role])
            else:
                keywords[parameter.name] = values[role]
        return function(*positional, **keywords)


@dataclass(frozen=True)
class Presentation:
    """The types in which an implementation gets its arguments."""

    rows: RowForm
    """"batch": all images at once; "batches of one": (1, 3, H', W'); "images": (3, H', W')."""
    layer: LayerForm
    """The layer's module, its dotted name, or a list of the module."""
    targets: TargetForm
    """A tensor (B,), a list of integers, one integer, or functions of an image's output."""


@dataclass(frozen=True, eq=False)
class Cam:
    """A CAM implementation that is called as `cam(model, layer, images, targets) -> maps`.

    The maps are (B, h, w). They aren't detached.
    """

    implementation: Implementation
    """The function, object or class."""
    name: str
    """The implementation's name in messages."""
    form: CamForm
    call_signature: Signature
    """The parameters of the function, or of the object's method."""
    made_with: Signature | None = None
    """The parameters of the class; None for a function or an object."""
    method: str = "__call__"
    """The object's method that computes maps."""
    options: Mapping[str, object] | None = None
    """Further keyword arguments of the class or the call."""
    presentation: Presentation | None = None
    """The types of arguments; None: each call finds those that work, because an implementation
    that knows its layer can't be tried on another network."""

    def __call__(
        self, model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor
    ) -> Tensor:
        """Compute a map for each image.

        Args:
            model: The network, whose output is the logits (B, C).
            layer: The target layer, a module of the network.
            images: The images, (B, 3, H', W').
            targets: The explained classes, (B,).

        Returns:
            The maps, (B, h, w).

        Raises:
            BenchError: If the implementation returns something else than maps.
        """
        arguments = Arguments(model, layer, images, targets)
        if self.presentation is None:
            return _first_working(self, arguments).maps
        return self.maps(arguments, self.presentation)

    @property
    def signatures(self) -> list[Signature]:
        """The parameters of the class, if there is one, and those of the call."""
        return (
            [self.call_signature]
            if self.made_with is None
            else [
                self.made_with,
                self.call_signature,
            ]
        )

    def takes(self, option: str) -> bool:
        """Return True if the class or the call has a parameter of this name."""
        return any(option in signature.options for signature in self.signatures)

    def has(self, role: Role) -> bool:
        """Return True if the class or the call gets the value of this role."""
        return any(signature.name_of(role) for signature in self.signatures)

    def name_of(self, role: Role) -> str:
        """Return the name of the parameter with this role; "" if there is none."""
        names = [signature.name_of(role) for signature in self.signatures]
        return next(filter(None, names), "")

    def maps(self, arguments: Arguments, presentation: Presentation) -> Tensor:
        """Compute the maps (B, h, w) with arguments of the given types."""
        if presentation.rows == "batch":
            return as_maps(self._answer(arguments, presentation), arguments.images, self.name)
        maps = []
        for row in range(len(arguments.images)):
            single = arguments.row(row)
            answer = self._answer(single, presentation)
            maps.append(as_maps(answer, single.images, self.name))
        return torch.cat(maps)

    def _answer(self, arguments: Arguments, presentation: Presentation) -> object:
        """Call the implementation, and return its answer unchanged."""
        values = arguments.presented(presentation)
        made_with_options, call_options = self._split_options()
        if self.made_with is None:
            return self.call_signature.call(self.implementation, values, call_options)
        explainer = self.made_with.call(self.implementation, values, made_with_options)
        answer: object = HID_AN_ERROR
        context = explainer if hasattr(explainer, "__enter__") else nullcontext(explainer)
        with context:
            if self.call_signature.name_of("scores"):
                values["scores"] = arguments.model(arguments.images)
            call = getattr(explainer, self.method)
            answer = self.call_signature.call(call, values, call_options)
        if answer is HID_AN_ERROR:
            raise RuntimeError(f"{self.name} hid an error at the end of its `with` block")
        return answer

    def _split_options(self) -> tuple[dict[str, object], dict[str, object]]:
        """Return the options of the class, and those of the call."""
        options = dict(self.options or {})
        if self.made_with is None:
            return {}, options
        of_class = {
            name: value
            for name, value in options.items()
            if name in self.made_with.options
            or (self.made_with.takes_any_option and name not in self.call_signature.options)
        }
        of_call = {name: value for name, value in options.items() if name not in of_class}
        return of_class, of_call


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of a CAM function."""

    model: nn.Module
    layer: nn.Module
    images: Tensor
    targets: Tensor

    def row(self, row: int) -> Arguments:
        """Return the arguments for one image."""
        rows = slice(row, row + 1)
        return replace(self, images=self.images[rows], targets=self.targets[rows])

    def presented(self, presentation: Presentation) -> dict[Role, object]:
        """Return the values of all roles in the types of a presentation."""
        classes: list[int] = self.targets.tolist()
        layers: dict[LayerForm, Callable[[], object]] = {
            "module": lambda: self.layer,
            "name": self._layer_name,
            "list": lambda: [self.layer],
        }
        targets: dict[TargetForm, Callable[[], object]] = {
            "tensor": lambda: self.targets,
            "integers": lambda: classes,
            "integer": lambda: classes[0],
            "functions": lambda: [partial(_class_score, index) for index in classes],
        }
        return {
            "model": self.model,
            "layer": layers[presentation.layer](),
            "images": self.images[0] if presentation.rows == "images" else self.images,
            "targets": targets[presentation.targets](),
        }

    def _layer_name(self) -> str:
        modules = self.model.named_modules()
        return next((name for name, module in modules if module is self.layer), "")


def _class_score(index: int, output: Tensor) -> Tensor:
    """Return the score of a class from an image's output (C,), or a batch's (B, C)."""
    return output[..., index]


@dataclass(frozen=True)
class Attempt:
    """A presentation that works, and the maps that it gives."""

    presentation: Presentation
    maps: Tensor


def as_cam_function(
    entry: str | Implementation,
    options: Mapping[str, object] | None = None,
    form: str | None = None,
) -> Cam:
    """Return a CAM implementation as a function of model, layer, images and targets.

    Args:
        entry: A function, an object or a class, or its path: MODULE:NAME, FILE.py:NAME or the
            dotted module.name.
        options: Further keyword arguments, of the class or of the call.
        form: A key of FORMS; None: the names of the parameters decide.

    Returns:
        The function.

    Raises:
        BenchError: If the implementation can't be imported, no form fits, an option has an unknown
            name, or the call fails on a tiny network.
    """
    if form is not None and form not in FORMS:
        raise unknown_name("form of a CAM", form, FORMS)
    implementation = import_function(entry, "CAM", EXPECTED) if isinstance(entry, str) else entry
    if not callable(implementation):
        raise BenchError(f"A CAM is a function, an object or a class, not {entry!r}; {EXPECTED}.")
    name = entry if isinstance(entry, str) else _name(implementation)
    cam = _recognised(implementation, name, form)
    if cam is None:
        fault = "fits no form of a CAM" if form is None else f"doesn't fit the form {form}"
        raise _refusal(f"{name!r} is defined as {_definition(implementation)}, which {fault}")
    _check_options(cam, options or {})
    cam = replace(cam, options=dict(options or {}))
    try:
        with quiet(), restored_global_state(), torch.inference_mode(False), torch.enable_grad():
            attempt = _first_working(cam, _tiny_arguments(), " on a tiny network")
    except BenchError as error:
        # it reads modules by names that only the user's network has
        missing = re.search(MISSING_MODULE, str(error))
        if not cam.has("layer") or (missing and not hasattr(Tensor, missing[1])):
            return cam
        raise
    return replace(cam, presentation=attempt.presentation)


def is_cam(implementation: Implementation) -> bool:
    """Return True if a callable takes a model by name, and isn't a function of a trace."""
    parameters = _parameters(implementation)
    names = [parameter.name for parameter in parameters]
    if any(name in TRACE_NAMES for name in names):
        return False
    if not any(ROLES.get(name) == "model" for name in names):
        return False
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    if len(required) <= 1 and ROLES.get(names[0]) != "model":
        return False  # the one argument is a trace, whatever its name
    return _recognised(implementation, _name(implementation), None) is not None


def _name(implementation: Implementation) -> str:
    return str(getattr(implementation, "__name__", type(implementation).__name__))


def _recognised(implementation: Implementation, name: str, given: str | None) -> Cam | None:
    """Return the CAM with its form, or None if the names of its parameters fit no form."""
    is_class = inspect.isclass(implementation)
    for form, details in FORMS.items():
        if given not in (None, form) or is_class != bool(details.made_with):
            continue
        is_given = given is not None
        if not is_class:
            signature = _with_roles(_parameters(implementation), details.call_roles, is_given)
            if signature is not None and _is_complete([signature], form):
                return Cam(implementation, name, form, signature)
            continue
        made_with = _with_roles(_parameters(implementation), details.made_with, is_given)
        method = next((key for key in details.methods if _defines(implementation, key)), None)
        if made_with is None or method is None:
            continue
        signature = _with_roles(
            _method_parameters(implementation, method), details.call_roles, is_given
        )
        if signature is not None and (is_given or _is_complete([made_with, signature], form)):
            return Cam(implementation, name, form, signature, made_with, method)
    return None


def _is_complete(signatures: Sequence[Signature], form: CamForm) -> bool:
    """Return True if the signatures take what the form needs."""
    roles: set[Role] = set()
    for signature in signatures:
        roles.update(signature.roles.values())
    if form == "torchcam":
        return {"model", "targets", "scores"} <= roles
    if form == "pytorch_grad_cam":
        names = [parameter.name for parameter in signatures[-1].parameters]
        return {"model", "layer", "images"} <= roles and "input_tensor" in names
    if form == "model_layer_images_targets":
        return {"model", "layer", "images"} <= roles
    return {"model", "images"} <= roles


def _parameters(function: Implementation) -> tuple[inspect.Parameter, ...]:
    """Return the parameters of a callable; none if it has no signature."""
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a compiled function
        return ()


def _defines(kind: Implementation, method: str) -> bool:
    # every class has the `__call__` that makes its objects
    return any(method in vars(base) for base in inspect.getmro(kind)[:-1])  # type: ignore[arg-type]


def _method_parameters(kind: Implementation, method: str) -> tuple[inspect.Parameter, ...]:
    """Return the parameters of a class's method; of `forward` if `__call__` passes all on."""
    parameters = _parameters(getattr(kind, method))[1:]
    is_passed_on = all(parameter.kind in VARIADIC for parameter in parameters)
    if is_passed_on and method == "__call__" and hasattr(kind, "forward"):
        return _parameters(kind.forward)[1:]
    return parameters


def _with_roles(
    parameters: tuple[inspect.Parameter, ...], order: Sequence[Role], is_given: bool
) -> Signature | None:
    """Return the parameters with their roles; None if a required parameter has none.

    The names decide. Required parameters with unknown names get the remaining roles in order. If
    the form is given and the names don't give all of its roles, the order alone decides.
    """
    named = [parameter for parameter in parameters if parameter.kind not in VARIADIC]
    roles: dict[str, Role] = {}
    for parameter in named:
        role = ROLES.get(parameter.name)
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


def _check_options(cam: Cam, options: Mapping[str, object]) -> None:
    """Raise BenchError if neither the class nor the call takes an option."""
    if any(signature.takes_any_option for signature in cam.signatures):
        return
    names = sorted({name for signature in cam.signatures for name in signature.options})
    for option in options:
        if option not in names:
            raise unknown_name(f"option of {cam.name}", option, names)


def _first_working(cam: Cam, arguments: Arguments, place: str = "") -> Attempt:
    """Return the first presentation that gives maps, or raise BenchError with the errors.

    place: the network that is called, for the message.
    """
    errors: dict[str, None] = {}
    first_refusal: BenchError | None = None
    for presentation in _presentations(cam):
        maps = result_or_error(partial(cam.maps, arguments, presentation))
        if isinstance(maps, BenchError):  # it ran, and returned no maps
            first_refusal = first_refusal or maps
            continue
        if isinstance(maps, BaseException):
            errors[one_line(maps)] = None
            continue
        attempt = Attempt(presentation, maps)
        if presentation.rows == "batch" and cam.name_of("targets") not in PLURAL_TARGETS:
            return _checked_by_single_images(cam, arguments, attempt)
        return attempt
    if first_refusal is not None:
        raise first_refusal
    example = FORMS[cam.form].example
    raise _refusal(
        f"{cam.name!r}, defined as {_definition(cam.implementation)}, was called{place} as "
        f"{example} and raised {'; '.join(list(errors)[:MOST_ERRORS])}"
    )


def _checked_by_single_images(cam: Cam, arguments: Arguments, attempt: Attempt) -> Attempt:
    """Return the attempt if single images with one integer each give proportional maps.

    A function of one class may take a tensor of several, and explain their sum for every image.
    Otherwise, return the presentation with single images.
    """
    if not cam.has("targets"):
        return attempt
    single_rows: Sequence[RowForm] = ("batches of one", "images")
    for rows in single_rows:
        presentation = Presentation(rows, attempt.presentation.layer, "integer")
        maps = result_or_error(partial(cam.maps, arguments, presentation))
        if isinstance(maps, BaseException):
            continue
        is_same = maps.shape == attempt.maps.shape and _is_proportional(maps, attempt.maps)
        return attempt if is_same else Attempt(presentation, maps)
    return attempt


def _is_proportional(maps: Tensor, others: Tensor) -> bool:
    """Return True if each map (B, h, w) is a multiple of the other one, up to rounding."""
    flat = maps.detach().double().flatten(1).cpu()
    other_flat = others.detach().double().flatten(1).cpu()
    products = (flat * other_flat).sum(1)
    lengths = flat.norm(dim=1) * other_flat.norm(dim=1)
    return bool((products >= (1 - 1e-4) * lengths).all())


def _presentations(cam: Cam) -> Iterator[Presentation]:
    """Yield the presentations to try, the likeliest first."""
    layer_name = cam.name_of("layer")
    layers: Sequence[LayerForm] = ("module", "name", "list")
    if "layers" in layer_name or layer_name.endswith("names"):
        layers = ("list", "module", "name")
    elif "name" in layer_name:
        layers = ("name", "module", "list")
    if not layer_name:
        layers = ("module",)
    rows: Sequence[RowForm] = ("batch", "batches of one", "images")
    if cam.name_of("images") in SINGLE_IMAGES:
        rows = ("batches of one", "images", "batch")
    for row_form in rows:
        targets: Sequence[TargetForm] = ("tensor", "integers", "functions")
        if row_form != "batch":
            targets = ("integer", "tensor", "integers", "functions")
        if not cam.has("targets"):
            targets = ("tensor",)
        for layer, target in product(layers, targets):
            yield Presentation(row_form, layer, target)


class TinyNetwork(nn.Module):
    """A small network on which a form is tried. Its layers have names of one word."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.activation = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (B, 5) of images (B, 3, H', W')."""
        maps = self.activation(self.convolution(images))
        logits: Tensor = self.fc(self.flatten(self.pool(maps)))
        return logits


def _tiny_arguments() -> Arguments:
    """Return the arguments of a trial: two images of which different classes are explained."""
    torch.manual_seed(0)
    model = TinyNetwork().eval()
    return Arguments(model, model.activation, torch.randn(2, 3, 12, 12), torch.tensor([0, 2]))


def _definition(implementation: Implementation) -> str:
    names = ", ".join(parameter.name for parameter in _parameters(implementation))
    return f"{_name(implementation)}({names})"


def _refusal(problem: str) -> BenchError:
    """Return the error about an implementation that can't be called, with all forms."""
    forms = "; ".join(f"{form}: {details.example}" for form, details in FORMS.items())
    return BenchError(
        f"{problem}. Write a function cam(model, layer, images, targets) that returns a map for "
        "each image, or name its form, as in form: model_layer_images_targets "
        f"(--form model_layer_images_targets). The forms are {forms}."
    )
