"""Fine-tune a torchvision network on Pascal VOC's twenty classes, and print its mAP.

    python scripts/finetune_voc.py --root DATA --architecture resnet18 --output FOLDER [--epochs 10]
    [--weights FILE]

The training is multi-label and can be resumed. DATA is in VOC's layout (see docs/data-sets.md). The
network starts from its ImageNet weights, except for its last layer. Each step draws its images,
their crops and its dropout only from the seed and the step's number. So a killed run, started again
with the same command, continues from its last checkpoint and ends with the same weights.

The script writes FOLDER/<name>.safetensors and FOLDER/model/<name>.yaml, and prints the command
that uses them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset

from axiom_bench.data.base import BadImage, DataSet
from axiom_bench.data.layouts.voc import CLASSES, voc
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.torchvision_import import torchvision  # noqa: F401 -- must come before its submodules
from axiom_bench.errors import BenchError
from axiom_bench.models import weights
from axiom_bench.models.sources import Source, find_source
from axiom_bench.models.spec import ModelSpec

from torchvision.transforms import functional as transforms  # isort: skip
from torchvision.transforms import RandomResizedCrop  # isort: skip

WEIGHT_DECAY = 0.01
MIN_CROP_AREA = 0.25  # of the image's area
Item = tuple[Tensor, Tensor]


def multi_hot(dataset: DataSet, index: int) -> Tensor:
    """Return 1 for each class of the image's objects, `difficult` or not, otherwise 0: (20,)."""
    labels = torch.zeros(len(CLASSES))
    labels[list(dataset.labels(index))] = 1
    return labels


def derived_seed(*numbers: int) -> int:
    """Return a seed that depends on all of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class Training(Dataset[Item]):
    """Images cropped and flipped at random.

    The draw depends only on the seed and the draw's number. An item is requested by the image's
    index and this number.
    """

    def __init__(self, dataset: DataSet, preprocessing: Preprocessing, seed: int) -> None:
        self.dataset = dataset
        self.preprocessing = preprocessing
        self.seed = seed

    def __getitem__(self, place: tuple[int, int]) -> Item:
        index, draw = place
        side = self.preprocessing.crop or 224
        image = self.dataset.read(index).image
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.seed, draw))
            box = RandomResizedCrop.get_params(image, [MIN_CROP_AREA, 1.0], [3 / 4, 4 / 3])
            is_flipped = bool(torch.rand(()) < 0.5)
        image = transforms.resized_crop(image, *box, [side, side], antialias=True)
        tensor = transforms.to_tensor(transforms.hflip(image) if is_flipped else image)
        normalised = transforms.normalize(tensor, self.preprocessing.mean, self.preprocessing.std)
        return normalised, multi_hot(self.dataset, index)


def step_batches(images: int, batch: int, epochs: int, seed: int) -> list[list[tuple[int, int]]]:
    """Return the batches of all steps: lists of (index of the image, number of the draw).

    Each epoch permutes the images. A smaller last batch is left out, since a batch norm can't train
    on one image.
    """
    steps: list[list[tuple[int, int]]] = []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(images).tolist()
        for number in range(max(1, images // batch)):
            chosen = order[number * batch : (number + 1) * batch]
            steps.append([(index, len(steps) * batch + row) for row, index in enumerate(chosen)])
    return steps


def build_network(source: Source, architecture: str, initial: str) -> nn.Module:
    """Return the network with twenty outputs and pretrained weights.

    Layers sized by the number of classes keep their random weights.
    """
    module = source.build()
    if initial == "none":
        return module
    file = Path(initial)
    pretrained = weights.read_weights(file) if file.suffix else source.load_published(initial)
    fresh = module.state_dict()
    state = pretrained.state
    last = {
        name for name in fresh if name in state and state[name].shape[:1] != fresh[name].shape[:1]
    }
    reused = {name: tensor for name, tensor in state.items() if name not in last}
    combined = weights.Weights({**fresh, **reused}, pretrained.description, pretrained.sha256)
    weights.load_into(module, combined, architecture)
    print(f"weights from {pretrained.description}; new: {', '.join(sorted(last))}", flush=True)
    return module


def train(
    module: nn.Module, data: Training, options: argparse.Namespace, device: torch.device
) -> None:
    """Train with AdamW and a cosine schedule from the checkpoint's step on; write checkpoints."""
    optimiser = torch.optim.AdamW(
        module.parameters(), options.learning_rate, weight_decay=WEIGHT_DECAY
    )
    first = load_checkpoint(module, optimiser, options, device)
    steps = step_batches(len(data.dataset), options.batch, options.epochs, options.seed)
    losses: list[float] = []
    loader = DataLoader(data, batch_sampler=steps[first:], num_workers=options.workers)
    module.train()
    if options.weights != "none":
        # Pretrained statistics are kept: those of a step's few images are too noisy.
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
    for step, (images, labels) in enumerate(loader, start=first):
        torch.manual_seed(derived_seed(options.seed, step))  # for the dropout
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * 0.5 * (1 + math.cos(math.pi * step / len(steps)))
        output = module(images.to(device))
        # an Inception has a second head, and returns a tuple
        logits = output if isinstance(output, Tensor) else output[0]
        loss = binary_cross_entropy_with_logits(logits, labels.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        done = step + 1
        if done % options.checkpoint_steps == 0 or done == len(steps):
            save_checkpoint(module, optimiser, done, options)
            print(f"step {done} of {len(steps)}: loss {np.mean(losses):.4f}", flush=True)
            losses = []
    module.eval()


def resume_settings(options: argparse.Namespace) -> dict[str, object]:
    """Return the settings that must be unchanged for a run to continue."""
    return {
        name: value
        for name, value in vars(options).items()
        if name not in ("output", "workers", "device")
    }


def save_checkpoint(
    module: nn.Module, optimiser: torch.optim.Optimizer, step: int, options: argparse.Namespace
) -> None:
    """Write the checkpoint under a temporary name and rename it.

    So an existing checkpoint is always complete.
    """
    path = options.output / "checkpoint.pt"
    state = {"model": module.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    torch.save(
        {**state, "settings": json.dumps(resume_settings(options))}, path.with_suffix(".new")
    )
    os.replace(path.with_suffix(".new"), path)


def load_checkpoint(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    options: argparse.Namespace,
    device: torch.device,
) -> int:
    """Load the checkpoint and return the next step, or 0 without a checkpoint.

    Raises:
        BenchError: If the checkpoint is of other settings.
    """
    path = options.output / "checkpoint.pt"
    if not path.is_file():
        return 0
    # Only tensors and plain values are loaded, since unpickling a foreign file can run its code.
    checkpoint = torch.load(path, map_location=device, weights_only=True)
    previous = json.loads(checkpoint["settings"])
    current = resume_settings(options)
    if previous != current:
        changed = ", ".join(sorted(key for key in current if previous.get(key) != current[key]))
        raise BenchError(
            f"{path} is of a run with another {changed}; choose another --output, or delete it."
        )
    module.load_state_dict(checkpoint["model"])
    optimiser.load_state_dict(checkpoint["optimiser"])
    print(f"continues after step {checkpoint['step']}", flush=True)
    return int(checkpoint["step"])


@torch.inference_mode()
def predictions(
    module: nn.Module,
    data: DataSet,
    preprocessing: Preprocessing,
    options: argparse.Namespace,
    device: torch.device,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the scores and the presence of each class, (n, 20) each. Raise BadImage."""
    indices = range(len(data))
    scores = []
    for rows in batches(data, indices, preprocessing, "predicted", options.batch, options.workers):
        if isinstance(rows, BadImage):
            raise rows
        scores.append(module(rows.images.to(device)).cpu().double().numpy())
    truth = [multi_hot(data, index).numpy() > 0 for index in indices]
    return np.concatenate(scores), np.stack(truth)


def average_precision(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Compute VOC's average precision since 2010 of one class.

    It is the area below the precision-recall curve, which is made monotonically decreasing. Images
    of equal score share a rank.

    Args:
        scores: The scores of the images, (n,).
        truth: The images that show the class, (n,).

    Returns:
        The average precision, or NaN if no image shows the class.
    """
    if not truth.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)  # the last image of each score
    hits = np.cumsum(truth[order])[is_last]
    precision = hits / (np.flatnonzero(is_last) + 1)
    recall = hits / truth.sum()
    decreasing = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * decreasing).sum())


