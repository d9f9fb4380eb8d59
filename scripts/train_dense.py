"""Train the embedded detector and segmenter on scenes where classes repeat; seeded, minutes each on
two cores.

    python scripts/train_dense.py [scenes_detector scenes_segmenter] [--seeds 0 1 2 3 4]

As train_embedded.py, whose helpers it uses: on "fit", measured on 2,000 scenes of "validation" and
"evaluation", which training never saw. Prints and writes to training.json the detector's mAP (at an
IoU of 0.5, the mean over classes of the area under precision over recall, of all points) or the
segmenter's mIoU (the mean over the ten digits).

The bar, set before the first training: a recipe is published if its training from seed 0 reaches an
mAP of 0.85, or an mIoU of 0.75, on validation scenes. Then it is trained from all five seeds, and
none is left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, max_pool2d, one_hot
from train_embedded import (
    HELD_OUT,
    MEASURED,
    THREADS,
    Loss,
    draw_scenes,
    fold_batch_norm,
    normalised,
    save,
    train,
    write_settings,
)

from axiom_bench.data.embedded import Scenes
from axiom_bench.embedded import networks
from axiom_bench.embedded.scenes import CLASSES, REPEATED, Scene

GROUND = 0.2  # weight of a pixel of the ground, in the segmenter's loss
# pixels: an object whose longer side is below belongs to the level of 8 pixels, a larger one to
# that of 16
FINE = 30
# of a box's sides, from its middle: the positions that learn it, and those within half a stride
CENTRAL = 0.3
SAME = 0.5  # the IoU of two boxes of one object
LEAST = 0.02  # probability of a box that is kept


def padded_objects(scene: Scene) -> Tensor:
    """(5, 5): class and box of each object, -1 where there are fewer."""
    rows = [(label, *box) for label, box in scene.objects]
    return torch.tensor([*rows, *[(-1,) * 5] * (REPEATED.most - len(rows))], dtype=torch.float32)


def classes_of_pixels(scene: Scene) -> Tensor:
    """(96, 96) uint8: the class of each pixel, 10 for the ground."""
    return torch.from_numpy(np.where(scene.mask < 0, len(CLASSES), scene.mask).astype(np.uint8))


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Of boxes (..., 4), which broadcast: (...)."""
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(
        first[..., :2], second[..., :2]
    )
    both = sides.clamp(min=0).prod(-1)
    return both / (
        (first[..., 2:] - first[..., :2]).prod(-1)
        + (second[..., 2:] - second[..., :2]).prod(-1)
        - both
    )


def detection_loss(network: networks.Detector, images: Tensor, objects: Tensor) -> Tensor:
    """Binary cross-entropy of the classes of all positions, and 1 - IoU of the boxes of those that
    learn one; for each of these.
    """
    boxes, logits = network(images.contiguous(memory_format=torch.channels_last))
    levels = (network.of_features, network.of_coarse)
    centres = torch.cat([level.centres for level in levels])[:, None, :2]  # (180, 1, 2)
    strides = torch.cat([level.steps[2:].expand(len(level.centres), 2) for level in levels])[
        :, None
    ]
    labels, truth = objects[:, None, :, 0], objects[:, None, :, 1:]  # (B, 1, 5), (B, 1, 5, 4)
    sides = truth[..., 2:] - truth[..., :2]
    reach = torch.maximum(CENTRAL * sides, 0.51 * strides)
    learns = ((centres - (truth[..., :2] + truth[..., 2:]) / 2).abs() <= reach).all(-1) & (
        labels >= 0
    )
    learns &= (sides.amax(-1) < FINE) == (strides[..., 0] == 8)  # (B, 180, 5)
    is_object, which = learns.max(2)
    classes = (
        one_hot(objects[..., 0].long().gather(1, which).clamp(min=0), len(CLASSES))
        * is_object[..., None]
    )
    count = is_object.sum().clamp(min=1)
    of_classes = binary_cross_entropy_with_logits(logits, classes.float(), reduction="sum") / count
    target = objects[..., 1:].gather(1, which[..., None].expand(-1, -1, 4))
    return of_classes + 2 * (1 - iou(boxes, target))[is_object].sum() / count


