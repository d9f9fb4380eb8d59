"""Find what the maps of a CAM implementation depend on that they shouldn't, and what they ignore.

`DEPENDENCES` lists situations, such as train mode, with the code that computes the maps in them.
The maps must stay those of the case, or differ from them. The code is also shown to the reader. Its
names are those of a call: `cam`, `model`, `layer`, `images` and `targets`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from axiom_bench.auditing.case import CALL, CamFunction, Case, Finding, names_of_call
from axiom_bench.isolation.foreign_calls import one_line, result_or_error
from axiom_bench.isolation.global_state import isolated_code, restored_global_state, seed_all

TOLERANCE = 1e-3  # of the largest value; float32 sums in another order stay below it
HALF_TOLERANCE = 0.1  # bfloat16 has 8 bits, and a map's sum over channels cancels some of them
IGNORED = "With another "  # the beginning of situations in which the maps must change


@dataclass(frozen=True)
class Dependence:
    """A situation in which the maps should stay the same, or should change."""

    key: str
    """The finding's key."""
    situation: str
    """The beginning of the sentence."""
    setup: str
    """The lines that compute `maps`."""
    tolerance: float = TOLERANCE
    """The largest change that is none, as a share of the largest value."""
    needs_gpu: bool = False

    @property
    def is_change_expected(self) -> bool:
        """True if the maps should change."""
        return self.situation.startswith(IGNORED)

    @property
    def code(self) -> str:
        """Lines that reproduce the finding. The last one fails as long as it remains."""
        lines = [
            "import torch",
            f"before = {CALL}.detach()",
            inspect.cleandoc(self.setup),
            "change = (maps.detach().to(before) - before).abs().max() / before.abs().max()",
            f"assert change {'>' if self.is_change_expected else '<='} {self.tolerance}",
        ]
        return "\n".join(lines)


DEPENDENCES = (
    Dependence(
        "batch_mates",
        "If each image is explained alone",
        """
        rows = zip(images.split(1), targets.split(1))
        maps = torch.cat([cam(model, layer, image, target) for image, target in rows])
        """,
    ),
    Dependence(
        "order",
        "If the images are in another order",
        "maps = cam(model, layer, images.flip(0), targets.flip(0)).flip(0)",
    ),
    Dependence(
        "class",
        f"{IGNORED}class",
        """
        num_classes = model(images).shape[1]
        shifts = range(1, min(num_classes, 5))
        maps = torch.stack(
            [cam(model, layer, images, (targets + shift) % num_classes) for shift in shifts]
        )
        """,
    ),
    Dependence(
        "weights",
        f"{IGNORED}weights",
        """
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        maps = cam(model, layer, images, targets)
        """,
    ),
    Dependence(
        "image",
        f"{IGNORED}image",
        "maps = cam(model, layer, torch.randn_like(images), targets)",
    ),
    Dependence(
        "draws",
        "If the call is repeated with another seed",
        """
        import numpy, random
        for set_seed in (torch.manual_seed, numpy.random.seed, random.seed):
            set_seed(1)
        maps = cam(model, layer, images, targets)
        """,
    ),
    Dependence(
        "train_mode",
        "If the model is in train mode and has dropout",
        """
        dropped = torch.nn.Sequential(torch.nn.Dropout(), model).train()
        maps = cam(dropped, layer, images, targets)
        """,
    ),
    Dependence(
        "no_grad",
        "Inside torch.no_grad()",
        """
        with torch.no_grad():
            maps = cam(model, layer, images, targets)
        """,
    ),
    Dependence(
        "inference_mode",
        "Inside torch.inference_mode()",
        """
        with torch.inference_mode():
            maps = cam(model, layer, images, targets)
        """,
    ),
    Dependence(
        "half_precision",
        "In bfloat16",
        "maps = cam(model.bfloat16(), layer, images.bfloat16(), targets)",
        tolerance=HALF_TOLERANCE,
    ),
    Dependence(
        "channels_last",
        "In the memory format channels_last",
        """
        last = images.to(memory_format=torch.channels_last)
        maps = cam(model.to(memory_format=torch.channels_last), layer, last, targets)
        """,
    ),
    Dependence(
        "other_hooks",
        "If the layer has other hooks",
        """
        hook = layer.register_forward_hook(lambda *_: None)
        backward_hook = layer.register_full_backward_hook(lambda *_: None)
        maps = cam(model, layer, images, targets)
        hooks = {**layer._forward_hooks, **layer._backward_hooks}
        assert {hook.id, backward_hook.id} <= hooks.keys(), 'the call removes them'
        """,
    ),
    Dependence(
        "device",
        "On the GPU",
        "maps = cam(model.cuda(), layer, images.cuda(), targets.cuda())",
        needs_gpu=True,
    ),
)
CONSTANT_CODE = f"maps = {CALL}.detach()\nassert (maps.amax((1, 2)) > maps.amin((1, 2))).any()"


