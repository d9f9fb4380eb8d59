"""Find what the maps of a CAM implementation depend on that they shouldn't, and what they ignore.

`DEPENDENCES` lists the checks. Each compares the maps of a case with those in another situation,
such as in train mode, and reports the size of the change or the error. The code's names are those
of a call: `cam`, `model`, `layer`, `images` and `targets`. Its last line fails as long as the
dependence remains.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from axiom_bench.auditing.case import CamFunction, Case, Finding
from axiom_bench.isolation.foreign_calls import one_line, quiet, result_or_error
from axiom_bench.isolation.global_state import hook_counts, restored_global_state, seed_all

TOLERANCE = 1e-3  # of the largest value; float32 sums in another order stay below it
MOST_CLASSES = 4  # other classes that are explained, in addition to the case's
HALF_TOLERANCE = 0.1  # bfloat16 has 8 bits, and a map's sum over channels cancels some of them


@dataclass(frozen=True)
class Dependence:
    """A situation in which the maps should stay the same, or should change."""

    key: str
    """The finding's key."""
    find: Callable[[Probe], str | None]
    """Return the sentence about the behaviour, or None."""
    code: str
    """Lines that reproduce it."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A CAM function on a case."""

    cam: CamFunction
    case: Case

    @cached_property
    def maps(self) -> Tensor:
        """The maps of the case."""
        return self.maps_of()

    def model(self) -> nn.Module:
        """Return a copy of the case's network."""
        return copy.deepcopy(self.case.model)

    def maps_of(
        self,
        model: nn.Module | None = None,
        layer: str | None = None,
        images: Tensor | None = None,
        targets: Tensor | None = None,
        context: AbstractContextManager[object] | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Return the maps (B, h, w) in float64, with some arguments other than the case's.

        All random states begin with the same seed, so that draws aren't taken for a dependence.

        Args:
            model: A network; None: a copy of the case's.
            layer: The layer's dotted name in it; None: the case's.
            images: The images; None: the case's.
            targets: The classes; None: the case's.
            context: A context in which the function is called.
            seed: The seed of torch, NumPy and Python.
        """
        model = self.model() if model is None else model
        images = self.case.images if images is None else images
        targets = self.case.targets if targets is None else targets
        images = images.clone()
        targets = targets.clone()
        module = model.get_submodule(layer or self.case.layer)
        seed_all(seed)
        with context or nullcontext():
            maps = self.cam(model, module, images, targets)
        return maps.detach().cpu().double()

    def changed(
        self, situation: str, maps_of: Callable[[], Tensor], tolerance: float = TOLERANCE
    ) -> str | None:
        """Return the sentence about an error or a change of the maps in a situation, which begins
        the sentence; None if the maps stay the same.
        """
        maps = result_or_error(maps_of)
        if isinstance(maps, BaseException):
            return f"{situation}, the call raises {one_line(maps)}."
        if maps.shape != self.maps.shape:
            return f"{situation}, the maps have another shape, {tuple(maps.shape)}."
        change = difference(maps, self.maps)
        if change <= tolerance:
            return None
        return f"{situation}, the maps change by up to {100 * change:.3g} % of their maximum."


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
    with quiet(), torch.inference_mode(False):
        for dependence in DEPENDENCES:
            with restored_global_state(), torch.enable_grad():
                if isinstance(result_or_error(lambda: probe.maps), BaseException):
                    return []  # `find_effects` reports it
                sentence = dependence.find(probe)
            if sentence is not None:
                findings.append(Finding(dependence.key, sentence, dependence.code))
    return findings


def difference(maps: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest magnitude; NaN equals NaN."""
    maps = maps.nan_to_num()
    expected = expected.nan_to_num()
    largest = float(expected.abs().max())
    error = float((maps - expected).abs().max())
    return error / largest if largest else error


def _batch_mates(probe: Probe) -> str | None:
    def each_alone() -> Tensor:
        rows = zip(probe.case.images.split(1), probe.case.targets.split(1), strict=True)
        return torch.cat([probe.maps_of(images=image, targets=target) for image, target in rows])

    return probe.changed("If each image is explained alone", each_alone)


def _order(probe: Probe) -> str | None:
    def reversed_images() -> Tensor:
        images = probe.case.images.flip(0)
        return probe.maps_of(images=images, targets=probe.case.targets.flip(0)).flip(0)

    return probe.changed("If the images are in another order", reversed_images)


def _maps_of_other_classes(probe: Probe) -> list[Tensor]:
    """Return the maps of up to MOST_CLASSES other classes of each image."""
    with torch.no_grad():
        num_classes = probe.model()(probe.case.images).shape[1]
    shifts = range(1, min(num_classes, MOST_CLASSES + 1))
    return [probe.maps_of(targets=(probe.case.targets + shift) % num_classes) for shift in shifts]


def _class(probe: Probe) -> str | None:
    return _ignored(probe, "class", lambda: _maps_of_other_classes(probe))


def _weights(probe: Probe) -> str | None:
    return _ignored(
        probe, "weights", lambda: [probe.maps_of(model=_with_random_weights(probe.model()))]
    )


def _with_random_weights(model: nn.Module) -> nn.Module:
    """Replace weights by normal draws of the same size, from a seed, and return the model."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise * max(float(parameter.abs().mean()), 0.1))
    return model


def _image(probe: Probe) -> str | None:
    def of_noise() -> list[Tensor]:
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(probe.case.images.shape, generator=generator, dtype=torch.float64)
        return [probe.maps_of(images=noise.to(probe.case.images))]

    return _ignored(probe, "image", of_noise)


def _ignored(probe: Probe, subject: str, variants: Callable[[], list[Tensor]]) -> str | None:
    """Return the sentence about maps that stay the same with another class, weights or image.

    Maps that are all zero prove nothing.
    """
    all_maps = result_or_error(variants)
    if isinstance(all_maps, BaseException):
        return f"With another {subject}, the call raises {one_line(all_maps)}."
    if not probe.maps.any() or not all_maps:
        return None
    for maps in all_maps:
        if maps.shape != probe.maps.shape or difference(maps, probe.maps) > TOLERANCE:
            return None
    return f"The maps ignore the {subject}: with another {subject}, they are the same."


def _constant(probe: Probe) -> str | None:
    other_maps = result_or_error(lambda: _maps_of_other_classes(probe))
    if isinstance(other_maps, BaseException) or probe.maps[0].numel() == 1:
        return None
    for maps in (probe.maps, *other_maps):
        flat = maps.flatten(1)
        spread = flat.amax(1) - flat.amin(1)
        if bool((spread > TOLERANCE * flat.abs().amax(1)).any()):
            return None
    return "Every map is constant: all of its positions have the same value."


def _draws(probe: Probe) -> str | None:
    return probe.changed("If the call is repeated with another seed", lambda: probe.maps_of(seed=1))


def _train_mode(probe: Probe) -> str | None:
    """Compare on a network with dropout before it, so that the mode matters."""

    def in_train_mode() -> Tensor:
        model = nn.Sequential(nn.Dropout(0.5), probe.model()).train()
        return probe.maps_of(model=model, layer=f"1.{probe.case.layer}")

    return probe.changed("If the model is in train mode and has dropout", in_train_mode)


def _no_grad(probe: Probe) -> str | None:
    return probe.changed("Inside torch.no_grad()", lambda: probe.maps_of(context=torch.no_grad()))


def _inference_mode(probe: Probe) -> str | None:
    return probe.changed(
        "Inside torch.inference_mode()", lambda: probe.maps_of(context=torch.inference_mode())
    )


def _half_precision(probe: Probe) -> str | None:
    def in_half_precision() -> Tensor:
        images = probe.case.images.bfloat16()
        return probe.maps_of(model=probe.model().bfloat16(), images=images)

    return probe.changed("In bfloat16", in_half_precision, HALF_TOLERANCE)


def _non_square(probe: Probe) -> str | None:
    """Compare the sides of a map with those of a wide image."""
    height, width = probe.case.images.shape[2:]
    images = torch.cat([probe.case.images] * (1 + 2 * height // width), 3)
    try:
        with torch.no_grad():
            probe.model()(images)
    except RuntimeError:
        return None  # the network itself takes images of one size only
    maps = result_or_error(lambda: probe.maps_of(images=images))
    if isinstance(maps, BaseException):
        return f"The call raises {one_line(maps)} with images of {_size(images)}."
    if maps.shape[2] >= maps.shape[1]:
        return None
    return f"The maps are {_size(maps)} for images of {_size(images)}: the axes are exchanged."


def _size(tensor: Tensor) -> str:
    height, width = tensor.shape[-2:]
    return f"{height} x {width}"


def _channels_last(probe: Probe) -> str | None:
    def in_channels_last() -> Tensor:
        model = probe.model()
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        images = probe.case.images.to(memory_format=torch.channels_last)
        return probe.maps_of(model=model, images=images)

    return probe.changed("In the memory format channels_last", in_channels_last)


def _other_hooks(probe: Probe) -> str | None:
    """Compare on a network with a forward hook and a backward hook of others on the layer."""
    model = probe.model()
    layer = model.get_submodule(probe.case.layer)
    backward_hook = layer.register_full_backward_hook(lambda *_: None)
    score = result_or_error(lambda: model(probe.case.images).sum())
    if isinstance(score, BaseException):  # an in-place operation follows the layer
        backward_hook.remove()
    layer.register_forward_hook(lambda *_: None)
    num_hooks = hook_counts(model)[probe.case.layer]
    sentence = probe.changed("If the layer has other hooks", lambda: probe.maps_of(model=model))
    num_removed = num_hooks - hook_counts(model)[probe.case.layer]
    if sentence is None and num_removed > 0:
        return f"The call removes {num_removed} of {num_hooks} hooks that others set on the layer."
    return sentence


def _device(probe: Probe) -> str | None:
    if not torch.cuda.is_available():
        return None

    def on_gpu() -> Tensor:
        case = probe.case
        return probe.maps_of(probe.model().cuda(), None, case.images.cuda(), case.targets.cuda())

    return probe.changed("On the GPU", on_gpu)


CALL = "cam(model, layer, images, targets)"
CLOSE = "torch.allclose({maps}, before, atol=1e-3 * float(before.abs().max()))"


def _code(call: str, setup: str = "", maps: str = "maps") -> str:
    """Return code that compares maps of the case with those of another call."""
    lines = ["import torch", f"before = {CALL}.detach()", setup, f"maps = {call}.detach()"]
    return "\n".join([*filter(None, lines), f"assert {CLOSE.format(maps=maps)}"])


def _code_of_ignored(call: str, setup: str) -> str:
    """Return code about maps that another call should change."""
    lines = ["import torch", f"before = {CALL}.detach()", setup, f"maps = {call}.detach()"]
    return "\n".join([*lines, f"assert not {CLOSE.format(maps='maps')}"])


def _code_inside(context: str) -> str:
    return "\n".join(
        [
            "import torch",
            f"before = {CALL}.detach()",
            f"with {context}:",
            f"    maps = {CALL}",
            f"assert {CLOSE.format(maps='maps')}",
        ]
    )


DEPENDENCES = (
    Dependence(
        "batch_mates",
        _batch_mates,
        _code("cam(model, layer, images[:1], targets[:1])").replace(", before,", ", before[:1],"),
    ),
    Dependence(
        "order",
        _order,
        _code("cam(model, layer, images.flip(0), targets.flip(0))", maps="maps.flip(0)"),
    ),
    Dependence(
        "class",
        _class,
        _code_of_ignored(
            "cam(model, layer, images, others)",
            "others = (targets + 1) % model(images).shape[1]",
        ),
    ),
    Dependence(
        "weights",
        _weights,
        _code_of_ignored(
            CALL,
            "for parameter in model.parameters():\n    torch.nn.init.normal_(parameter, std=0.3)",
        ),
    ),
    Dependence(
        "image",
        _image,
        _code_of_ignored("cam(model, layer, noise, targets)", "noise = torch.randn_like(images)"),
    ),
    Dependence(
        "constant_map",
        _constant,
        f"maps = {CALL}.detach()\nassert (maps.amax((1, 2)) > maps.amin((1, 2))).any()",
    ),
    Dependence("draws", _draws, _code(CALL)),
    Dependence(
        "train_mode",
        _train_mode,
        _code(
            "cam(dropped, layer, images, targets)",
            "dropped = torch.nn.Sequential(torch.nn.Dropout(), model).train()",
        ),
    ),
    Dependence("no_grad", _no_grad, _code_inside("torch.no_grad()")),
    Dependence("inference_mode", _inference_mode, _code_inside("torch.inference_mode()")),
    Dependence(
        "half_precision",
        _half_precision,
        _code(
            "cam(model.bfloat16(), layer, images.bfloat16(), targets)", maps="maps.to(before)"
        ).replace("1e-3", "0.1"),
    ),
    Dependence(
        "non_square",
        _non_square,
        "import torch\n"
        "wide = torch.cat([images, images, images], 3)\n"
        "maps = cam(model, layer, wide, targets)\n"
        "assert maps.shape[2] >= maps.shape[1]",
    ),
    Dependence(
        "channels_last",
        _channels_last,
        _code(
            "cam(model.to(memory_format=torch.channels_last), layer, last, targets)",
            "last = images.to(memory_format=torch.channels_last)",
        ),
    ),
    Dependence(
        "other_hooks",
        _other_hooks,
        _code(CALL, "hook = layer.register_forward_hook(lambda *_: None)")
        + "\nassert hook.id in layer._forward_hooks",
    ),
    Dependence(
        "device",
        _device,
        _code("cam(model.cuda(), layer, images.cuda(), targets.cuda())", maps="maps.cpu()"),
    ),
)
