"""One command at a time on a run in a store, which has no locks: an object that only one process can make.

`lock/N` is made only where it isn't there (S3: `If-None-Match: *`), and the highest number counts. Its holder writes it
anew every BEAT seconds. One that doesn't change for LEASE seconds is stale, and who makes `lock/N+1` holds the run.
No value depends on it: after a longer pause two commands may compute the same shards, with the same bits.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from axiom_bench.errors import BenchError
from axiom_bench.records import files
from axiom_bench.records.remote import Objects

FOLDER = "lock"
BEAT, LEASE, LOOK = 10.0, 60.0, 1.0  # seconds: between two beats, until a lock is stale, between two looks at one


@contextmanager
def held(objects: Objects) -> Iterator[None]:
    """Waits until no other command that goes on holds the run, and says which does. Raises BenchError."""
    name, ended = _taken(objects), threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(BenchError):  # perhaps the next one arrives; if none does, sending what is computed says why
                objects.write(name, _content())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(BenchError):  # then it is stale soon
            objects.write(name, b"{}")


def _taken(objects: Objects) -> str:
    seen, since, told = None, time.monotonic(), False
    while True:
        numbers = (name.rpartition("/")[2] for name in objects.sizes(FOLDER))
        number = max(map(int, filter(str.isdecimal, numbers)), default=0)
        if (content := objects.read(f"{FOLDER}/{number}")) != seen:
            seen, since = content, time.monotonic()
        holder, name = _holder(content), f"{FOLDER}/{number + 1}"
        if holder is None or time.monotonic() - since > LEASE:
            if objects.make(name, _content()):
                objects.remove(f"{FOLDER}/{number}")
                return name
        elif not told:
            print(f"waiting for {objects.url}: {holder} holds it", file=sys.stderr, flush=True)
            told = True
        time.sleep(LOOK)


def _content() -> bytes:
    return json.dumps({**files.process(), "beat": uuid4().hex}).encode()


def _holder(content: bytes | None) -> str | None:
    """Who holds a lock of this content; None where nobody does, or a process of this machine that is gone."""
    with suppress(ValueError, KeyError, TypeError):
        about = json.loads(content or b"{}")
        number, is_here = int(about["process"]), about["place"] == files.place()
        return None if is_here and not files.is_alive(number) else f"process {number} on {about['host']}"
    return None
