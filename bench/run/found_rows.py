"""Find the objects or words in images that `explain` explains, each in a row of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from axiom_bench.cutting.objects import Found, PlacedScores
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.explanation.heatmaps import ClassScore
from axiom_bench.models.words import WordScores, is_function_word
from axiom_bench.notes import Note
from axiom_bench.run.explaining import TOP, class_name

MOST_OBJECTS = 3  # of an image, that are explained if the user gives no number


@dataclass(frozen=True)
class Wanted:
    """The objects or words of each image that are explained."""

    classes: Sequence[int] = ()
    """The classes of the objects; empty: all."""
    top: int = MOST_OBJECTS
    """The most objects: the most probable ones."""
    least: float = 0.5
    """The least probability of an object."""
    words: Sequence[str] | None = None
    """The words of the text that the network says; None: all, function words last."""


@dataclass(frozen=True)
class FoundRows:
    """The rows that explain objects or words, one after the other for each image."""

    batch: Batch
    """The rows, with places as `other_inputs` and the classes or words as targets."""
    images: list[int]
    """The number of each row's image."""
    scores: list[ClassScore]
    """The score of each row."""
    top: list[list[ClassScore]]
    """The first objects or words of each row's image."""
    texts: list[str]
    """The text about each row's image; empty if the network says none."""
    notes: list[Note]
    """Words that the network wouldn't say by itself."""


def find_rows(
    network: PlacedScores, batch: Batch, wanted: Wanted, classes: Sequence[str] | None
) -> FoundRows:
    """Find the objects or words of a batch of images.

    Args:
        network: The network.
        batch: The images, (B, C, H', W'), and their names.
        wanted: What is explained.
        classes: The names of the classes, if they are known.

    Raises:
        BenchError: If an image has no such object or word.
    """
    least = 0.0 if network.of_words else wanted.least
    explained: list[Found] = []
    images: list[int] = []
    top: list[list[ClassScore]] = []
    texts: list[str] = []
    notes: list[Note] = []
    found_by_image = zip(batch.image_ids, network.found(batch.images, least), strict=True)
    for number, (name, found) in enumerate(found_by_image):
        if isinstance(network, WordScores):
            text = network.text_of(found)
            chosen = _words(found, text, wanted, name)
            texts += [text] * len(chosen)
            notes += _notes(chosen, name)
        else:
            chosen = _objects(found, wanted, name, classes)
        explained += chosen
        images += [number] * len(chosen)
        top += [[_score(each, classes) for each in found[:TOP]]] * len(chosen)
    device = batch.images.device
    places = torch.stack([found.place for found in explained]).to(device)
    rows = replace(
        batch,
        images=batch.images[images],
        image_ids=tuple(batch.image_ids[number] for number in images),
        targets=torch.tensor([found.label for found in explained], device=device),
        other_inputs=(places,),
    )
    scores = [_score(each, classes) for each in explained]
    return FoundRows(rows, images, scores, top, texts, notes)


def _objects(
    found: Sequence[Found], wanted: Wanted, name: str, classes: Sequence[str] | None
) -> list[Found]:
    """Return the most probable objects of the classes that are wanted."""
    chosen = [each for each in found if not wanted.classes or each.label in wanted.classes]
    if not chosen:
        names = [class_name(classes, label) for label in wanted.classes]
        raise BenchError(
            f"The network finds no {' or '.join(names) or 'object'} in {name} with a probability "
            f"of at least {wanted.least}; lower model.min_probability."
        )
    return chosen[: wanted.top]


def _words(found: Sequence[Found], text: str, wanted: Wanted, name: str) -> list[Found]:
    """Return the words that are wanted, function words last."""
    chosen = sorted(found, key=lambda each: is_function_word(str(each.name)))
    if wanted.words is not None:
        chosen_words = [word.lower() for word in wanted.words]
        spoken = [str(each.name).lower() for each in found]
        missing = [word for word in chosen_words if word not in spoken]
        if missing:
            raise BenchError(
                f"The text about {name} is {text!r}, without {missing[0]!r}; choose one of its "
                f"words, or give a text with yours: \"model.kwargs.text='{missing[0]}'\"."
            )
        chosen = [each for each in chosen if str(each.name).lower() in chosen_words]
    if not chosen:
        raise BenchError(
            f"The network says nothing about {name}; give a text: "
            "\"model.kwargs.text='a cat on a mat'\"."
        )
    return chosen


def _notes(chosen: Sequence[Found], name: str) -> list[Note]:
    """Return a note about each word that the network wouldn't say."""
    notes = []
    for found in chosen:
        if found.rank > 1:
            sentence = (
                f"{name}: the model wouldn't say {found.name!r} there: its probability is "
                f"{found.probability:.2g}, and {found.rank - 1:,} tokens are more probable."
            )
            notes.append(Note(sentence))
    return notes


def _score(found: Found, classes: Sequence[str] | None) -> ClassScore:
    """Return the score of an object with its box, or that of a word."""
    if found.name is not None:  # a word has no box
        return ClassScore(found.label, found.name, found.probability)
    name = class_name(classes, found.label)
    return ClassScore(found.label, name, found.probability, box=tuple(found.box.tolist()))
