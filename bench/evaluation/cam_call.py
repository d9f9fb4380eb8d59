"""Call a CAM implementation of any form as `cam(model, layer, images, targets) -> maps`.

It may take the layer as a module, a name or a list, the classes as a tensor, integers or functions
of the output, and images in a batch or one at a time. The first types that give maps are used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn

from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.evaluation.cam_forms import (
    FORMS,
    Implementation,
    RecognisedForm,
    Role,
    Signature,
    definition,
)
from axiom_bench.evaluation.returned_maps import as_maps
from axiom_bench.isolation.foreign_calls import one_line, result_or_error

CamFunction = Callable[[nn.Module, nn.Module, Tensor, Tensor], Tensor]
"""A CAM implementation, called with a network whose output is the logits (B, C), the target layer's
module, the images (B, 3, H', W') and the explained classes (B,). It returns the maps (B, h, w),
which may have any size and a graph."""
RowForm = Literal["batch", "batches of one", "images"]
"""All images at once, each as (1, 3, H', W'), or each as (3, H', W')."""
SINGLE_IMAGE = "(image|img)(_tensor)?$"  # the end of a parameter's name
HID_AN_ERROR = object()
MOST_ERRORS = 3  # in a message; further types mostly fail for the same reason


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of a CAM function."""

    model: nn.Module
    layer: nn.Module
    images: Tensor
    targets: Tensor

    def call(self, cam: CamFunction) -> Tensor:
        """Call a CAM function."""
        return cam(self.model, self.layer, self.images, self.targets)

    def row(self, row: int) -> Arguments:
        """Return the arguments for one image."""
        rows = slice(row, row + 1)
        return replace(self, images=self.images[rows], targets=self.targets[rows])


def layer_module(arguments: Arguments) -> nn.Module:
    """Return the layer as a module."""
    return arguments.layer


def layer_name(arguments: Arguments) -> str:
    """Return the layer's dotted name."""
    modules = arguments.model.named_modules()
    return next((name for name, module in modules if module is arguments.layer), "")


def layer_list(arguments: Arguments) -> list[nn.Module]:
    """Return a list of the layer's module."""
    return [arguments.layer]


def class_tensor(arguments: Arguments) -> Tensor:
    """Return the classes as a tensor (B,)."""
    return arguments.targets


def class_integers(arguments: Arguments) -> list[int]:
    """Return the classes as a list of integers."""
    classes: list[int] = arguments.targets.tolist()
    return classes


def class_integer(arguments: Arguments) -> int:
    """Return the first image's class."""
    return int(arguments.targets[0])


def class_functions(arguments: Arguments) -> list[Callable[[Tensor], Tensor]]:
    """Return a function for each class, from an image's output (C,) or a batch's to the score."""
    return [partial(_class_score, index) for index in class_integers(arguments)]


def _class_score(index: int, output: Tensor) -> Tensor:
    return output[..., index]


@dataclass(frozen=True)
class ArgumentTypes:
    """The types in which an implementation gets its arguments."""

    rows: RowForm
    layer: Callable[[Arguments], object]
    """One of `layer_module`, `layer_name` and `layer_list`."""
    targets: Callable[[Arguments], object]
    """One of `class_tensor`, `class_integers`, `class_integer` and `class_functions`."""

    def values(self, arguments: Arguments) -> dict[Role, object]:
        """Return the arguments in these types."""
        images = arguments.images
        return {
            "model": arguments.model,
            "layer": self.layer(arguments),
            "images": images[0] if self.rows == "images" else images,
            "targets": self.targets(arguments),
        }


@dataclass(frozen=True, eq=False)
class Cam:
    """A CAM implementation as a `CamFunction`."""

    implementation: Implementation
    """The function, object or class."""
    name: str
    """The implementation's name in messages."""
    form: RecognisedForm
    options: Mapping[str, object] = field(default_factory=dict)
    """Further keyword arguments of the class or the call."""
    types: ArgumentTypes | None = None
    """The types of arguments; None: each call finds those that work, because an implementation
    that knows its layer can't be tried on another network."""

    def __call__(
        self, model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor
    ) -> Tensor:
        """Compute the maps. See `CamFunction`.

        Raises:
            BenchError: If the implementation returns something else than maps.
        """
        arguments = Arguments(model, layer, images, targets)
        if self.types is None:
            return first_attempt(self, arguments).maps
        return self.maps(arguments, self.types)

    def maps(self, arguments: Arguments, types: ArgumentTypes) -> Tensor:
        """Compute the maps (B, h, w) with arguments of the given types."""
        if types.rows == "batch":
            return as_maps(self._answer(arguments, types), arguments.images, self.name)
        maps = []
        for row in range(len(arguments.images)):
            single = arguments.row(row)
            maps.append(as_maps(self._answer(single, types), single.images, self.name))
        return torch.cat(maps)

    def _answer(self, arguments: Arguments, types: ArgumentTypes) -> object:
        """Call the implementation, and return its answer unchanged."""
        form = self.form
        values = types.values(arguments)
        call_options = self._options_of(form.call)
        if form.made_with is None:
            return form.call.call(self.implementation, values, call_options)
        class_options = self._options_of(form.made_with)
        explainer = form.made_with.call(self.implementation, values, class_options)
        answer: object = HID_AN_ERROR
        context = explainer if hasattr(explainer, "__enter__") else nullcontext(explainer)
        with context:
            if "scores" in form.call.roles.values():
                values["scores"] = arguments.model(arguments.images)
            answer = form.call.call(getattr(explainer, form.method), values, call_options)
        if answer is HID_AN_ERROR:
            raise RuntimeError(f"{self.name} hid an error at the end of its `with` block")
        return answer

    def _options_of(self, signature: Signature) -> dict[str, object]:
        """Return the options that the class or the call gets."""
        options = self.options.items()
        return {name: value for name, value in options if self._owner(name) is signature}

    def _owner(self, option: str) -> Signature | None:
        """Return the signature that has an option by name, otherwise one with `**kwargs`."""
        signatures = self.form.signatures
        for signature in signatures:
            if option in signature.options:
                return signature
        return next((entry for entry in signatures if entry.takes_any_option), None)

    def takes(self, option: str) -> bool:
        """Return True if the class or the call has a parameter of this name."""
        return any(option in signature.options for signature in self.form.signatures)

    def check_options(self) -> None:
        """Raise BenchError if neither the class nor the call takes an option."""
        known = sorted({name for signature in self.form.signatures for name in signature.options})
        for option in self.options:
            if self._owner(option) is None:
                raise unknown_name("option", option, known, place=f"of {self.name}")


