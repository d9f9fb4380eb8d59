"""Which methods are compared with each other, and on which images, where some have no value for some of the images."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Image = TypeVar("Image", bound=Hashable)
TENTH = 10  # a method that lacks more than one image in so many is not compared


def compared(images: Mapping[str, Set[Image]]) -> tuple[tuple[str, ...], frozenset[Image]]:
    """(the methods that are compared, the images that all of them have).

    images: for each method those that it has a value for. A method that lacks more than a tenth of the images that any
    method has isn't compared: it could win by saying nothing about difficult images, and would leave few images for the
    comparison of the others.
    """
    union: frozenset[Image] = frozenset().union(*images.values())
    methods = tuple(name for name, own in images.items() if own and TENTH * len(union - own) <= len(union))
    common = frozenset.intersection(*(frozenset(images[name]) for name in methods)) if methods else frozenset[Image]()
    return methods, common


def compared_columns(has: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """As `compared`, of methods as columns: (the places of those that are compared, the rows that all of them have).

    has: (rows, methods), whether a method has a value for a row.
    """
    union = has.any(axis=1)
    lacking = union.sum() - has.sum(axis=0)
    columns = np.flatnonzero(has.any(axis=0) & (TENTH * lacking <= union.sum())).astype(np.int64)
    common = has[:, columns].all(axis=1) if len(columns) else np.zeros(len(has), dtype=bool)
    return columns, np.asarray(common)
