"""Notes: sentences for the user that the code adds while it computes. A run collects them; a Python
program gets them as warnings.

The kind of a note decides how a run prints it, for example how often or with which count.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator


class Note(UserWarning):
    """A sentence for the user. The classes below are its kinds."""


class MethodLeftOut(Note):
    """A method doesn't apply to the model and has no values."""


class MetricsLeftOut(MethodLeftOut):
    """Metrics don't apply to the data and have no values."""


class MethodNotTimed(Note):
    """A method doesn't apply to the model and has no run time."""


class HooksLeft(Note):
    """A user's CAM leaves hooks on the model. The run's copy of the model ends with the call."""


class ZeroMaps(Note):
    """The maps at the layer are zero, or have one position."""


class NotFiniteMaps(ZeroMaps):
    """The maps of a method, or the values of a metric, aren't finite."""


class BatchMates(Note):
    """An image's scores depend on the other images of its batch, so that each runs alone."""


class LowPrecision(Note):
    """The network computes in half precision."""


class ImageNotRead(Note):
    """An image can't be read. The sentence begins with its id and a colon."""


class ImageProblem(Note):
    """An annotation is missing or can't be used, or a picture is nearly black.

    The sentence begins with the image's id and a colon.
    """


class DamagedFile(Note):
    """A file can't be used and is written again. The text is its path."""


class MachineNote(Note):
    """Memory ran out, or a kernel of the GPU adds in any order."""


class Notes:
    """Collected notes in the order in which they were added, each sentence of a kind once."""

    def __init__(self) -> None:
        self._notes: dict[tuple[type[Note], str], None] = {}

    def add(self, note: Note) -> None:
        """Add a note, unless the same sentence of its kind was added before."""
        self._notes[type(note), str(note)] = None

    def __iter__(self) -> Iterator[Note]:
        return (kind(sentence) for kind, sentence in self._notes)

    def __len__(self) -> int:
        return len(self._notes)

    def __add__(self, other: Notes) -> Notes:
        """Return new notes: these, followed by the other ones."""
        both = Notes()
        both._notes = self._notes | other._notes
        return both

    def sentences(self, *kinds: type[Note]) -> list[str]:
        """Return the sentences of exactly these kinds, in order."""
        return [sentence for kind, sentence in self._notes if kind in kinds]


class Warnings(Notes):
    """Notes that are issued as Python warnings at once, and aren't collected."""

    def add(self, note: Note) -> None:
        """Issue the note as a warning at the place that called the code that adds it."""
        warnings.warn(note, stacklevel=3)


WARNINGS = Warnings()  # for callers that collect no notes
