"""Train the embedded detector and segmenter on scenes in which classes repeat.

    python scripts/train_dense.py [scenes_detector scenes_segmenter] [--seeds 0 1 2 3 4]

The trainings are seeded, and take minutes each on two cores. As in train_embedded.py, whose helpers
this script uses, networks are trained on "fit" and measured on 2,000 scenes of "validation" and
"evaluation", which training never saw. The script prints and writes to training.json the detector's
mAP or the segmenter's mIoU (the mean over the ten digits). The mAP is at an IoU of 0.5, the mean
over classes of the area under precision over recall, of all points.

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
# An object whose longer side is below this number of pixels belongs to the level with a stride of
# 8 pixels, a larger one to the level of 16.
FINE = 30
# The positions that learn a box are within this share of its sides from its middle, or within half
# a stride.
CENTRAL = 0.3
SAME = 0.5  # the least IoU of two boxes of one object
LEAST = 0.02  # the least probability of a box that is kept


def padded_objects(scene: Scene) -> Tensor:
    """Return class and box of each object, and rows of -1 if there are fewer than five: (5, 5)."""
    rows = [(label, *box) for label, box in scene.objects]
    rows += [(-1,) * 5] * (REPEATED.most - len(rows))
    return torch.tensor(rows, dtype=torch.float32)


def classes_of_pixels(scene: Scene) -> Tensor:
    """Return the class of each pixel, 10 for the ground: (96, 96) uint8."""
    return torch.from_numpy(np.where(scene.mask < 0, len(CLASSES), scene.mask).astype(np.uint8))


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of boxes (..., 4), which broadcast: (...)."""
    starts = torch.maximum(first[..., :2], second[..., :2])
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - starts
    intersection = sides.clamp(min=0).prod(-1)
    first_area = (first[..., 2:] - first[..., :2]).prod(-1)
    second_area = (second[..., 2:] - second[..., :2]).prod(-1)
    return intersection / (first_area + second_area - intersection)


def detection_loss(network: networks.Detector, images: Tensor, objects: Tensor) -> Tensor:
    """Return the loss of classes and boxes, per position that learns a box.

    It is the binary cross-entropy of the classes of all positions, and 1 - IoU of the boxes of
    those that learn one.
    """
    boxes, logits = network(images.contiguous(memory_format=torch.channels_last))
    levels = (network.of_features, network.of_coarse)
    centres = torch.cat([level.centres for level in levels])[:, None, :2]  # (180, 1, 2)
    strides = torch.cat([level.steps[2:].expand(len(level.centres), 2) for level in levels])
    strides = strides[:, None]
    labels = objects[:, None, :, 0]  # (B, 1, 5)
    truth = objects[:, None, :, 1:]  # (B, 1, 5, 4)

    # which position learns which object: (B, 180, 5)
    sides = truth[..., 2:] - truth[..., :2]
    reach = torch.maximum(CENTRAL * sides, 0.51 * strides)
    middles = (truth[..., :2] + truth[..., 2:]) / 2
    learns = ((centres - middles).abs() <= reach).all(-1) & (labels >= 0)
    learns &= (sides.amax(-1) < FINE) == (strides[..., 0] == 8)
    is_object, index = learns.max(2)
    count = is_object.sum().clamp(min=1)

    learned_labels = objects[..., 0].long().gather(1, index).clamp(min=0)
    classes = one_hot(learned_labels, len(CLASSES)) * is_object[..., None]
    class_loss = binary_cross_entropy_with_logits(logits, classes.float(), reduction="sum") / count
    target = objects[..., 1:].gather(1, index[..., None].expand(-1, -1, 4))
    return class_loss + 2 * (1 - iou(boxes, target))[is_object].sum() / count


