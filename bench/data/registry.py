"""The data sets that have a name, and the kinds of data set that they are made of.

To add a data set: write a module with a `DataSet`, or with a function that returns the `Table` of a
layout of files. Add its line to KINDS, and a file to conf/data/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Annotated, Any, Union

from axiom_bench.data.base import DataSet, Seed, Selected, WithBackground, subset
from axiom_bench.data.embedded import (
    Captions,
    HardImages,
    MarkedScenes,
    Planted,
    Scenes,
    Signals,
    SyntheticShapes,
    Volumes,
)
from axiom_bench.data.layouts.arrays import arrays
from axiom_bench.data.layouts.classes import NetworkClasses
from axiom_bench.data.layouts.coco import coco
from axiom_bench.data.layouts.folder import folder
from axiom_bench.data.layouts.funnybirds import funnybirds
from axiom_bench.data.layouts.imagenet import imagenet
from axiom_bench.data.layouts.imagenet_s import imagenet_s
from axiom_bench.data.layouts.parquet_images import parquet
from axiom_bench.data.layouts.tar_shards import webdataset
from axiom_bench.data.layouts.voc import voc
from axiom_bench.data.layouts.wsol import wsol
from axiom_bench.data.loading import TARGET_RULES
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.data.pasted import PastedImages
from axiom_bench.data.qr_codes import QRCodes
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.kinds import (
    File,
    Name,
    check_group,
    check_values,
    described_values,
    shorten_for_error,
    signature,
    whole_number,
)

ARRAY_KINDS: Mapping[str, Callable[..., DataSet]] = {
    "signals": Signals,
    "volumes": Volumes,
    "arrays": arrays,
}
KINDS: Mapping[str, Callable[..., DataSet]] = {
    **ARRAY_KINDS,
    "captions": Captions,
    "scenes": Scenes,
    "planted": Planted,
    "scenes_marked": MarkedScenes,
    "synthetic_shapes": SyntheticShapes,
    "qr_codes": QRCodes,
    "imagenet": imagenet,
    "imagenet_s": imagenet_s,
    "voc": voc,
    "coco": coco,
    "folder": folder,
    "funnybirds": funnybirds,
    "webdataset": webdataset,
    "parquet": parquet,
    "wsol": wsol,
    "mosaic": MosaicImages,
    "pasted": PastedImages,
    "hard": HardImages,
}

SIZE = "a number of images, 1 or more, or null for all"
MAX_WORKERS = 256  # processes; each holds the data set
TARGET = described_values(" or ".join(map(repr, TARGET_RULES)), TARGET_RULES.__contains__)
# The settings of the loader, which every kind of data set has, and the values that they may have.
LOADING = {
    "kind": Name,
    "name": Name,
    "size": Annotated[
        int | None, described_values(SIZE, lambda value: value is None or value >= 1)
    ],
    "seed": Seed,
    "only_classes": Sequence[Name | Annotated[int, whole_number(0)]] | None,
    "leave_out": Sequence[File] | None,
    "only_correct": bool,
    "scaled_decoding": bool,
    "cache": File | None,
    "target": Annotated[str, TARGET] | None,
    "batch_size": Annotated[int, whole_number(1, "a number of rows")],
    "workers": Annotated[int, whole_number(0, "a number of processes", MAX_WORKERS)],
}
NEEDED = ("size", "seed", "batch_size", "workers")  # the settings that a run must have

# The parameter for the classes of the network, which some kinds of data set ask for. It isn't a
# setting.
NETWORK = "network"


def load_dataset(
    cfg: Mapping[str, Any],
    network: Callable[..., NetworkClasses] | None = None,
    background: int | None = None,
) -> DataSet:
    """Load the data set of one conf/data/ file.

    Args:
        cfg: The settings. `kind` names the class or function in KINDS, which gets the settings
            that it has parameters for.
        network: Returns the classes of the network that will see the images. Data sets that need
            them call it, with the shape of the samples if these are arrays.
        background: The output of the network that is no class of the data.

    Raises:
        BenchError: For an unknown kind or key, a missing root, or labels that can't be read.
    """
    parameters = check_settings(cfg)
    values = {key: cfg[key] for key in parameters if key in cfg}
    if "of" in values:  # the images that the settings of another data set choose
        source_cfg = values["of"]
        source = load_dataset(source_cfg, network, background)
        if source.shape is not None:
            raise BenchError(
                f"data={cfg['kind']} is made of pictures, and {source.name!r} holds arrays."
            )
        indices = subset(
            source,
            source_cfg.get("size"),
            source_cfg.get("seed", 0),
            source_cfg.get("only_classes"),
            source_cfg.get("leave_out"),
        )
        values["of"] = Selected(source, indices)
    if NETWORK in signature(KINDS[cfg["kind"]]):
        values[NETWORK] = network and (lambda *shape: network(*shape).without(background))
    try:
        dataset = KINDS[cfg["kind"]](**values)
    except OSError as error:  # no permission, or the folder was removed meanwhile
        raise BenchError(f"The data set {cfg['kind']!r} can't be read: {error}.") from error
    # A data set that is made of others has the background from `source` already.
    if background is None or "of" in values or dataset.unlabelled:
        return dataset
    return WithBackground(dataset, int(background or 0))


def check_loading(cfg: Mapping[str, object], prefix: str = "data.") -> None:
    """Check the settings that every kind of data set has, before a file is read.

    Raises:
        BenchError: For a value that such a setting can't have, and for a missing one.
    """
    check_values(cfg, LOADING, prefix)
    needed = NEEDED if prefix == "data." else ()
    for key in needed:
        if key not in cfg:
            raise BenchError(f"data.{key} isn't set; set data.{key}=VALUE.")
    source = cfg.get("of")
    if isinstance(source, Mapping):
        check_loading(source, f"{prefix}of.")


def setting_type(name: str) -> object:
    """Return the type annotation of the setting `data.<name>`; None if there is no such setting.

    The command line decides by this type whether a value such as the 5 of `data.name=5` is a text
    or a number. The kind of the data set may not be known at that time. If several kinds have a
    setting of this name with different types, the result is the union of the types.
    """
    annotations = [LOADING[name]] if name in LOADING else []
    for kind in KINDS.values():
        parameters = signature(kind)
        if name in parameters and name != NETWORK:
            annotations.append(parameters[name].annotation)
    return Union[tuple(annotations)] if annotations else None  # noqa: UP007 - a union of a list


def check_settings(cfg: Mapping[str, object], prefix: str = "data.") -> Mapping[str, Parameter]:
    """Check the settings of a data set before a file is read, and return its kind's parameters.

    Args:
        cfg: The entries below `data` of a run, with their `kind`.
        prefix: "data.", or "data.of." for the data set that it is made of.

    Raises:
        BenchError: For an unknown kind or setting, a missing one, or a value that it can't have.
    """
    kind = cfg.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise unknown_name("kind of data set", kind, KINDS)
    # The parameters of the kind's class or function are its settings, so that they are listed once.
    parameters = {**signature(KINDS[kind])}
    parameters.pop(NETWORK, None)
    for key in cfg:
        if key not in LOADING and key not in parameters:
            raise unknown_name(
                "setting", key, {*LOADING, *parameters}, place=f"of data set kind {kind!r}"
            )
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty and key not in cfg
    ]
    if missing:
        raise BenchError(f"A data set of kind {kind!r} needs {prefix}{missing[0]}.")
    annotations = {key: parameter.annotation for key, parameter in parameters.items()}
    check_values(cfg, LOADING | annotations, prefix)
    if "of" in parameters:
        source = cfg["of"]
        if not isinstance(source, Mapping):
            raise BenchError(
                "data.of is a data set, as data.of=imagenet on the command line, not "
                f"{shorten_for_error(source)}."
            )
        check_settings(check_group(f"{prefix}of", source), f"{prefix}of.")
    return parameters
