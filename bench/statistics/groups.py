"""The values of one metric as box-plots show them: a group of rows for each setting and method."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.metadata import Setting
from axiom_bench.statistics.numbers import counts_text
from axiom_bench.statistics.run_folder import RunFolder


class Group(NamedTuple):
    """values: (rows,) of single images with status ok, at least one, in the records' order. keys: (rows,) places in
    `Records.keys`. images: how many images these are of."""

    values: Floats
    keys: NDArray[np.int32]
    images: int


def groups_of(run: RunFolder, metric: str, methods: Collection[str]) -> dict[Setting, dict[str, Group]]:
    """The groups with values of these methods: settings in the run's order, methods in the records'."""
    records = run.records
    if metric not in records.blocks:
        return {}
    block, image = records.blocks[metric], np.asarray(records.keys["image_id"].cat.codes)
    is_chosen = np.array([name in methods for name in records.methods])
    block = block.where((block.statuses == records.ok) & is_chosen[block.methods] & ~records.of_whole_set[block.keys])
    setting = records.keys.groupby(list(Setting._fields), observed=True).ngroup().to_numpy()
    code = setting[block.keys] * len(records.methods) + block.methods
    few = len(run.settings) * len(records.methods) <= np.iinfo(np.int16).max
    order = np.argsort(code.astype(np.int16) if few else code, kind="stable")  # small numbers are sorted in linear time
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    found: dict[Setting, dict[str, Group]] = {}
    for rows in np.split(order, starts[1:]) if len(order) else ():
        place, method = divmod(int(code[rows[0]]), len(records.methods))
        keys = block.keys[rows]
        group = Group(block.values[rows], keys, int(np.count_nonzero(np.bincount(image[keys]))))
        found.setdefault(run.settings[place], {})[records.methods[method]] = group
    return found


def counts_in(groups: Iterable[Group]) -> str:
    """ "n = 60 to 64 images, 112 to 120 rows": the fewest and the most of the groups."""
    counts = [(group.images, len(group.values)) for group in groups]
    return counts_text(*zip(*counts, strict=True))
