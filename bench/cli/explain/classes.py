"""The classes of a model: their names, those that a user names, and those that the model finds most probable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError, unknown
from axiom_bench.models.load import LoadedModel


@dataclass(frozen=True)
class Classes:
    """model: its name. names: one for each class, None where they aren't known. count: of classes."""

    model: str
    names: Sequence[str] | None
    count: int

    @staticmethod
    def of(model: LoadedModel, config: Mapping[str, Any]) -> Classes:
        """The names that the model was configured with; torchvision's networks have ImageNet's."""
        names: Sequence[str] | None = model.classes
        if names is None and config["source"] == "torchvision":
            weights = next(iter(torchvision.models.get_model_weights(config["architecture"])))
            published = weights.meta["categories"]
            names = published if len(published) == model.number_of_classes else None
        return Classes(model.name, names, model.number_of_classes)

    def name(self, index: int) -> str:
        """The class's name, or "class 7"."""
        return self.names[index] if self.names else f"class {index}"

    def chosen(self, text: str) -> list[int]:
        """The indices of classes that are named by comma, each by index or name. Raises BenchError as `index`."""
        names = [text] if self.names and text in self.names else text.split(",")  # a name may have a comma
        return list(dict.fromkeys(self.index(name.strip()) for name in names))

    def index(self, text: str) -> int:
        """The index of a class that is given as index or name.

        Raises BenchError, with the nearest names, for no such class, and for a name that several classes have.
        """
        names = list(self.names or ())
        same = [place for place, name in enumerate(names) if name == text]
        if len(same) > 1:
            places = " and ".join(map(str, same))
            raise BenchError(f"{len(same)} classes of {self.model} are called {text!r}; give an index: {places}.")
        if same:
            return same[0]
        if text.isdecimal() and int(text) < self.count:
            return int(text)
        if names and not text.isdecimal():
            raise unknown(f"class of {self.model}", text, names)
        kind = "a name or an index" if names else "an index"
        raise BenchError(f"There is no class {text!r} of {self.model}; give {kind} from 0 to {self.count - 1}.")
