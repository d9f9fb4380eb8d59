"""Damage as strategies: to the bytes of any file, and to the structure of plain data."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from hypothesis import note
from hypothesis import strategies as st

BYTES = ("truncated", "emptied", "bits flipped", "a stretch of zeros", "a part doubled", "noise")
VALUES: tuple[Any, ...] = (
    None, 0, -1, 1.5, float("nan"), float("inf"), 10**30, True, "", "x", "../../x", "\x00", "\ud7ff", "a" * 10_000,
    [], [None], [1], ["x"], {}, {"a": None}, {"": {}}, {"x": {"y": [1]}},
)  # fmt: skip
DEPTH = 500


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content after damage that any file can suffer."""
    how, size = draw(st.sampled_from(BYTES)), len(content)
    start = draw(st.integers(0, max(size - 1, 0)))
    note(f"{how}, from byte {start} of {size}")
    if how == "truncated":
        return content[:start]
    if how == "emptied":
        return b""
    if how == "a stretch of zeros":  # as a file has that was not synced before the power went
        end = draw(st.integers(start, size))
        return content[:start] + bytes(end - start) + content[end:]
    if how == "a part doubled":
        return content[:start] + content
    if how == "noise":
        return Random(start).randbytes(draw(st.integers(1, 4096)))
    flipped = bytearray(content)
    for place in draw(st.lists(st.integers(0, max(8 * size - 1, 0)), min_size=1, max_size=8)) if size else ():
        flipped[place // 8] ^= 1 << place % 8
    return bytes(flipped)


@st.composite
def changed(draw: st.DrawFn, content: Any, values: tuple[Any, ...] = VALUES) -> Any:
    """Plain data with one to three entries, at any depth, of another value, missing, doubled, or very deep."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        holder = draw(_holders(content))
        if not holder:
            continue
        key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        how = draw(st.sampled_from(("replaced",) * 12 + ("removed",) * 4 + ("doubled",) * 2 + ("deep",)))
        note(f"{key!r:.40} {how}")
        if how == "removed":
            del holder[key]
        elif how == "doubled" and isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[key] = nested(DEPTH) if how == "deep" else copy.deepcopy(draw(st.sampled_from(values)))
    return content


@st.composite
def _holders(draw: st.DrawFn, content: Any) -> Any:
    """A mapping or list in the content, more often one near its top."""
    while draw(st.integers(0, 4)):
        entries = list(content.values() if isinstance(content, dict) else content)
        inner = [entry for entry in entries if isinstance(entry, dict | list) and entry]
        if not inner:
            break
        content = draw(st.sampled_from(inner))
    return content


def nested(depth: int) -> list[Any]:
    """A list in a list in a list ..."""
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    return deep
