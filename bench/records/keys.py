"""Keys: hashes of the facts that decide a value. The caller supplies the facts (of a job, a method, a metric)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

LENGTH = 32  # hexadecimal digits: 128 bits


def key(**facts: object) -> str:
    """A hash over named facts, plain data (other objects by their `str`), in any order of the names."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def shard_key(job: str, contents: Iterable[str]) -> str:
    """Of a shard. job: hash of what its values have in common; contents: id, hash and labels of each of its images."""
    return key(job=job, contents=list(contents))


def value_key(method: str | None, metric: str) -> str:
    """Of a metric's values of a method, apart from the shard. method: None for a metric of the layer alone."""
    return key(method=method, metric=metric)
