"""The answer of `axiom-bench choose` as a run folder keeps it: choice.json."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

CHOICE_FILE = "choice.json"  # in the run folder
CHOSEN = "chosen"
IN_THE_RACE = "not distinguishable"
WORSE = "worse"
CONTROL = "control"


@dataclass(frozen=True)
class Standing:
    """A method at a layer after the race of the deciding metric."""

    layer: str
    method: str
    title: str
    """The title of the method."""
    mean: float
    """The mean of the metric over the images."""
    error: float
    """The standard error of this mean."""
    status: str
    """"chosen", "not distinguishable", "worse" or "control"."""
    images: int
    """The number of images after which the method was dropped; otherwise of all images."""


@dataclass(frozen=True)
class Choice:
    """The answer to which method to show at which layer, and how sure that is. It prints itself."""

    layer: str | None
    """The layer; None if no method can be chosen."""
    methods: tuple[str, ...]
    """The method to show, and the methods that draw the same map there. Empty if none can be
    chosen.
    """
    metric: str
    """The metric that decides."""
    images: int
    """The number of images that the choice is measured on."""
    is_best: bool
    """True if every other method and layer is significantly worse."""
    sentences: tuple[str, ...]
    """The answer in whole sentences."""
    use: str
    """The call that draws the map; empty if no method can be chosen."""
    report: str | None
    """The page with all values; None if there is none."""
    standings: tuple[Standing, ...]
    """All methods and layers by the deciding metric, the best value first."""

    @property
    def first_layer(self) -> str:
        """The layer that a page shows first: the chosen one, or that of the best value."""
        candidates = [standing for standing in self.standings if standing.status != CONTROL]
        return self.layer or next((standing.layer for standing in candidates), "")

    def __str__(self) -> str:
        lines = [self.sentences[0], *(f"  {sentence}" for sentence in self.sentences[1:])]
        if self.use:
            lines.append(f"Use it:  {self.use}")
        if self.report:
            lines.append(f"report: {self.report}")
        return "\n".join(lines)


def choice_of(content: object) -> Choice | None:
    """Return the choice of a JSON document; None if it is of another form.

    Args:
        content: The document, as `json.loads` returns it.
    """
    try:
        choice = TypeAdapter(Choice).validate_python(content)
    except ValidationError:
        return None
    return choice if choice.sentences else None
