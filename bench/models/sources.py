"""Where a network comes from: embedded, torchvision's, timm's or a user's own, before its
weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from math import floor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from axiom_bench.cutting.numerics import XY
from axiom_bench.data.preprocessing import RGB, Preprocessing
from axiom_bench.embedded import networks, patches, planted, scenes
from axiom_bench.errors import BenchError, unknown
from axiom_bench.models import weights
from axiom_bench.models.spec import ModelSpec
from axiom_bench.models.user_code import import_function
from axiom_bench.models.weights import Weights

FRAMES, BYTES = (
    16,
    255,
)  # of a video where no data say how many, and the largest value of its pixels
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Source:
    """One network before its weights: how to build it, what it expects, its published weights by
    name, and what a reader must know of its values. Names of classes count where the network has as
    many. variants: arguments with which others may have built it, where it takes a number of
    classes. accuracy: published for the weights; 0 if unknown.
    """

    build: Callable[..., nn.Module]
    preprocessing: Preprocessing
    published: Callable[[str], Weights]
    classes: tuple[str, ...] | None = None
    note: str = ""
    variants: tuple[Mapping[str, Any], ...] = ()
    accuracy: float = 0.0


def find_source(spec: ModelSpec) -> Source:
    """The network that a spec names. Raises BenchError, with the nearest names, where there is
    none.
    """
    sources = {"embedded": _embedded, "torchvision": _torchvision, "timm": _timm, "user": _user}
    if spec.source not in sources:
        raise unknown("model source", spec.source, sources)
    return sources[spec.source](spec)


def _embedded(spec: ModelSpec) -> Source:
    of_planted: Mapping[str, Callable[..., nn.Module]] = {**planted.BUILDERS, **planted.OF_BOXES}
    builders = {**networks.BUILDERS, **of_planted}
    if spec.architecture not in builders:
        raise unknown("embedded model", spec.architecture, builders)
    build = partial(builders[spec.architecture], **spec.kwargs)
    is_planted = spec.architecture in of_planted

    def published(name: str) -> Weights:
        files = {"default": None} if is_planted else networks.weights_files(spec.architecture)
        if name not in files:
            raise unknown(f"weights of {spec.architecture}", name, files)
        if (file := files[name]) is not None:
            return weights.read(file)
        state = build().state_dict()
        return Weights(state, "by construction", weights.state_sha256(state))

    kind, channels = networks.KINDS.get(spec.architecture, scenes.FEW), 1
    classes = kind.classes
    if is_planted:
        kind, channels, classes = (
            patches.KINDS.get(spec.kwargs.get("axes", 2), kind),
            RGB,
            patches.CLASSES,
        )
    preprocessing = Preprocessing(kind.space[0], kind.space[0], networks.MEAN, networks.STD)
    if len(kind.space) != len(XY):  # arrays
        mean, std = networks.MEAN[:channels], networks.STD[:channels]
        preprocessing = Preprocessing(None, None, mean, std, shape=(channels, *kind.space))
    note = "" if spec.weights is None else networks.NOTES.get(spec.architecture, "")
    return Source(build, preprocessing, published, classes, note)


def _torchvision(spec: ModelSpec) -> Source:
    from axiom_bench.data.torchvision_import import (
        torchvision,
    )  # here: it takes as long as importing torch

    of_video = torchvision.models.list_models(module=torchvision.models.video)
    names = [*torchvision.models.list_models(module=torchvision.models), *of_video]
    if spec.architecture not in names:
        raise unknown("torchvision classifier", spec.architecture, names)
    members = torchvision.models.get_model_weights(spec.architecture)

    def member(name: str) -> Any:
        if name == "default":
            return members.DEFAULT
        if name not in members.__members__:
            raise unknown(
                f"set of weights of {spec.architecture}",
                name,
                ["default", *(entry.name for entry in members)],
            )
        return members[name]

    def published(name: str) -> Weights:
        entry = member(
            name
        )  # from torchvision's cache or the network, with the hash in the file's name checked
        try:
            state = entry.get_state_dict(map_location="cpu", check_hash=True, progress=False)
        except (OSError, RuntimeError, HTTPException) as error:
            raise _no_download(spec.architecture, entry.url, error) from error
        file = Path(torch.hub.get_dir(), "checkpoints", Path(entry.url).name)
        return Weights(state, str(entry), weights.file_sha256(file))

    # A file from elsewhere, and random weights, take the standard input: that of the architecture's
    # first weights.
    is_published = spec.weights is not None and spec.weights_file is None
    entry = member(str(spec.weights)) if is_published else next(iter(members))
    expects, classes = entry.transforms(), tuple(entry.meta.get("categories") or ())
    mean, std, sides = (
        tuple(expects.mean),
        tuple(expects.std),
        (expects.resize_size[0], expects.crop_size[0]),
    )
    preprocessing = Preprocessing(*sides, mean, std, expects.interpolation.value)
    if spec.architecture in of_video:  # of frames of bytes
        shape = len(mean), FRAMES, *expects.crop_size
        mean, std = (tuple(BYTES * value for value in values) for values in (mean, std))
        preprocessing = Preprocessing(None, None, mean, std, shape=shape)
    kwargs, variants = dict(spec.kwargs), list[Mapping[str, Any]]([{}])
    if spec.architecture in ("googlenet", "inception_v3"):
        # What their builders switch on by themselves for published weights, which we load
        # ourselves: they rescale their input inside the network, and their files hold auxiliary
        # heads (idle in eval mode).
        kwargs = {
            "transform_input": True,
            "aux_logits": True,
            "init_weights": spec.weights is None,
            **kwargs,
        }
        variants += [{"aux_logits": False}]
    if spec.architecture.startswith("vit_"):  # built for one size of images
        kwargs = {"image_size": expects.crop_size[0], **kwargs}
    build = partial(torchvision.models.get_model, spec.architecture, weights=None, **kwargs)
    # Of a folder's file nobody says which set it is: `default` stands for the one of the lowest
    # accuracy.
    sets = [each for each in members if spec.weights in ("default", each.name)]
    measured = [
        each.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        for each in sets
        if spec.architecture not in of_video
    ]
    accuracy = min(measured, default=0.0) / 100
    return Source(
        build, preprocessing, published, classes, variants=tuple(variants), accuracy=accuracy
    )


def _no_download(architecture: str, origin: str, error: Exception) -> BenchError:
    return BenchError(
        f"The weights of {architecture} can't be downloaded from {origin} "
        f"({str(error).splitlines()[0]}); set model.weights_folder to a folder with "
        f"{architecture}.safetensors (or .pth), which serves several models, model.weights to one "
        "such file, or model.weights=null for random weights."
    )


def _timm(spec: ModelSpec) -> Source:
    import axiom_bench.data.torchvision_import  # noqa: F401 - here: it takes seconds, and timm imports torchvision

    try:
        import timm
    except ImportError as error:
        raise BenchError(
            "timm's models need timm: pip install '.[timm]' in axiom-bench's checkout."
        ) from error
    if not timm.is_model(spec.architecture.split(".")[0]):
        raise unknown("timm model", spec.architecture, timm.list_models())

    def published(name: str) -> Weights:
        architecture = spec.architecture if name == "default" else f"{spec.architecture}.{name}"
        try:
            state = timm.create_model(architecture, pretrained=True, **spec.kwargs).state_dict()
        except (OSError, RuntimeError, ValueError) as error:
            raise _no_download(architecture, "timm's hub", error) from error
        return Weights(state, f"timm {architecture}", weights.state_sha256(state))

    expects = timm.get_pretrained_cfg(spec.architecture)
    height, width = expects.input_size[1:]
    sides = floor(height / expects.crop_pct), floor(width / expects.crop_pct)
    resize = sides if expects.crop_mode == "squash" else sides[0]
    preprocessing = Preprocessing(resize, height, expects.mean, expects.std, expects.interpolation)
    build = partial(timm.create_model, spec.architecture, pretrained=False, **spec.kwargs)
    return Source(build, preprocessing, published, _timm_classes(expects), variants=({},))


def _timm_classes(expects: Any) -> tuple[str, ...]:
    """The names of the classes that timm has for a network's weights; () where it has none."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if expects.label_names:
        return tuple(map(str, expects.label_names))
    subset = infer_imagenet_subset(expects)
    return tuple(ImageNetInfo(subset).label_descriptions(detailed=False)) if subset else ()


def _user(spec: ModelSpec) -> Source:
    def published(name: str) -> Weights:
        raise BenchError(
            f"Your own network {spec.name!r} has no weights called {name!r}; set model.weights to "
            "a .safetensors, .pth or .pt file, or model.weights=as_built for those that "
            f"{spec.architecture} loads."
        )

    made = import_function(spec.architecture)
    build = (
        partial(copy.deepcopy, made)
        if isinstance(made, nn.Module)
        else partial(made, **spec.kwargs)
    )
    return Source(build, Preprocessing(None, None, IMAGENET_MEAN, IMAGENET_STD), published)
