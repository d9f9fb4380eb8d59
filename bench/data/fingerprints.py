"""The fingerprints of many images, several at once: reading and hashing let other threads of Python run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from axiom_bench.data.base import DataSet
from axiom_bench.data.file_hashes import FileHashes

THREADS = 16
AT_ONCE = 256  # images that wait for a thread


def fingerprints(data: DataSet, indices: Sequence[int], hashes: FileHashes) -> Iterator[str]:
    """`data.fingerprint` of the images, in their order.

    By threads where the data set lets several read at once and no hash is known from an earlier run: to find one takes
    less than a thread does.
    """
    of = partial(data.fingerprint, hashes=hashes)
    yield from map(of, indices[:1])  # what all images share is read once
    if hashes.cached or not all(source.threads_may_read for source in data.sources):
        yield from map(of, indices[1:])
        return
    with ThreadPoolExecutor(THREADS, "axiom-bench hashes") as threads:
        for start in range(1, len(indices), AT_ONCE):
            yield from threads.map(of, indices[start : start + AT_ONCE])
