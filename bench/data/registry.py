"""The data sets that have a name, and the kinds that they are made of.

To add one: a module with a `DataSet`, its line in KINDS, and a file in conf/data/.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from axiom_bench.configs import entry_names
from axiom_bench.data.base import DataSet, subset
from axiom_bench.data.coco import Coco
from axiom_bench.data.folder import Folder
from axiom_bench.data.imagenet_archives import imagenet
from axiom_bench.data.imagenet_s import ImageNetS
from axiom_bench.data.marked_scenes import MarkedScenes
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.data.planted import Planted
from axiom_bench.data.scenes import Scenes
from axiom_bench.data.selected import Selected
from axiom_bench.data.voc import Voc
from axiom_bench.errors import BenchError, unknown

KINDS: Mapping[str, Callable[..., DataSet]] = {
    "scenes": Scenes,
    "planted": Planted,
    "scenes_marked": MarkedScenes,
    "imagenet": imagenet,
    "imagenet_s": ImageNetS,
    "voc": Voc,
    "coco": Coco,
    "folder": Folder,
    "mosaic": MosaicImages,
}
LOADING = frozenset(  # settings of the loader, not of a data set
    {"kind", "size", "seed", "only_classes", "only_correct", "target", "batch_size", "workers"}
)


def dataset_names() -> list[str]:
    """All entries of conf/data/, sorted."""
    return entry_names("data")


def load_dataset(cfg: Mapping[str, Any]) -> DataSet:
    """The data set of one conf/data/ file: `kind` names the class, and it takes the keys that its constructor has.

    Raises BenchError for an unknown kind or key, a missing root, or labels that can't be read.
    """
    kind = str(cfg.get("kind"))
    if kind not in KINDS:
        raise unknown("kind of data set", kind, KINDS)
    parameters = inspect.signature(KINDS[kind]).parameters
    unknown_keys = sorted(str(key) for key in cfg if key not in LOADING and key not in parameters)
    if unknown_keys:
        raise unknown(f"setting of data set kind {kind!r}", unknown_keys[0], {*LOADING, *parameters})
    missing = [key for key, parameter in parameters.items() if parameter.default is parameter.empty and key not in cfg]
    if missing:
        raise BenchError(f"A data set of kind {kind!r} needs data.{missing[0]}.")
    values = {key: cfg[key] for key in parameters if key in cfg}
    if "of" in values:
        values["of"] = _chosen(values["of"])
    return KINDS[kind](**values)


def _chosen(cfg: object) -> DataSet:
    """The images that the configuration of another data set chooses. Raises BenchError for what is none."""
    if not isinstance(cfg, Mapping):
        raise BenchError(f"data.of is a data set, as data.of=imagenet on the command line, not {cfg!r}.")
    dataset = load_dataset(cfg)
    return Selected(dataset, subset(dataset, cfg.get("size"), cfg.get("seed", 0), cfg.get("only_classes")))
