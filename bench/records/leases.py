"""Claims of shards in a store, which has no locks: an object that only one process can make, and a heartbeat.

`claims/SHARD.N` is made only where it isn't there (S3: `If-None-Match: *`) and names its holder, whose object in
`claims/alive/` is written anew every BEAT seconds. A claim whose holder hasn't for LEASE seconds, by the store's own
clock, is stale: who makes `claims/SHARD.N+1` has it. For a process of this machine that is gone no such time is needed.

No value depends on a claim: where two processes have one, as after a pause longer than LEASE, both compute the same.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from axiom_bench.errors import BenchError
from axiom_bench.records import files
from axiom_bench.records.remote import Objects

FOLDER = "claims"
BEAT, LEASE, LOOK = 10.0, 60.0, 2.0  # seconds: between heartbeats, until a claim is stale, between two looks at one
PATIENCE, MOST_PATIENCE = 10.0, 600.0  # seconds of waiting before the first word, and between two words at most


@dataclass(frozen=True)
class Leases:
    """The claims of one process. holder: its name among all. own: {shard: claim}. unwanted: claims given back while the
    store couldn't be reached, which are removed with a later heartbeat: until then they count as this process's."""

    objects: Objects
    holder: str = field(default_factory=lambda: uuid4().hex)
    own: dict[str, str] = field(default_factory=dict)
    unwanted: set[str] = field(default_factory=set)

    @classmethod
    @contextmanager
    def of(cls, objects: Objects) -> Iterator[Leases]:
        """Inside, others know that this process is alive. Raises BenchError where the store can't be written."""
        leases, ended = cls(objects), threading.Event()
        leases._beat()
        threading.Thread(target=leases._beat_on, args=(ended,), daemon=True).start()
        try:
            yield leases
        finally:
            ended.set()
            with suppress(BenchError):  # then its claims are stale soon
                objects.remove(_alive(leases.holder))

    def take(self, shard: str) -> bool:
        """Claims a shard, unless another process that is alive has it. Raises BenchError."""
        if not self.objects.is_exclusive:
            return True
        self._remove_unwanted()
        before = self._claims(shard)
        if before and self._living(before[-1]) is not None:
            return False
        claim = f"{FOLDER}/{shard}.{_number(before[-1]) + 1 if before else 0}"
        about = {"holder": self.holder, "host": files.host(), "place": files.place(), "process": os.getpid()}
        if not self.objects.make(claim, json.dumps(about).encode()):
            return False
        self.own[shard] = claim
        for stale in before:
            self.objects.remove(stale)
        return True

    def wait(self, shard: str, say: Callable[[str], None]) -> None:
        """Claims a shard once nobody else has it, and says seldom who does. Raises BenchError."""
        since, patience = time.monotonic(), PATIENCE
        while not self.take(shard):
            if time.monotonic() - since >= patience:
                say(f"waiting for shard {shard[:8]}: {self._who(shard)}")
                since, patience = time.monotonic(), min(3 * patience, MOST_PATIENCE)
            time.sleep(LOOK)

    def release(self, shard: str) -> None:
        """Gives a shard back; where the store can't be reached, with a later heartbeat."""
        if (claim := self.own.pop(shard, None)) is not None:
            self.unwanted.add(claim)
            self._remove_unwanted()

    def _claims(self, shard: str) -> list[str]:
        """The claims of a shard, the latest last."""
        found = self.objects.sizes(FOLDER, f"{shard}.")
        return sorted((name for name in found if name.rpartition(".")[2].isdecimal()), key=_number)

    def _living(self, claim: str) -> dict[str, Any] | None:
        """Who holds a claim; None where it is stale, was given back, or isn't ours to read."""
        try:
            about = json.loads(self.objects.read(claim) or b"{}")
            holder, place, process = str(about["holder"]), str(about["place"]), int(about["process"])
        except (ValueError, KeyError, TypeError):
            return None
        if place == files.place() and not files.is_alive(process):
            return None
        theirs, now = (self.objects.modified(_alive(name)) for name in (holder, self.holder))
        if theirs is None or (now is not None and (now - theirs).total_seconds() > LEASE):
            return None
        return {"process": process, "host": str(about.get("host"))}

    def _who(self, shard: str) -> str:
        claims = self._claims(shard)
        about = self._living(claims[-1]) if claims else None
        return "it was just given back" if about is None else f"process {about['process']} on {about['host']} has it"

    def _beat(self) -> None:
        self.objects.write(_alive(self.holder), str(time.time()).encode())

    def _remove_unwanted(self) -> None:
        for claim in list(self.unwanted):
            with suppress(BenchError):
                self.objects.remove(claim)
                self.unwanted.discard(claim)

    def _beat_on(self, ended: threading.Event) -> None:
        while not ended.wait(BEAT):
            with suppress(BenchError):  # perhaps the next one arrives; if none does, sending what is computed says why
                self._beat()
            self._remove_unwanted()


def _alive(holder: str) -> str:
    return f"{FOLDER}/alive/{holder}"


def _number(claim: str) -> int:
    return int(claim.rpartition(".")[2])
