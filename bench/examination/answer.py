"""One answer of an examination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Answer:
    """question: one word, such as "deterministic". level: "ok"; "note", where values hold and a reader must know it;
    "stop", where no value would mean anything. sentence: what was found, and for a stop how to mend it."""

    question: str
    level: Literal["ok", "note", "stop"]
    sentence: str

    def __str__(self) -> str:
        return f"{self.question}: {self.level}, {self.sentence}"
