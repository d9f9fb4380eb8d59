"""Train the two embedded CNNs on drawn scenes and write their weights; seeded, minutes on two cores.

    python scripts/train_embedded.py [scenes_vgg scenes_resnet]

Prints the accuracy on held-out scenes (digits and textures that training never saw): the share of scenes whose
predicted class is an object of the scene. Writes bench/embedded/<name>.safetensors, and the measured numbers to
training.json.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from axiom_bench.embedded import networks, scenes

TRAIN, HELD_OUT = 24_000, 2_000  # scenes
EPOCHS, BATCH = 8, 64
SEED = 0
THREADS = 2


def draw_scenes(split: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(images (n, 3, 96, 96) uint8, presence of each class (n, 10) float)."""
    images = torch.empty(count, 3, scenes.SIDE, scenes.SIDE, dtype=torch.uint8)
    present = torch.zeros(count, len(scenes.CLASSES))
    with ProcessPoolExecutor(THREADS) as pool:
        for row, scene in enumerate(pool.map(partial(scenes.draw, split, seed), range(count), chunksize=200)):
            images[row] = torch.from_numpy(scene.image).permute(2, 0, 1)
            present[row, [digit for digit, _ in scene.objects]] = 1
    return images, present


def normalised(images: Tensor) -> Tensor:
    """(n, 3, H, W) uint8 -> float32, normalised as the networks expect."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (networks.MEAN, networks.STD))
    return (images.float() / 255 - mean) / std


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image with its channels permuted, half of them inverted, so that colour tells nothing about the class."""
    order = torch.rand(len(images), 3, generator=generator).argsort(1)
    shuffled = images.gather(1, order[:, :, None, None].expand_as(images))
    negative = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(negative, 255 - shuffled, shuffled)


def train(network: nn.Module, images: Tensor, present: Tensor) -> None:
    """Train with AdamW and a one-cycle schedule; the target is an equal probability for each class present."""
    generator = torch.Generator().manual_seed(SEED)
    steps = EPOCHS * (len(images) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps, pct_start=0.2)
    network.train()
    for epoch in range(EPOCHS):
        losses = []
        order = torch.randperm(len(images), generator=generator)
        for rows in order.split(BATCH)[: steps // EPOCHS]:
            shares = present[rows] / present[rows].sum(1, keepdim=True)
            loss = cross_entropy(network(normalised(augmented(images[rows], generator))), shares)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"  epoch {epoch + 1:2d} loss {np.mean(losses):.3f}", flush=True)
    network.eval()


def fold_batch_norm(network: nn.Sequential) -> nn.Sequential:
    """The trained scenes_vgg with each batch norm folded into the convolution or linear layer before it."""
    folded = networks.scenes_vgg()
    weighted = [layer for layer in folded.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    layers = [layer for part in ("features", "classifier") for layer in network.get_submodule(part).children()]
    trained = [
        _folded(layer, norm) for layer, norm in pairwise([*layers, None]) if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    for target, layer in zip(weighted, trained, strict=True):
        target.load_state_dict(layer.state_dict())
    return folded.eval()


def _folded(layer: nn.Conv2d | nn.Linear, norm: nn.Module | None) -> nn.Module:
    """The layer with the batch norm after it, where there is one."""
    if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(layer, norm)
    if isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
        return fuse_linear_bn_eval(layer, norm)
    return layer


@torch.inference_mode()
def accuracy(network: nn.Module, images: Tensor, present: Tensor) -> tuple[float, float]:
    """(share of scenes whose predicted class is an object of it, median logit of the classes present)."""
    logits = torch.cat([network(normalised(part)) for part in images.split(250)])
    correct = present.gather(1, logits.argmax(1, keepdim=True)).mean().item()
    return correct, logits[present.bool()].median().item()


def record(name: str, **measured: float) -> None:
    """Write what was measured to training.json beside the weights."""
    path = Path(networks.__file__).with_name("training.json")
    entries = json.loads(path.read_text()) if path.is_file() else {}
    entries |= {"command": "python scripts/train_embedded.py", name: measured}
    path.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")
    print(name, measured, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(networks.BUILDERS))
    names = parser.parse_args().names
    torch.set_num_threads(THREADS)
    start = time.perf_counter()
    images, present = draw_scenes("train", TRAIN, SEED)
    held_out = draw_scenes("evaluation", HELD_OUT, SEED + 1)
    print(f"{TRAIN + HELD_OUT} scenes drawn in {time.perf_counter() - start:.0f} s", flush=True)
    for name in names:
        torch.manual_seed(SEED)
        start = time.perf_counter()
        network = networks.scenes_vgg(batch_norm=True) if name == "scenes_vgg" else networks.BUILDERS[name]()
        train(network, images, present)
        network = fold_batch_norm(network) if name == "scenes_vgg" else network
        seconds = round(time.perf_counter() - start)
        save_file(network.state_dict(), networks.weights_file(name))
        networks.weights_file(name).chmod(0o644)  # safetensors writes for the owner alone
        share, score = accuracy(network, *held_out)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        results = {"accuracy": round(share, 4), "median_score": round(score, 1), "parameters": parameters}
        record(name, **results, seconds=seconds, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
