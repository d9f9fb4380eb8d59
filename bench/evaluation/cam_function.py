"""Make a CAM function of a user's implementation: import it, recognise its form, and try it on a
tiny network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.evaluation.cam_call import Arguments, ArgumentTypes, Cam, first_attempt, refusal
from axiom_bench.evaluation.cam_forms import (
    FORMS,
    Implementation,
    definition,
    name_of,
    recognised_forms,
)
from axiom_bench.evaluation.specs import CamForm
from axiom_bench.isolation.global_state import isolated_code
from axiom_bench.models.user_code import import_function

EXPECTED = "give MODULE:NAME or FILE.py:NAME of a function or a class"
# A tensor's attribute is missing if the network was taken for the images.
MISSING_MODULE = r"'TinyNetwork' object has no attribute '(\w+)'"


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
    name = entry if isinstance(entry, str) else name_of(implementation)
    forms = recognised_forms(implementation, cast(CamForm | None, form))
    if not forms:
        fault = "fits no form of a CAM" if form is None else f"doesn't fit the form {form}"
        raise refusal(f"{name!r} is defined as {definition(implementation)}, which {fault}")
    errors: list[BenchError] = []
    for recognised in forms:
        cam = Cam(implementation, name, recognised, dict(options or {}))
        cam.check_options()
        try:
            types = _working_types(cam)
        except BenchError as error:
            knows_its_layer = len(forms) == 1 and not recognised.parameter_of("layer")
            if knows_its_layer or _reads_other_modules(error):
                return cam
            errors.append(error)
        else:
            return replace(cam, types=types)
    raise errors[0]


def _working_types(cam: Cam) -> ArgumentTypes:
    """Return the types of arguments that work on a tiny network, or raise BenchError."""
    with isolated_code():
        return first_attempt(cam, _tiny_arguments(), " on a tiny network").types


def _reads_other_modules(error: BenchError) -> bool:
    """Return True if a CAM reads modules by names that only the user's network has."""
    missing = re.search(MISSING_MODULE, str(error))
    return missing is not None and not hasattr(Tensor, missing[1])


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
