"""What the paper shows, as conf/paper.yaml lists it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from axiom_bench.configs import conf_folder


@dataclass(frozen=True)
class Exhibit:
    """A figure or table of the paper.

    number: the paper's. file: what our files' names begin with. figures: what the names of our figures begin with.
    tables: metrics with a short table each. against: the method beside which run times are shown. two_classes: only
    images that show exactly two classes count. shares, differs: our definition beside the paper's text.
    """

    number: str
    file: str
    title: str
    shares: str
    differs: str
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    against: str | None = None
    two_classes: bool = False


@dataclass(frozen=True)
class Paper:
    """source: its citation. networks, images: those of its study. instead: networks that stand in for them where they
    have no weights. numbers: what is known of the paper's own numbers, a sentence."""

    source: str
    networks: tuple[str, ...]
    instead: tuple[str, ...]
    images: int
    numbers: str
    exhibits: tuple[Exhibit, ...]


@cache
def paper() -> Paper:
    """As conf/paper.yaml has it."""
    content: dict[str, Any] = yaml.safe_load((conf_folder() / "paper.yaml").read_text())
    exhibits = tuple(Exhibit(**_tuples(entry)) for entry in content.pop("exhibits"))
    return Paper(**_tuples(content), exhibits=exhibits)


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