@dataclass(frozen=True)
class Attempt:
    """Types that work, and the maps that they give."""

    types: ArgumentTypes
    maps: Tensor


def first_attempt(cam: Cam, arguments: Arguments, place: str = "") -> Attempt:
    """Return the first types that give maps.

    Args:
        cam: The implementation.
        arguments: The arguments of the trial.
        place: The network that is called, for the message.

    Raises:
        BenchError: If all types fail, with the errors.
    """
    errors: dict[str, None] = {}
    first_refusal: BenchError | None = None
    for types in _likely_types(cam.form):
        maps = result_or_error(partial(cam.maps, arguments, types))
        if isinstance(maps, BenchError):  # it ran, and returned no maps
            first_refusal = first_refusal or maps
        elif isinstance(maps, BaseException):
            errors[one_line(maps)] = None
        else:
            return _checked_by_single_images(cam, arguments, Attempt(types, maps))
    if first_refusal is not None:
        raise first_refusal
    raise refusal(
        f"{cam.name!r}, defined as {definition(cam.implementation)}, was called{place} as "
        f"{FORMS[cam.form.name].example} and raised {'; '.join(list(errors)[:MOST_ERRORS])}"
    )


def _likely_types(form: RecognisedForm) -> Iterator[ArgumentTypes]:
    """Yield the types to try, the likeliest first."""
    layer = form.parameter_of("layer")
    layers = [layer_module, layer_name, layer_list]
    if not layer:
        layers = [layer_module]
    elif layer.endswith("s"):
        layers = [layer_list, layer_module, layer_name]
    elif "name" in layer:
        layers = [layer_name, layer_module, layer_list]
    rows: Sequence[RowForm] = ("batch", "batches of one", "images")
    if re.search(SINGLE_IMAGE, form.parameter_of("images")):
        rows = ("batches of one", "images", "batch")
    for row_form in rows:
        targets = [class_tensor, class_integers, class_functions]
        if not form.parameter_of("targets"):
            targets = [class_tensor]
        elif row_form != "batch":
            targets = [class_integer, *targets]
        for layer_type, target_type in product(layers, targets):
            yield ArgumentTypes(row_form, layer_type, target_type)


def _checked_by_single_images(cam: Cam, arguments: Arguments, attempt: Attempt) -> Attempt:
    """Return the attempt if single images with one integer each give proportional maps.

    A function of one class may take a tensor of several, and explain their sum for every image.
    Otherwise, return the types of single images.
    """
    targets = cam.form.parameter_of("targets")
    takes_one_class = bool(targets) and not targets.endswith("s")
    if attempt.types.rows != "batch" or not takes_one_class:
        return attempt
    single_rows: Sequence[RowForm] = ("batches of one", "images")
    for rows in single_rows:
        types = ArgumentTypes(rows, attempt.types.layer, class_integer)
        maps = result_or_error(partial(cam.maps, arguments, types))
        if isinstance(maps, BaseException):
            continue
        is_same = maps.shape == attempt.maps.shape and _is_proportional(maps, attempt.maps)
        return attempt if is_same else Attempt(types, maps)
    return attempt


def _is_proportional(maps: Tensor, others: Tensor) -> bool:
    """Return True if each map (B, h, w) is a multiple of the other one, up to rounding."""
    flat = maps.detach().double().flatten(1).cpu()
    other_flat = others.detach().double().flatten(1).cpu()
    products = (flat * other_flat).sum(1)
    lengths = flat.norm(dim=1) * other_flat.norm(dim=1)
    return bool((products >= (1 - 1e-4) * lengths).all())


def refusal(problem: str) -> BenchError:
    """Return the error about an implementation that can't be called, with all forms."""
    forms = "; ".join(f"{name}: {form.example}" for name, form in FORMS.items())
    return BenchError(
        f"{problem}. Write a function cam(model, layer, images, targets) that returns a map for "
        "each image, or name its form, as in form: model_layer_images_targets "
        f"(--form model_layer_images_targets). The forms are {forms}."
    )
