"""Find the network that a spec names: embedded, torchvision's, timm's, a checkpoint of transformers
a YOLO of ultralytics or a user's own, before it gets its weights.

Each source says how to build the network, and what its published weights expect. `load` does the
rest in the same way for all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from math import floor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from axiom_bench.cutting.numerics import XY
from axiom_bench.cutting.tokens import Reshape
from axiom_bench.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, RGB, Preprocessing
from axiom_bench.embedded import captioner, networks, patches, planted, scenes
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.kinds import home_expanded
from axiom_bench.models import weights
from axiom_bench.models.spec import AS_BUILT, ModelSpec
from axiom_bench.models.user_code import import_function
from axiom_bench.models.weights import Weights

FRAMES = 16  # the length of a video if no data give another one
BYTES = 255  # the largest value of a video's pixels


@dataclass(frozen=True)
class Source:
    """One network before it gets its weights, as `load_model` asks for it."""

    build: Callable[..., nn.Module]  # builds the network with random weights
    preprocessing: Preprocessing  # the preprocessing that the network expects
    load_published: Callable[[str], Weights]  # loads published weights by their name
    # The names of the classes, which apply if the network has as many logits.
    classes: tuple[str, ...] | None = None
    note: str = ""  # what a reader must know about the model's values
    # Arguments, apart from the number of classes, with which a file's network may have been built.
    variants: tuple[Mapping[str, object], ...] = ()
    accuracy: float = 0.0  # the published accuracy of the weights; 0 if unknown
    output: str | None = None  # model.output, if the source knows it
    background: int | None = None  # model.background, if the source knows it
    reshape: Reshape | None = None  # the meaning of model.reshape=tokens, if it isn't the usual one
    weights_file: Path | None = None  # the file whose weights `build` loads itself
    dtype: torch.dtype = torch.float32  # the type of the weights


def find_source(spec: ModelSpec) -> Source:
    """Return the source of the network that a spec names.

    Raises:
        BenchError: if there is no such network; the nearest names are listed.
    """
    sources = {
        "embedded": _embedded,
        "torchvision": _torchvision,
        "timm": _timm,
        "huggingface": _huggingface,
        "ultralytics": _ultralytics,
        "user": _user,
    }
    if spec.source not in sources:
        raise unknown_name("model source", spec.source, sources)
    return sources[spec.source](spec)


def _embedded(spec: ModelSpec) -> Source:
    """Return a network of this package, trained or planted."""
    planted_builders: Mapping[str, Callable[..., nn.Module]]
    planted_builders = {**planted.BUILDERS, **planted.PLACED_BUILDERS}
    builders = {**networks.BUILDERS, **captioner.BUILDERS, **planted_builders}
    if spec.architecture not in builders:
        raise unknown_name("embedded model", spec.architecture, builders)
    build = partial(builders[spec.architecture], **spec.kwargs)
    is_planted = spec.architecture in planted_builders

    def published(name: str) -> Weights:
        files = {"default": None} if is_planted else networks.weights_files(spec.architecture)
        if name not in files:
            raise _unknown_weights(name, files, spec.architecture)
        file = files[name]
        if file is not None:
            return weights.read_weights(file)
        state = build().state_dict()
        return Weights(state, "by construction", weights.state_sha256(state))

    kind = networks.KINDS.get(spec.architecture, scenes.FEW)
    classes = kind.classes
    channels = 1
    if is_planted:
        kind = patches.KINDS.get(spec.kwargs.get("axes", 2), kind)
        classes = patches.CLASSES
        channels = RGB
    side = kind.space[0]
    preprocessing = Preprocessing(resize=side, crop=side, mean=networks.MEAN, std=networks.STD)
    if len(kind.space) != len(XY):  # the samples are arrays, not pictures
        preprocessing = Preprocessing(
            resize=None,
            crop=None,
            mean=networks.MEAN[:channels],
            std=networks.STD[:channels],
            shape=(channels, *kind.space),
        )
    note = "" if spec.weights is None else networks.NOTES.get(spec.architecture, "")
    return Source(build, preprocessing, published, classes, note)


def _unknown_weights(name: str, names: Iterable[str], architecture: str) -> BenchError:
    """Return the error for a set of weights that a network doesn't have."""
    known = [*names, "null (random weights)"]
    return unknown_name("set of weights", name, known, place=f"of {architecture}")


