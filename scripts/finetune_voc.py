"""Fine-tune a torchvision network on Pascal VOC's twenty classes: multi-label, resumable, with the mAP at its end.

    python scripts/finetune_voc.py --root DATA --architecture resnet18 --output FOLDER [--epochs 10] [--weights FILE]

DATA is in VOC's layout (see docs/data.md). The network starts from its ImageNet weights, all but the last layer. Each
step draws its images, their crops and its dropout from the seed and its own number alone, so that a run that was killed
goes on from its last checkpoint, with the same command, to the same weights. Writes FOLDER/<name>.safetensors and, to
use it, FOLDER/model/<name>.yaml; the command that does is printed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset

from axiom_bench.data.base import BadImage
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.torchvision_import import torchvision  # noqa: F401 -- must come before its submodules
from axiom_bench.data.voc import CLASSES, Voc
from axiom_bench.errors import BenchError
from axiom_bench.models import sources, weights
from axiom_bench.models.sources import Source
from axiom_bench.models.spec import ModelSpec

from torchvision.transforms import functional as transforms  # isort: skip
from torchvision.transforms import RandomResizedCrop  # isort: skip

WEIGHT_DECAY = 0.01
SMALLEST_CROP = 0.25  # of the image's area
Item = tuple[Tensor, Tensor]


def multi_hot(dataset: Voc, index: int) -> Tensor:
    """(20,) 1 for each class that the image has an object of, `difficult` or not."""
    labels = torch.zeros(len(CLASSES))
    labels[list(dataset.labels(index))] = 1
    return labels


def drawn_seed(*numbers: int) -> int:
    """A seed that depends on all of these."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class Training(Dataset[Item]):
    """An image cropped and flipped at random, as its step and its place in the batch say, and nothing else."""

    def __init__(self, dataset: Voc, preprocessing: Preprocessing, seed: int) -> None:
        self.dataset, self.preprocessing, self.seed = dataset, preprocessing, seed

    def __getitem__(self, place: tuple[int, int]) -> Item:
        index, draw = place
        side = self.preprocessing.crop or 224
        image = self.dataset.read(index).image
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(drawn_seed(self.seed, draw))
            box = RandomResizedCrop.get_params(image, [SMALLEST_CROP, 1.0], [3 / 4, 4 / 3])
            flipped = bool(torch.rand(()) < 0.5)
        image = transforms.resized_crop(image, *box, [side, side], antialias=True)
        tensor = transforms.to_tensor(transforms.hflip(image) if flipped else image)
        normalised = transforms.normalize(tensor, self.preprocessing.mean, self.preprocessing.std)
        return normalised, multi_hot(self.dataset, index)


class Validation(Dataset[Item]):
    """An image as the benchmark will show it to the network."""

    def __init__(self, dataset: Voc, preprocessing: Preprocessing) -> None:
        self.dataset, self.preprocessing = dataset, preprocessing

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        return self.preprocessing(self.dataset.read(index))[0], multi_hot(self.dataset, index)


class Steps:
    """The batches of all steps from `first` on: each epoch is a permutation of the images drawn from seed and epoch."""

    def __init__(self, images: int, batch: int, epochs: int, seed: int, first: int) -> None:
        self.images, self.batch, self.epochs, self.seed, self.first = images, batch, epochs, seed, first

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch; the last, smaller batch is left out, since a batch norm can't train on one image."""
        return max(1, self.images // self.batch)

    def __len__(self) -> int:
        return self.per_epoch * self.epochs - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first, self.per_epoch * self.epochs):
            epoch, place = divmod(step, self.per_epoch)
            order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
            chosen = order[place * self.batch : (place + 1) * self.batch]
            yield [(int(index), step * self.batch + row) for row, index in enumerate(chosen)]


def network_of(source: Source, architecture: str, said: str) -> nn.Module:
    """The network with twenty outputs, from its weights but for the layers whose size the number of classes decides.

    said: `default`, a file, or `none` for random weights.
    """
    module = source.build()
    if said == "none":
        return module
    file = Path(said)
    found = weights.read(file) if file.suffix else source.published(said)
    own = module.state_dict()
    last = {name for name in own if name in found.state and found.state[name].shape[:1] != own[name].shape[:1]}
    kept = {name: tensor for name, tensor in found.state.items() if name not in last}
    weights.fit(module, weights.Weights({**own, **kept}, found.description, found.sha256), architecture)
    print(f"weights from {found.description}; new: {', '.join(sorted(last))}", flush=True)
    return module


def logits_of(output: Any) -> Tensor:
    """What a network puts out in training: the logits, or for the Inceptions a tuple that begins with them."""
    logits = output if isinstance(output, Tensor) else output[0]
    assert isinstance(logits, Tensor)
    return logits


