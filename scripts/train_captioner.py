"""Train the embedded vision-language networks on captioned scenes.

    python scripts/train_captioner.py [scenes_vlm scenes_vlm_vit] [--seeds 0 1 2] [--again]

A training that has its weights isn't repeated, so a command that was stopped goes on with the next
one; --again trains it anew. A training is seeded, and takes up to half an hour on two cores. As in
train_embedded.py, whose helpers this script uses, a network is trained on "fit" and measured on
2,000 scenes of "validation" and "evaluation", which training never saw. The loss is the
cross-entropy of each word, given the words before it. The script prints and writes to training.json
the accuracy of each word class: the share of words that the network scores highest, given the words
before it in the true sentence, and the share of sentences that are right as a whole when the
network says them by itself.

The bar, set before the first training: a recipe is published if its training from seed 0 has an
accuracy of 0.97 in each word class on validation scenes. Four epochs of scenes_vlm gave 0.969 of
the digits, and a scenes_vlm_vit without pools in its convolutions learned too slowly.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from train_embedded import (
    HELD_OUT,
    MEASURED,
    THREADS,
    draw_scenes,
    fold_batch_norm,
    normalised,
    save,
    train,
    write_settings,
)

from axiom_bench.data.embedded import Captions
from axiom_bench.embedded import captioner, networks
from axiom_bench.embedded.captions import GROUND_WORDS, WORDS

# The positions of each class of words in the true sentences.
WORD_CLASSES = {
    "digits": tuple(map(str, range(10))),
    "grounds": GROUND_WORDS,
    "places": ("left", "right", "above", "below"),
    "functions": ("a", "on", "of", ","),
}
IGNORED = -100  # the target of a position after the end


class Recipe(NamedTuple):
    """The settings of a training."""

    scenes: int
    epochs: int  # over the scenes
    batch: int
    rate: float


RECIPES = {
    "scenes_vlm": Recipe(scenes=24_000, epochs=7, batch=64, rate=2e-3),
    "scenes_vlm_vit": Recipe(scenes=24_000, epochs=6, batch=64, rate=2e-3),
}


def padded_caption(scene: Any) -> Tensor:
    """Return the words of a scene's sentence and its end, padded with more ends: (LONGEST + 1,)."""
    words = scene.caption
    return torch.tensor([*words, *[captioner.END] * (captioner.LONGEST + 1 - len(words))])


def caption_loss(network: nn.Module, images: Tensor, texts: Tensor) -> Tensor:
    """Return the cross-entropy of each word and of the end of the sentences, (B, L)."""
    logits = network(images.contiguous(memory_format=torch.channels_last), texts)
    is_after_end = texts.eq(captioner.END).cumsum(1) > 1
    return cross_entropy(logits.mT, texts.masked_fill(is_after_end, IGNORED))


@torch.inference_mode()
def measure(network: captioner.Captioner, split: str, seed: int) -> dict[str, float]:
    """Return the accuracy of each word class, and of whole sentences."""
    images, texts = draw_scenes(Captions(HELD_OUT, seed, split), padded_caption)
    predicted = []
    answers = []
    for part, part_texts in zip(normalised(images).split(250), texts.split(250), strict=True):
        predicted.append(network(part, part_texts).argmax(2))
        answers += network.answer(part, network.longest)
    is_right = torch.cat(predicted) == texts
    values: dict[str, float] = {}
    for name, words in WORD_CLASSES.items():
        of_class = torch.isin(texts, torch.tensor([WORDS.index(word) for word in words]))
        values[name] = is_right[of_class].double().mean().item()
    true = [[word for word in text if word != captioner.END] for text in texts.tolist()]
    same = [answer == sentence for answer, sentence in zip(answers, true, strict=True)]
    values["sentences"] = sum(same) / len(same)
    return {name: round(value, 4) for name, value in values.items()}


def trained(name: str, seed: int, recipe: Recipe) -> captioner.Captioner:
    """Return the network trained by the recipe, with batch norm folded.

    It has float32 values as they are stored, in float16.
    """
    images, texts = draw_scenes(Captions(recipe.scenes, seed, "fit"), padded_caption)
    torch.manual_seed(seed)  # for the initial weights
    network: Any = captioner.BUILDERS[name](batch_norm=True)
    network = network.to(memory_format=torch.channels_last)
    train(network, caption_loss, images, texts, recipe.epochs, seed, recipe.batch, recipe.rate)
    return folded(name, network).half().float()


def folded(name: str, network: captioner.Captioner) -> captioner.Captioner:
    """Return a copy of the trained network with the tower's batch norm folded."""
    copied = captioner.BUILDERS[name]()
    others = network.state_dict()
    for key in list(others):
        if key.startswith("tower.features."):
            del others[key]
    copied.load_state_dict(others, strict=False)
    fold_batch_norm(network.tower.features, copied.tower.features)
    return copied.eval()


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure and save each network from each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(RECIPES), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    parser.add_argument("--again", action="store_true", help="also repeat trainings with weights")
    options = parser.parse_args(argv)
    torch.set_num_threads(THREADS)
    for seed, name in product(options.seeds, options.names):
        file = networks.weights_file(name, seed)
        if file.exists() and not options.again:
            print(f"{file.name} exists; --again trains it anew")
            continue
        start = time.perf_counter()
        network = trained(name, seed, RECIPES[name])
        cost = {"seconds": round(time.perf_counter() - start), "threads": torch.get_num_threads()}
        values = {
            part: measure(network, split, split_seed)
            for part, (split, split_seed) in MEASURED.items()
        }
        save(file, name, network, {**values, **cost}, half=True)
        if seed:
            write_settings(name, seed)


if __name__ == "__main__":
    main()
