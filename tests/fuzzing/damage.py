"""Hypothesis strategies that damage the bytes of any file and the structure of plain data."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import note
from hypothesis import strategies as st

DEEP: list[Any] = []
for _ in range(500):
    DEEP = [DEEP]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
EXTREMES = st.sampled_from((10**400, "../../x", "a" * 10_000, "a\0b", "*", DEEP))
ANYTHING = PLAIN | EXTREMES


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """The content after damage that any file can suffer."""
    place = st.integers(0, len(content))

    def flipped(bits: list[int]) -> bytes:
        changed = bytearray(content)
        for bit in bits:
            changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    def zeroed(start: int, end: int) -> bytes:
        """Return the content of a file that wasn't synced before the power failed."""
        return content[:start] + bytes(max(end - start, 0)) + content[max(start, end) :]

    return st.one_of(
        place.map(lambda end: content[:end]),
        place.map(lambda start: content[:start] + content),
        st.builds(zeroed, place, place),
        st.lists(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=8).map(flipped),
        st.binary(max_size=4096),
    )


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """Draw plain data in which one to three entries, at any depth, are replaced or missing."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(_place(content)) if content else ({}, "new")
        is_kept = draw(st.integers(0, 4))
        note(f"{key!r:.40} {'changed' if is_kept else 'removed'}")
        if is_kept:
            holder[key] = copy.deepcopy(draw(ANYTHING))
        else:
            holder.pop(key, None) if isinstance(holder, dict) else holder.pop(key)
    return content


@st.composite
def _place(draw: st.DrawFn, content: Any) -> tuple[Any, Any]:
    """Draw one of `places` from the top down. Otherwise most would be deep in a few entries."""
    key = draw(st.sampled_from(list(content if isinstance(content, dict) else range(len(content)))))
    inner = content[key]
    is_deeper = inner and isinstance(inner, dict | list) and draw(st.booleans())
    return draw(_place(inner)) if is_deeper else (content, key)


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each mapping or list in plain data with each of its keys or indices."""
    for key, value in list(content.items() if isinstance(content, dict) else enumerate(content)):
        yield content, key
        if isinstance(value, dict | list):
            yield from places(value)