def write_model(
    module: nn.Module, name: str, architecture: str, kwargs: Mapping[str, object], folder: Path
) -> Path:
    """Write the weights and a YAML like those of conf/model/, and return the YAML's path."""
    file = (folder / f"{name}.safetensors").resolve()
    state = {key: tensor.contiguous().cpu() for key, tensor in module.state_dict().items()}
    save_file(state, f"{file}.new")
    os.replace(f"{file}.new", file)
    spec = ModelSpec(
        name, "torchvision", architecture, weights=str(file), kwargs=kwargs, classes=CLASSES
    )
    settings = {
        key: list(value) if isinstance(value, tuple) else value for key, value in vars(spec).items()
    }
    title = f"# {architecture}, fine-tuned on Pascal VOC.\n"
    path = folder / "model" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(title + yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def main() -> None:
    """Train a network, print its average precisions, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="the folder of VOC, as data.root")
    parser.add_argument(
        "--year", type=int, default=None, help="2012 or 2007; by default the one that exists"
    )
    parser.add_argument("--architecture", default="resnet18", help="a classifier of torchvision")
    parser.add_argument(
        "--weights", default="default", help="default, IMAGENET1K_V1, a file, or none"
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder of this run alone")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--val-split", default="val")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32, help="images of a step")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--checkpoint-steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    kwargs = {"num_classes": len(CLASSES)}
    published = None if options.weights == "none" else options.weights
    spec = ModelSpec("voc", "torchvision", options.architecture, weights=published, kwargs=kwargs)
    source = find_source(spec)
    device = torch.device(options.device)
    training = voc(options.root, options.train_split, year=options.year)
    validation = voc(options.root, options.val_split, year=options.year)
    torch.manual_seed(options.seed)  # for the new last layer
    module = build_network(source, options.architecture, options.weights).to(device)
    train(module, Training(training, source.preprocessing, options.seed), options, device)
    scores, truth = predictions(module, validation, source.preprocessing, options, device)
    values = {name: average_precision(scores[:, i], truth[:, i]) for i, name in enumerate(CLASSES)}
    defined = {name: value for name, value in values.items() if not math.isnan(value)}
    print(", ".join(f"{name} {value:.3f}" for name, value in defined.items()))
    mean = np.mean(list(defined.values()))
    print(
        f"mAP on {options.val_split}: {mean:.4f} over {len(defined)} classes, {len(validation)} "
        "images"
    )
    name = f"{options.architecture}_voc"
    path = write_model(module, name, options.architecture, kwargs, options.output)
    print(
        f"axiom-bench data=voc model={path.stem} "
        f"'hydra.searchpath=[file://{path.parent.parent.resolve()}]'"
    )


if __name__ == "__main__":
    try:
        main()
    except (BenchError, BadImage) as error:
        raise SystemExit(str(error)) from error