def _torchvision(spec: ModelSpec) -> Source:
    """Return a classifier of torchvision, of images or videos."""
    # Importing torchvision takes as long as importing torch, so only its networks do it.
    from axiom_bench.data.torchvision_import import torchvision

    video_names = torchvision.models.list_models(module=torchvision.models.video)
    names = [*torchvision.models.list_models(module=torchvision.models), *video_names]
    if spec.architecture not in names:
        raise unknown_name("torchvision classifier", spec.architecture, names)
    is_video = spec.architecture in video_names
    weights_sets = torchvision.models.get_model_weights(spec.architecture)

    def find_weights(name: str) -> Any:
        if name == "default":
            return weights_sets.DEFAULT
        if name not in weights_sets.__members__:
            known = ["default", *(entry.name for entry in weights_sets)]
            raise _unknown_weights(name, known, spec.architecture)
        return weights_sets[name]

    def published(name: str) -> Weights:
        entry = find_weights(name)
        try:
            # The file comes from torchvision's cache or the network. Its name has the checked hash.
            state = entry.get_state_dict(map_location="cpu", check_hash=True, progress=False)
        except (OSError, RuntimeError, HTTPException) as error:
            raise _no_download(spec.architecture, entry.url, error) from error
        file = Path(torch.hub.get_dir(), "checkpoints", Path(entry.url).name)
        return Weights(state, str(entry), weights.file_sha256(file))

    # Random weights and the user's files get the standard input: that of the first published
    # weights.
    is_published = spec.weights is not None and spec.weights_file is None
    entry = find_weights(str(spec.weights)) if is_published else next(iter(weights_sets))
    transforms = entry.transforms()
    classes = tuple(entry.meta.get("categories") or ())
    preprocessing = Preprocessing(
        resize=transforms.resize_size[0],
        crop=transforms.crop_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
    )
    if is_video:  # videos are arrays of bytes
        preprocessing = Preprocessing(
            resize=None,
            crop=None,
            mean=tuple(BYTES * value for value in transforms.mean),
            std=tuple(BYTES * value for value in transforms.std),
            shape=(len(transforms.mean), FRAMES, *transforms.crop_size),
        )

    kwargs = dict(spec.kwargs)
    variants: list[Mapping[str, object]] = [{}]
    if spec.architecture in ("googlenet", "inception_v3"):
        # Their builders switch this on for published weights, but we load the weights ourselves.
        # These networks rescale their input, and their files hold auxiliary heads (idle in eval
        # mode).
        kwargs.setdefault("transform_input", True)
        kwargs.setdefault("aux_logits", True)
        kwargs.setdefault("init_weights", spec.weights is None)
        variants.append({"aux_logits": False})
    if spec.architecture.startswith("vit_"):  # built for images of one size
        kwargs.setdefault("image_size", transforms.crop_size[0])
    build = partial(torchvision.models.get_model, spec.architecture, weights=None, **kwargs)

    # `default` may be a file of model.weights_folder, and nobody knows of which set it is. So the
    # lowest accuracy counts.
    accuracies = []
    for weights_set in weights_sets:
        if not is_video and spec.weights in ("default", weights_set.name):
            accuracies.append(weights_set.meta["_metrics"]["ImageNet-1K"]["acc@1"])
    return Source(
        build,
        preprocessing,
        published,
        classes,
        variants=tuple(variants),
        accuracy=min(accuracies, default=0.0) / 100,
    )


def _no_download(architecture: str, origin: str, error: Exception) -> BenchError:
    """Return the error for weights that can't be downloaded."""
    return BenchError(
        f"The weights of {architecture} can't be downloaded from {origin} "
        f"({str(error).splitlines()[0]}); set model.weights_folder to a folder with "
        f"{architecture}.safetensors (or .pth), which serves several models, model.weights to one "
        "such file, or model.weights=null for random weights."
    )