def train(module: nn.Module, data: Training, options: argparse.Namespace, device: torch.device) -> None:
    """AdamW on a cosine from the checkpoint's step on; a checkpoint every `--checkpoint-steps` steps and at the end.

    Batch norms keep the statistics that came with the weights: those of a step's few images would be another network's.
    """
    optimiser = torch.optim.AdamW(module.parameters(), options.learning_rate, weight_decay=WEIGHT_DECAY)
    first = restore(module, optimiser, options, device)
    steps = Steps(len(data.dataset), options.batch, options.epochs, options.seed, first)
    total, losses = first + len(steps), []
    loader = DataLoader(data, batch_sampler=steps, num_workers=options.workers)
    module.train()
    if options.weights != "none":
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
    for step, (images, labels) in enumerate(loader, start=first):
        torch.manual_seed(drawn_seed(options.seed, step))  # of the dropout
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))
        loss = binary_cross_entropy_with_logits(logits_of(module(images.to(device))), labels.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        done = step + 1
        if done % options.checkpoint_steps == 0 or done == total:
            keep(module, optimiser, done, options)
            print(f"step {done} of {total}: loss {np.mean(losses):.4f}", flush=True)
            losses = []
    module.eval()


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    return {name: value for name, value in vars(options).items() if name not in ("output", "workers", "device")}


def keep(module: nn.Module, optimiser: torch.optim.Optimizer, step: int, options: argparse.Namespace) -> None:
    """Writes the checkpoint under another name and renames it: what is there is whole."""
    path = options.output / "checkpoint.pt"
    state = {"model": module.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    torch.save({**state, "settings": json.dumps(settings_of(options))}, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def restore(
    module: nn.Module, optimiser: torch.optim.Optimizer, options: argparse.Namespace, device: torch.device
) -> int:
    """The step to go on with. Raises BenchError for a checkpoint of other settings."""
    path = options.output / "checkpoint.pt"
    if not path.is_file():
        return 0
    kept = torch.load(path, map_location=device, weights_only=True)
    said, now = json.loads(kept["settings"]), settings_of(options)
    if said != now:
        other = sorted(key for key in now if said.get(key) != now[key])
        raise BenchError(f"{path} is of a run with another {', '.join(other)}; choose another --output, or delete it.")
    module.load_state_dict(kept["model"])
    optimiser.load_state_dict(kept["optimiser"])
    print(f"goes on after step {kept['step']}", flush=True)
    return int(kept["step"])


@torch.inference_mode()
def predictions(
    module: nn.Module, data: Validation, options: argparse.Namespace, device: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(scores (n, 20), whether the class is there (n, 20))."""
    scores, truth = [], []
    for images, labels in DataLoader(data, batch_size=options.batch, num_workers=options.workers):
        scores.append(module(images.to(device)).cpu().double().numpy())
        truth.append(labels.numpy() > 0)
    return np.concatenate(scores), np.concatenate(truth)


def average_precision(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """VOC's since 2010: the area below precision as a function of recall, made falling. Images of equal score share
    their place. scores, truth: (n,); NaN where nothing is true.
    """
    if not truth.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)  # the last image of each score
    hits = np.cumsum(truth[order])[ends]
    precision, recall = hits / (np.flatnonzero(ends) + 1), hits / truth.sum()
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * falling).sum())


def write_model(module: nn.Module, name: str, architecture: str, kwargs: Mapping[str, Any], folder: Path) -> Path:
    """The weights and the YAML of conf/model/'s form; returns the YAML."""
    file = (folder / f"{name}.safetensors").resolve()
    save_file({key: tensor.contiguous().cpu() for key, tensor in module.state_dict().items()}, f"{file}.new")
    os.replace(f"{file}.new", file)
    spec = ModelSpec(name, "torchvision", architecture, weights=str(file), kwargs=kwargs, classes=CLASSES)
    said = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(spec).items()}
    path = folder / "model" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# {architecture}, fine-tuned on Pascal VOC.\n{yaml.safe_dump(said, sort_keys=False)}")
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="the folder of VOC, as data.root")
    parser.add_argument("--year", type=int, default=None, help="2012 or 2007; without it, what is there")
    parser.add_argument("--architecture", default="resnet18", help="a classifier of torchvision")
    parser.add_argument("--weights", default="default", help="default, IMAGENET1K_V1, a file, or none")
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
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    kwargs = {"num_classes": len(CLASSES)}
    published = None if options.weights == "none" else options.weights
    spec = ModelSpec("voc", "torchvision", options.architecture, weights=published, kwargs=kwargs)
    source, device = sources.find(spec), torch.device(options.device)
    training, validation = (
        Voc(options.root, split, year=options.year) for split in (options.train_split, options.val_split)
    )
    torch.manual_seed(options.seed)  # of the new last layer
    module = network_of(source, options.architecture, options.weights).to(device)
    train(module, Training(training, source.preprocessing, options.seed), options, device)
    scores, truth = predictions(module, Validation(validation, source.preprocessing), options, device)
    found = {name: average_precision(scores[:, i], truth[:, i]) for i, name in enumerate(CLASSES)}
    known = [value for value in found.values() if not math.isnan(value)]
    print(", ".join(f"{name} {value:.3f}" for name, value in found.items() if not math.isnan(value)))
    print(f"mAP on {options.val_split}: {np.mean(known):.4f} over {len(known)} classes, {len(validation)} images")
    path = write_model(module, f"{options.architecture}_voc", options.architecture, kwargs, options.output)
    print(f"axiom-bench data=voc model={path.stem} 'hydra.searchpath=[file://{path.parent.parent.resolve()}]'")


if __name__ == "__main__":
    try:
        main()
    except (BenchError, BadImage) as error:
        raise SystemExit(str(error)) from error
