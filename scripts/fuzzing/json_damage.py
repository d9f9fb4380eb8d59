"""Damage to the structure of plain data: entries of another kind, missing, huge or deep."""

from __future__ import annotations

import copy
from typing import Any

from .case import Case

VALUES: tuple[Any, ...] = (
    None, 0, -1, 1.5, float("nan"), float("inf"), 10**30, True, "", "x", "../../x", "\x00", "\ud7ff", "a" * 10_000,
    [], [None], [1], ["x"], {}, {"a": None}, {"": {}}, {"x": {"y": [1]}},
)  # fmt: skip


def changed(content: dict[str, Any], case: Case) -> dict[str, Any]:
    """The content with one to three of its entries changed, at any depth."""
    content = copy.deepcopy(content)
    for _ in range(case.random.randint(1, 3)):
        holder = _holder(content, case)
        if not holder:
            continue
        key = case.random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        if case.random.random() < 0.2:
            case.say(f"without {key!r:.40}")
            del holder[key]
        else:
            holder[key] = _deep() if case.random.random() < 0.03 else copy.deepcopy(case.random.choice(VALUES))
            case.say(f"{key!r:.40} became {holder[key]!r:.40}")
    return content


def _holder(content: Any, case: Case) -> Any:
    """A mapping or list in the content, more often one near its top."""
    while case.random.random() < 0.8:
        entries = list(content.values() if isinstance(content, dict) else content)
        inner = [entry for entry in entries if isinstance(entry, dict | list) and entry]
        if not inner:
            break
        content = case.random.choice(inner)
    return content


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    return deep
