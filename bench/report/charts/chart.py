"""What a chart hands to the page: specs once, and for each choice of the reader the rows that its panels draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

Columns = Mapping[str, Sequence[Any]]
DIGITS = 5  # of the numbers in the page; a reader sees three


@dataclass(frozen=True)
class Panel:
    """One drawing. title: of the network. spec: the name of its spec. params: values of the spec's parameters.

    tables: the spec's named data sets, by column; a column `method` holds names, which the page gives their style.
    description: the text alternative. height: of the plot in pixels.
    """

    title: str
    spec: str
    description: str
    tables: Mapping[str, Columns]
    height: int
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """What one entry of the chart's list shows. label: of the entry. caption: what is shown, with n."""

    label: str
    caption: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Chart:
    """id: in the page. chooses: what the list of choices is of, such as "Metric"; with one choice there is no list.
    specs: name -> Vega-Lite."""

    id: str
    title: str
    chooses: str
    choices: Sequence[Choice]
    specs: Mapping[str, Mapping[str, Any]]


def columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    """A table by column as JSON holds it: numbers with DIGITS digits, None for what isn't finite, texts as they are."""
    return {str(name): _as_json(table[name]) for name in table}


def _as_json(column: pd.Series) -> list[Any]:
    if not pd.api.types.is_float_dtype(column):
        return [entry.item() if isinstance(entry, np.generic) else entry for entry in column.tolist()]
    return [float(f"{entry:.{DIGITS}g}") if np.isfinite(entry) else None for entry in column.tolist()]