def segmentation_loss(network: Any, images: Tensor, masks: Tensor) -> Tensor:
    """Return the cross-entropy of all pixels, plus that of the digits at the coarsest positions.

    Pixels of the ground have a lower weight, since most pixels are ground. Without the second term,
    a binary cross-entropy of the digits that a position shows, some seeds learn no classes.
    """
    weights = torch.tensor([1.0] * len(CLASSES) + [GROUND])
    coarsest: list[Tensor] = []
    hook = network.bottleneck.register_forward_hook(
        lambda module, inputs, output: coarsest.append(output)
    )
    with torch.autocast("cpu", torch.bfloat16):  # takes 40 % less time, with channels_last
        logits = network(images.contiguous(memory_format=torch.channels_last))
        coarse = network.coarse(*coarsest)
    hook.remove()
    shown = one_hot(masks.long(), len(CLASSES) + 1)[..., :-1].movedim(3, 1).float()
    shown = max_pool2d(shown, masks.shape[2] // coarse.shape[3])
    coarse_sum = binary_cross_entropy_with_logits(coarse.float(), shown, reduction="sum")
    coarse_loss = coarse_sum / shown.sum().clamp(min=1)
    return cross_entropy(logits.float(), masks.long(), weights) + coarse_loss


def suppressed(boxes: Tensor, scores: Tensor) -> list[int]:
    """Return the rows that greedy non-maximum suppression keeps, highest score first."""
    rows = []
    order = scores.argsort(descending=True)
    while len(order):
        rows.append(int(order[0]))
        order = order[1:][iou(boxes[order[0]], boxes[order[1:]]) <= SAME]
    return rows


def average_precision(found: list[tuple[float, bool]], count: int) -> float:
    """Return the average precision of the boxes found for `count` objects.

    `found` has the score of each box, and whether the box is the first one of an object, in the
    order of scores.
    """
    is_hit = [hit for _, hit in sorted(found, key=lambda box: -box[0])]
    hits = np.array(is_hit).cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float((np.diff(hits, prepend=0) * precision).sum() / count)


@torch.inference_mode()
def mean_average_precision(network: nn.Module, images: Tensor, objects: Tensor) -> float:
    """Return the mean over classes of the average precision at an IoU of SAME."""
    found: list[list[tuple[float, bool]]] = [[] for _ in CLASSES]
    outputs = [network(part) for part in normalised(images).split(250)]
    boxes = torch.cat([part_boxes for part_boxes, _ in outputs])
    logits = torch.cat([part_logits for _, part_logits in outputs])
    for image_boxes, probabilities, truth in zip(boxes, logits.sigmoid(), objects, strict=True):
        for label in (probabilities.amax(0) > LEAST).nonzero()[:, 0].tolist():
            is_candidate = probabilities[:, label] > LEAST
            candidates = image_boxes[is_candidate]
            scores = probabilities[is_candidate, label]
            remaining = truth[truth[:, 0] == label, 1:]  # objects that no box has found yet
            for row in suppressed(candidates, scores):
                overlaps = iou(candidates[row], remaining)
                is_hit = bool((overlaps >= SAME).any())
                found[label].append((float(scores[row]), is_hit))
                if is_hit:
                    remaining = remaining[torch.arange(len(remaining)) != overlaps.argmax()]
    counts = [int((objects[..., 0] == label).sum()) for label in range(len(CLASSES))]
    precisions = [
        average_precision(class_found, count)
        for class_found, count in zip(found, counts, strict=True)
    ]
    return float(np.mean(precisions))


@torch.inference_mode()
def mean_iou(network: nn.Module, images: Tensor, masks: Tensor) -> float:
    """Return the mean over digits of the IoU of all pixels of all images."""
    predicted = torch.cat([network(normalised(part)).argmax(1) for part in images.split(250)])
    ious = []
    for label in range(len(CLASSES)):
        is_predicted = predicted == label
        is_true = masks == label
        intersection = (is_predicted & is_true).sum()
        ious.append(float(intersection / (is_predicted | is_true).sum()))
    return float(np.mean(ious))


class Recipe(NamedTuple):
    """The settings of a training."""

    scenes: int
    epochs: int  # over the scenes
    batch: int
    loss: Loss
    target: Callable[[Scene], Tensor]  # returns what a scene teaches
    measure: Callable[[nn.Module, Tensor, Tensor], float]
    title: str  # of the measure

    def draw(self, split: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return images (n, 3, 96, 96) uint8, and targets."""
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
    """Return the network trained by the recipe, with batch norm folded.

    It has float32 values as they are stored.
    """
    images, targets = recipe.draw("fit", recipe.scenes, seed)
    torch.manual_seed(seed)  # for the initial weights
    network: Any = networks.BUILDERS[name](batch_norm=True)
    network = network.to(memory_format=torch.channels_last)
    network.coarse = nn.Conv2d(48, len(CLASSES), 1)  # of the segmenter, only in training
    train(network, recipe.loss, images, targets, recipe.epochs, seed, recipe.batch)
    del network.coarse
    network = fold_batch_norm(network, networks.BUILDERS[name]())
    rounded: nn.Module = network.half().float() if seed else network
    return rounded


def main() -> None:
    """Train, measure and save each named network from each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(RECIPES), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    for seed, name in product(options.seeds, options.names):
        recipe = RECIPES[name]
        start = time.perf_counter()
        network = trained(name, seed, recipe)
        cost = {"seconds": round(time.perf_counter() - start), "threads": torch.get_num_threads()}
        values = {}
        for part, (split, split_seed) in MEASURED.items():
            images, targets = recipe.draw(split, HELD_OUT, split_seed)
            values[part] = {recipe.title: round(recipe.measure(network, images, targets), 4)}
        save(networks.weights_file(name, seed), name, network, {**values, **cost})
        if seed:
            write_settings(name, seed)


if __name__ == "__main__":
    main()
