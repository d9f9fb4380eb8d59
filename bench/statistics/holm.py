"""Holm's adjustment of p for all tests of a family."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's step-down adjustment, Scand. J. Statist. 1979: p for all of a family at once.

    Sorted, p_i becomes the largest of (m - j) p_j over j <= i (j from 0), at most 1; NaN stays NaN and isn't counted.
    """
    p = np.array(list(p_values), dtype=float)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    stepped = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)) if len(order) else p[order]
    p[order] = np.minimum(stepped, 1)
    return p.tolist()
