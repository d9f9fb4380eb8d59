"""Where networks come from: embedded ones, torchvision's, timm's and a user's own."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from importlib.machinery import SourceFileLoader
from math import floor
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.embedded import networks, patches, planted, scenes
from axiom_bench.errors import BenchError, unknown
from axiom_bench.models import weights
from axiom_bench.models.spec import ModelSpec
from axiom_bench.models.weights import Weights

FROM_FILE = "axiom_bench_user_"  # how modules are named that are imported from a file
EXPECTED = "give module:function or path/to/file.py:function, where function(**kwargs) returns an nn.Module"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _TextLoader(SourceFileLoader):
    """Compiles a module's text, which is in the key: bytecode is that of any text of the same length and second."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Raises OSError: so no bytecode is read or written."""
        raise OSError(f"the bytecode of {path} isn't used")


@dataclass(frozen=True)
class Source:
    """One network before its weights: how to build it, what it expects, its published weights by name, and what a
    reader must know of its values. Also the names of the weights' classes, which count where the network has as
    many."""

    build: Callable[[], nn.Module]
    preprocessing: Preprocessing
    published: Callable[[str], Weights]
    classes: tuple[str, ...] | None = None
    note: str = ""


def find(spec: ModelSpec) -> Source:
    """The network that a spec names. Raises BenchError, with the nearest names, where there is none."""
    sources = {"embedded": _embedded, "torchvision": _torchvision, "timm": _timm, "user": _user}
    if spec.source not in sources:
        raise unknown("model source", spec.source, sources)
    return sources[spec.source](spec)


def _embedded(spec: ModelSpec) -> Source:
    builders: Mapping[str, Callable[..., nn.Module]] = {**networks.BUILDERS, **planted.BUILDERS}
    if spec.architecture not in builders:
        raise unknown("embedded model", spec.architecture, builders)
    build = partial(builders[spec.architecture], **spec.kwargs)
    is_planted = spec.architecture in planted.BUILDERS

    def published(name: str) -> Weights:
        files = {"default": None} if is_planted else networks.weights_files(spec.architecture)
        if name not in files:
            raise unknown(f"weights of {spec.architecture}", name, files)
        if (file := files[name]) is not None:
            return weights.read(file)
        state = build().state_dict()
        return Weights(state, "by construction", weights.state_sha256(state))

    classes = patches.CLASSES if is_planted else scenes.CLASSES
    note = "" if spec.weights is None else networks.NOTES.get(spec.architecture, "")
    return Source(build, Preprocessing(96, 96, networks.MEAN, networks.STD), published, classes, note)


def _torchvision(spec: ModelSpec) -> Source:
    from axiom_bench.data.torchvision_import import torchvision  # here: it takes as long as importing torch

    names = torchvision.models.list_models(module=torchvision.models)
    if spec.architecture not in names:
        raise unknown("torchvision classifier", spec.architecture, names)
    members = torchvision.models.get_model_weights(spec.architecture)

    def member(name: str) -> Any:
        if name == "default":
            return members.DEFAULT
        if name not in members.__members__:
            raise unknown(
                f"set of weights of {spec.architecture}", name, ["default", *(entry.name for entry in members)]
            )
        return members[name]

    def published(name: str) -> Weights:
        entry = member(name)  # from torchvision's cache or the network, with the hash in the file's name checked
        try:
            state = entry.get_state_dict(map_location="cpu", check_hash=True, progress=False)
        except (OSError, RuntimeError, HTTPException) as error:
            raise _no_download(spec.architecture, entry.url, error) from error
        file = Path(torch.hub.get_dir(), "checkpoints", Path(entry.url).name)
        return Weights(state, str(entry), weights.file_sha256(file))

    # A file from elsewhere, and random weights, take the standard input: that of the architecture's first weights.
    is_published = spec.weights is not None and spec.weights_file is None
    entry = member(str(spec.weights)) if is_published else next(iter(members))
    expects, classes = entry.transforms(), tuple(entry.meta.get("categories") or ())
    mean, std, sides = tuple(expects.mean), tuple(expects.std), (expects.resize_size[0], expects.crop_size[0])
    kwargs = dict(spec.kwargs)
    if spec.architecture in ("googlenet", "inception_v3"):
        # What their builders switch on by themselves for published weights, which we load ourselves: they rescale their
        # input inside the network, and their files hold auxiliary heads (idle in eval mode).
        kwargs = {"transform_input": True, "aux_logits": True, "init_weights": spec.weights is None, **kwargs}
    build = partial(torchvision.models.get_model, spec.architecture, weights=None, **kwargs)
    return Source(build, Preprocessing(*sides, mean, std, expects.interpolation.value), published, classes)


def _no_download(architecture: str, origin: str, error: Exception) -> BenchError:
    return BenchError(
        f"The weights of {architecture} can't be downloaded from {origin} ({str(error).splitlines()[0]}); "
        f"set model.weights_folder to a folder with {architecture}.safetensors (or .pth), which serves several models, "
        "model.weights to one such file, or model.weights=null for random weights."
    )


def _timm(spec: ModelSpec) -> Source:
    import axiom_bench.data.torchvision_import  # noqa: F401 - here: it takes seconds, and timm imports torchvision

    try:
        import timm
    except ImportError as error:
        raise BenchError("timm's models need timm: pip install '.[timm]' in axiom-bench's checkout.") from error
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
    return Source(build, preprocessing, published, _timm_classes(expects))


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
            f"Your own network {spec.name!r} has no weights called {name!r}; set model.weights to a .safetensors, "
            ".pth or .pt file, or model.weights=null for random weights."
        )

    build = partial(import_function(spec.architecture), **spec.kwargs)
    return Source(build, Preprocessing(None, None, IMAGENET_MEAN, IMAGENET_STD), published)


def import_function(path: str, setting: str = "model.architecture", expected: str = EXPECTED) -> Callable[..., Any]:
    """The function (or class) that builds what a setting names. Raises BenchError where there is none at that path."""
    where, colon, name = path.rpartition(":")
    if not colon:
        where, _, name = path.rpartition(".")
    if not where or not name:
        raise BenchError(f"{setting}={path!r} names no function; {expected}.")
    import axiom_bench.data.torchvision_import  # noqa: F401 - here: it takes seconds, and a user's module may need it

    try:
        module = _from_file(Path(where).expanduser()) if where.endswith(".py") else importlib.import_module(where)
    except (Exception, SystemExit) as error:  # importing runs the user's code, which may raise anything
        raise BenchError(
            f"{setting}={path!r} can't be imported ({type(error).__name__}: {error}); {expected}."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise unknown(f"function in {where}", name, [key for key in vars(module) if not key.startswith("_")])
    return function


def called(build: Callable[[], Any], setting: str) -> Any:
    """What a user's class or function makes without arguments. Raises BenchError where it raises anything."""
    try:
        return build()
    except (Exception, SystemExit) as error:
        raise BenchError(f"{setting} can't be made without arguments ({type(error).__name__}: {error}).") from error


def _from_file(path: Path) -> ModuleType:
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]  # two files may have the same stem
    name = f"{FROM_FILE}{path.stem}_{place}"
    loader = _TextLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise ImportError(f"{path} isn't a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their own module up there
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[module.__name__]  # as `import` does
        raise
    return module