@dataclass(frozen=True, eq=False)
class Probe:
    """A CAM function on a case."""

    cam: CamFunction
    case: Case

    @cached_property
    def maps(self) -> Tensor:
        """The maps of the case."""
        return self.maps_of(f"maps = {CALL}")

    def maps_of(self, code: str) -> Tensor:
        """Return the maps (B, h, w) that code computes on a copy of the case, in float64.

        All random states begin with the same seed, so that draws aren't taken for a dependence.
        """
        names = names_of_call(self.cam, self.case)
        seed_all(0)
        exec(f"import torch\n{inspect.cleandoc(code)}", names)
        maps = names["maps"]
        assert isinstance(maps, Tensor)
        return maps.detach().cpu().double()

    def sentence(self, dependence: Dependence) -> str | None:
        """Return the sentence about a dependence; None if the maps are as they should be."""
        situation = dependence.situation
        maps = result_or_error(lambda: self.maps_of(dependence.setup))
        if isinstance(maps, AssertionError) and str(maps).startswith("the call "):
            return f"{situation}, {maps}."
        if isinstance(maps, BaseException):
            return f"{situation}, the call raises {one_line(maps)}."
        size = self.maps.shape
        if maps.shape[-len(size) :] != size:
            if dependence.is_change_expected:
                return None
            return f"{situation}, the maps have another shape, {tuple(maps.shape)}."
        change = difference(maps, self.maps)
        if not dependence.is_change_expected and change > dependence.tolerance:
            return f"{situation}, the maps change by up to {100 * change:.3g} % of their maximum."
        # maps that are all zero prove nothing
        if dependence.is_change_expected and change <= dependence.tolerance and self.maps.any():
            subject = situation.removeprefix(IGNORED)
            return f"The maps ignore the {subject}: with another {subject}, they are the same."
        return None

    @property
    def is_constant(self) -> bool:
        """True if every map has one value, also the maps of other classes."""
        of_other_classes = next(entry for entry in DEPENDENCES if entry.key == "class")
        other_maps = result_or_error(lambda: self.maps_of(of_other_classes.setup))
        if isinstance(other_maps, BaseException) or self.maps[0].numel() == 1:
            return False
        flat = torch.cat([self.maps[None], other_maps]).flatten(2)
        spread = flat.amax(2) - flat.amin(2)
        return bool((spread <= TOLERANCE * flat.abs().amax(2)).all())


def find_dependences(cam: CamFunction, case: Case) -> list[Finding]:
    """Return what a CAM function's maps depend on that they shouldn't, and what they ignore.

    Args:
        cam: The function.
        case: The network, which is copied, and the images.

    Returns:
        A finding per dependence; none if the function raises on the case itself.
    """
    probe = Probe(cam, case)
    findings = []
    with isolated_code():
        if isinstance(result_or_error(lambda: probe.maps), BaseException):
            return []  # `find_effects` reports it
        for dependence in DEPENDENCES:
            if dependence.needs_gpu and not torch.cuda.is_available():
                continue
            with restored_global_state():
                sentence = probe.sentence(dependence)
            if sentence is not None:
                findings.append(Finding(dependence.key, sentence, dependence.code))
        if probe.is_constant:
            sentence = "Every map is constant: all of its positions have the same value."
            findings.append(Finding("constant_map", sentence, CONSTANT_CODE))
    return findings


def difference(maps: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest magnitude; NaN equals NaN."""
    maps = maps.nan_to_num()
    expected = expected.nan_to_num()
    largest = float(expected.abs().max())
    error = float((maps - expected).abs().max())
    return error / largest if largest else error
