"""The data sets that have a name, and the kinds that they are made of.

To add one: a module with a `DataSet`, or with a function that returns the `Table` of a layout of
files, its line in KINDS, and a file in conf/data/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Annotated, Any, Union

from axiom_bench.data.base import DataSet, Seed, Selected, WithBackground, subset
from axiom_bench.data.embedded import (
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
from axiom_bench.data.loading import TARGET_RULES
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.data.pasted import PastedImages
from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import File, Name, check_group, check_values, shown, signature, whole, worded

OF_ARRAYS: Mapping[str, Callable[..., DataSet]] = {
    "signals": Signals,
    "volumes": Volumes,
    "arrays": arrays,
}
KINDS: Mapping[str, Callable[..., DataSet]] = {  # of pictures, and of arrays
    **OF_ARRAYS,
    "scenes": Scenes,
    "planted": Planted,
    "scenes_marked": MarkedScenes,
    "synthetic_shapes": SyntheticShapes,
    "imagenet": imagenet,
    "imagenet_s": imagenet_s,
    "voc": voc,
    "coco": coco,
    "folder": folder,
    "funnybirds": funnybirds,
    "webdataset": webdataset,
    "parquet": parquet,
    "mosaic": MosaicImages,
    "pasted": PastedImages,
    "hard": HardImages,
}


SIZE = "a number of images, 1 or more, or null for all"
MAX_WORKERS = 256  # processes; each holds the data set
LOADING = {  # settings of the loader, not of a data set, and what they may be
    "kind": Name,
    "name": Name,
    "size": Annotated[int | None, worded(SIZE, lambda value: value is None or value >= 1)],
    "seed": Seed,
    "only_classes": Sequence[Name | Annotated[int, whole(0)]] | None,
    "leave_out": Sequence[File] | None,
    "only_correct": bool,
    "scaled_decoding": bool,
    "cache": File | None,
    "target": Annotated[
        str, worded(" or ".join(map(repr, TARGET_RULES)), TARGET_RULES.__contains__)
    ]
    | None,
    "batch_size": Annotated[int, whole(1, "a number of rows")],
    "workers": Annotated[int, whole(0, "a number of processes", MAX_WORKERS)],
}
NEEDED = ("size", "seed", "batch_size", "workers")  # of a data set that a run loads


# a parameter that is no setting: the classes of the network, where a data set asks for them
NETWORK = "network"


def load_dataset(
    cfg: Mapping[str, Any],
    network: Callable[..., NetworkClasses] | None = None,
    background: int | None = None,
) -> DataSet:
    """The data set of one conf/data/ file: `kind` names its class or function, and it takes the
    keys that this has. network: gives the classes of the network that will see the images; called
    by data sets that need them, with the shape of samples that are arrays. background: the output
    of the network that is no class of the data.

    Raises BenchError for an unknown kind or key, a missing root, or labels that can't be read.
    """
    parameters = check_settings(cfg)
    values = {key: cfg[key] for key in parameters if key in cfg}
    if "of" in values:  # the images that the configuration of another data set chooses
        of = values["of"]
        dataset = load_dataset(of, network, background)
        if dataset.shape is not None:
            raise BenchError(
                f"data={cfg['kind']} is made of pictures, and {dataset.name!r} holds arrays."
            )
        values["of"] = Selected(
            dataset,
            subset(
                dataset,
                of.get("size"),
                of.get("seed", 0),
                of.get("only_classes"),
                of.get("leave_out"),
            ),
        )
    if NETWORK in signature(KINDS[cfg["kind"]]):
        values[NETWORK] = network and (lambda *shape: network(*shape).without(background))
    try:
        dataset = KINDS[cfg["kind"]](**values)
    except OSError as error:  # no permission, a folder that is no longer there
        raise BenchError(f"The data set {cfg['kind']!r} can't be read: {error}.") from error
    is_as_it_is = background is None or "of" in values or dataset.unlabelled
    return dataset if is_as_it_is else WithBackground(dataset, int(background or 0))


def check_loading(cfg: Mapping[str, Any], prefix: str = "data.") -> None:
    """Raises BenchError for settings that can't be of any data set, before a file is read."""
    check_values(cfg, LOADING, prefix)
    for key in NEEDED if prefix == "data." else ():
        if key not in cfg:
            raise BenchError(f"data.{key} isn't set; set data.{key}=VALUE.")
    if isinstance(cfg.get("of"), Mapping):
        check_loading(cfg["of"], f"{prefix}of.")


def annotation_of(name: str) -> Any:
    """Return what a setting of data sets may be, in any of their kinds; None if no kind has it."""
    annotations = [LOADING[name]] if name in LOADING else []
    for kind in KINDS.values():
        parameters = signature(kind)
        if name in parameters and name != NETWORK:
            annotations.append(parameters[name].annotation)
    return Union[tuple(annotations)] if annotations else None  # noqa: UP007 - of as many as there are


def check_settings(cfg: Mapping[str, Any], prefix: str = "data.") -> Mapping[str, Parameter]:
    """The parameters of the kind of data set. Raises BenchError for settings that it can't have,
    before a file is read; prefix: "data.", or "data.of." for what is in it.
    """
    kind = cfg.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise unknown("kind of data set", kind, KINDS)
    parameters = {
        key: parameter for key, parameter in signature(KINDS[kind]).items() if key != NETWORK
    }
    for key in cfg:
        if key not in LOADING and key not in parameters:
            raise unknown(f"setting of data set kind {kind!r}", key, {*LOADING, *parameters})
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
        if not isinstance(cfg["of"], Mapping):
            raise BenchError(
                "data.of is a data set, as data.of=imagenet on the command line, not "
                f"{shown(cfg['of'])}."
            )
        check_settings(check_group(f"{prefix}of", cfg["of"]), f"{prefix}of.")
    return parameters