def segmentation_loss(network: Any, images: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of all pixels, those of the ground weighted less: most are. And binary
    cross-entropy of the digits that each of the coarsest positions shows, without which some seeds
    learn no classes.
    """
    weights, coarsest = torch.tensor([1.0] * len(CLASSES) + [GROUND]), list[Tensor]()
    hook = network.bottleneck.register_forward_hook(
        lambda module, inputs, output: coarsest.append(output)
    )
    with torch.autocast("cpu", torch.bfloat16):  # takes 40 % less time, with channels_last
        logits = network(images.contiguous(memory_format=torch.channels_last))
        coarse = network.coarse(*coarsest)
    hook.remove()
    shown = one_hot(masks.long(), len(CLASSES) + 1)[..., :-1].movedim(3, 1).float()
    shown = max_pool2d(shown, masks.shape[2] // coarse.shape[3])
    of_coarse = binary_cross_entropy_with_logits(
        coarse.float(), shown, reduction="sum"
    ) / shown.sum().clamp(min=1)
    return cross_entropy(logits.float(), masks.long(), weights) + of_coarse


def suppressed(boxes: Tensor, scores: Tensor) -> list[int]:
    """Greedy non-maximum suppression: the rows that are kept, highest score first."""
    kept, order = [], scores.argsort(descending=True)
    while len(order):
        kept.append(int(order[0]))
        order = order[1:][iou(boxes[order[0]], boxes[order[1:]]) <= SAME]
    return kept


def average_precision(found: list[tuple[float, bool]], count: int) -> float:
    """found: score of each box, and whether it is that of an object that no box of a higher score
    was of.
    """
    hits = np.array([hit for _, hit in sorted(found, key=lambda each: -each[0])]).cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float((np.diff(hits, prepend=0) * precision).sum() / count)


@torch.inference_mode()
def mean_average_precision(network: nn.Module, images: Tensor, objects: Tensor) -> float:
    """At an IoU of SAME, over the classes."""
    found: list[list[tuple[float, bool]]] = [[] for _ in CLASSES]
    boxes, logits = (
        torch.cat(part) for part in zip(*map(network, normalised(images).split(250)), strict=True)
    )
    for of_image, probabilities, truth in zip(boxes, logits.sigmoid(), objects, strict=True):
        for label in (probabilities.amax(0) > LEAST).nonzero()[:, 0].tolist():
            chosen = probabilities[:, label] > LEAST
            candidates, scores = of_image[chosen], probabilities[chosen, label]
            left = truth[truth[:, 0] == label, 1:]
            for row in suppressed(candidates, scores):
                overlaps = iou(candidates[row], left)
                hit = bool((overlaps >= SAME).any())
                found[label].append((float(scores[row]), hit))
                left = left[torch.arange(len(left)) != overlaps.argmax()] if hit else left
    counts = [int((objects[..., 0] == label).sum()) for label in range(len(CLASSES))]
    return float(
        np.mean([average_precision(each, count) for each, count in zip(found, counts, strict=True)])
    )


@torch.inference_mode()
def mean_iou(network: nn.Module, images: Tensor, masks: Tensor) -> float:
    """Over the digits, each of all pixels of all images."""
    predicted = torch.cat([network(normalised(part)).argmax(1) for part in images.split(250)])
    pairs = [(predicted == label, masks == label) for label in range(len(CLASSES))]
    return float(
        np.mean([float((first & second).sum() / (first | second).sum()) for first, second in pairs])
    )


class Recipe(NamedTuple):
    """A training: scenes, epochs over them in batches, loss, what a scene teaches, and the measure
    with its name.
    """

    scenes: int
    epochs: int
    batch: int
    loss: Loss
    target: Callable[[Scene], Tensor]
    measure: Callable[[nn.Module, Tensor, Tensor], float]
    title: str

    def draw(self, split: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """(images (n, 3, 96, 96) uint8, targets)."""
        return draw_scenes(Scenes(count, seed, split, objects="repeated"), self.target)


RECIPES = {
    "scenes_detector": Recipe(
        8_000, 4, 32, detection_loss, padded_objects, mean_average_precision, "mAP"
    ),
    "scenes_segmenter": Recipe(
        8_000, 4, 16, segmentation_loss, classes_of_pixels, mean_iou, "mIoU"
    ),
}


def trained(name: str, seed: int, recipe: Recipe) -> nn.Module:
    """The network, trained by the recipe, with batch norm folded; float32 values as they are
    stored.
    """
    images, targets = recipe.draw("fit", recipe.scenes, seed)
    torch.manual_seed(seed)  # for the initial weights
    network: Any = networks.BUILDERS[name](batch_norm=True)
    network = network.to(memory_format=torch.channels_last)
    network.coarse = nn.Conv2d(48, len(CLASSES), 1)  # of the segmenter, in training alone
    train(network, recipe.loss, images, targets, recipe.epochs, seed, recipe.batch)
    del network.coarse
    network = fold_batch_norm(network, networks.BUILDERS[name]())
    return network.half().float() if seed else network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(RECIPES), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    for seed, name in product(options.seeds, options.names):
        recipe, start = RECIPES[name], time.perf_counter()
        network = trained(name, seed, recipe)
        cost = {"seconds": round(time.perf_counter() - start), "threads": torch.get_num_threads()}
        values = {
            part: {
                recipe.title: round(recipe.measure(network, *recipe.draw(split, HELD_OUT, of)), 4)
            }
            for part, (split, of) in MEASURED.items()
        }
        save(networks.weights_file(name, seed), name, network, {**values, **cost})
        if seed:
            write_settings(name, seed)


if __name__ == "__main__":
    main()
