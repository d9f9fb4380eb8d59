"""Damage that any file can suffer: each function takes bytes and gives other bytes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random


def damaged(content: bytes, random: Random) -> tuple[str, bytes]:
    """(what was done, the content after it)."""
    name = random.choice(sorted(DAMAGES))
    return name, DAMAGES[name](content, random)


def _truncated(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) or 1)]


def _emptied(content: bytes, random: Random) -> bytes:
    return b""


def _bits_flipped(content: bytes, random: Random) -> bytes:
    flipped = bytearray(content)
    for _ in range(random.randint(1, 8) if flipped else 0):
        flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _zeros(content: bytes, random: Random) -> bytes:
    """A stretch of zeros, as a file has that was not synced before the power went."""
    start = random.randrange(len(content) or 1)
    length = random.randint(1, len(content) or 1)
    return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]


def _doubled(content: bytes, random: Random) -> bytes:
    start = random.randrange(len(content) or 1)
    return content[:start] + content


def _noise(content: bytes, random: Random) -> bytes:
    return random.randbytes(random.randint(1, 4096))


DAMAGES: dict[str, Callable[[bytes, Random], bytes]] = {
    "truncated": _truncated,
    "emptied": _emptied,
    "bits flipped": _bits_flipped,
    "a stretch of zeros": _zeros,
    "a part doubled": _doubled,
    "noise in its place": _noise,
}