def _timm(spec: ModelSpec) -> Source:
    """Return a network of timm."""
    # timm imports torchvision, which takes seconds, so it is imported only for timm's networks.
    import axiom_bench.data.torchvision_import  # noqa: F401

    try:
        import timm
    except ImportError as error:
        raise BenchError(
            "timm's models need timm: pip install '.[timm]' in axiom-bench's checkout."
        ) from error
    if not timm.is_model(spec.architecture.split(".")[0]):
        raise unknown_name("timm model", spec.architecture, timm.list_models())

    def published(name: str) -> Weights:
        architecture = spec.architecture if name == "default" else f"{spec.architecture}.{name}"
        try:
            state = timm.create_model(architecture, pretrained=True, **spec.kwargs).state_dict()
        except (OSError, RuntimeError, ValueError) as error:
            raise _no_download(architecture, "timm's hub", error) from error
        return Weights(state, f"timm {architecture}", weights.state_sha256(state))

    name, _, tag = spec.architecture.partition(".")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(name)]
    if tag and tag not in tags:
        raise unknown_name("tag", tag, tags, place=f"of the weights of {name}")
    config = timm.get_pretrained_cfg(spec.architecture)
    height, width = config.input_size[1:]
    sides = (floor(height / config.crop_pct), floor(width / config.crop_pct))
    preprocessing = Preprocessing(
        resize=sides if config.crop_mode == "squash" else sides[0],
        crop=height,
        mean=config.mean,
        std=config.std,
        interpolation=config.interpolation,
    )
    build = partial(timm.create_model, spec.architecture, pretrained=False, **spec.kwargs)
    return Source(build, preprocessing, published, _timm_classes(config), variants=({},))


def _timm_classes(config: Any) -> tuple[str, ...]:
    """Return timm's names of the classes of a network's weights, or () if it has none."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if config.label_names:
        return tuple(map(str, config.label_names))
    subset = infer_imagenet_subset(config)
    if not subset:
        return ()
    return tuple(ImageNetInfo(subset).label_descriptions(detailed=False))


def _huggingface(spec: ModelSpec) -> Source:
    """Return the network of a checkpoint of transformers."""
    # transformers takes seconds, so only its networks import it.
    from axiom_bench.models.checkpoints import Checkpoint

    if spec.checkpoint is None:
        raise BenchError(
            "model=huggingface needs a checkpoint: set model.checkpoint to a name on the Hugging "
            "Face Hub, such as microsoft/resnet-50, or to a folder."
        )
    spec.check_checkpoint()
    checkpoint = Checkpoint.of(spec.checkpoint, spec.kwargs)

    def published(name: str) -> Weights:
        raise BenchError(
            f"{spec.name} has no weights called {name!r}; set model.weights=as_built for those of "
            "the checkpoint, null for random ones, or a file."
        )

    preprocessing, note = checkpoint.preprocessing()
    return Source(
        partial(checkpoint.build, spec.weights == AS_BUILT),
        preprocessing,
        published,
        note=note,
        output=checkpoint.output,
        background=checkpoint.background,
        reshape=checkpoint.reshape,
        dtype=checkpoint.dtype,
    )


def _ultralytics(spec: ModelSpec) -> Source:
    """Return the network of a checkpoint of ultralytics."""
    # ultralytics takes seconds, so only its networks import it.
    from axiom_bench.models.of_ultralytics import YoloCheckpoint

    file = None if spec.weights is None else home_expanded(spec.weights)
    if file is None or file.suffix != ".pt" or not file.is_file():
        name = file.name if file is not None and file.suffix == ".pt" else "yolo11n.pt"
        problem = "" if file is None else f", and {spec.weights} is none"
        raise BenchError(
            f"model=yolo needs a .pt file of ultralytics{problem}; set model.weights=FILE. Where "
            'there is a network, type `python -c "from ultralytics import YOLO; '
            f"YOLO('{name}')\"` to download one of its own."
        )

    def published(name: str) -> Weights:
        raise AssertionError(f"{name} is a file")

    checkpoint = YoloCheckpoint.of(file)
    return Source(
        partial(checkpoint.build, **spec.kwargs),
        checkpoint.preprocessing,
        published,
        checkpoint.classes,
        note=checkpoint.note if spec.layer == "default" else "",
        output=checkpoint.output,
        weights_file=file,
    )


def _user(spec: ModelSpec) -> Source:
    """Return the network that a user's function builds, or a user's network itself."""

    def published(name: str) -> Weights:
        raise BenchError(
            f"The network {spec.name!r} has no weights called {name!r}; set model.weights to a "
            ".safetensors, .pth or .pt file, or model.weights=as_built for those that "
            f"{spec.architecture} loads, or model.weights=null for random ones."
        )

    function = import_function(spec.architecture)
    build: Callable[..., nn.Module] = partial(function, **spec.kwargs)
    if isinstance(function, nn.Module):
        build = partial(copy.deepcopy, function)  # the user's own object stays unchanged
    preprocessing = Preprocessing(resize=None, crop=None, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return Source(build, preprocessing, published)
