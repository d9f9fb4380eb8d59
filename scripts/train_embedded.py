"""Train the embedded CNNs on drawn scenes and write their weights.

    python scripts/train_embedded.py [scenes_vgg scenes_resnet signals_cnn ...] [--seeds 0 1 2 3 4]
    [--pattern tile]

The trainings are seeded, and take minutes each on two cores. The script prints the accuracy on
held-out scenes (digits and textures that training never saw): the share of scenes whose predicted
class is an object of the scene. It writes bench/embedded/<name>.safetensors, and the measured
numbers to training.json. For another seed than 0, it writes <name>_seed<seed>.safetensors and the
conf/model/*.yaml that names it.

A seed draws all that chance decides in a training: the training scenes, the initial weights, the
order of batches and the augmentation. Every seed draws its scenes from the same digits and
textures, none of them in the evaluation split, or its signals and volumes by other random numbers
than those of that split. So no network has seen the benchmark's images. No seed is left out or
chosen by what its network does. Seed 0 is stored in float32, except that of `qr_cnn`. The others
are stored in float16, and each is measured as stored.

Nothing tells a network where an object is: it learns from the classes that are present. Training
runs no CAM method, because a network trained on a method's maps would favour it. The settings of
`scenes_vgg` were chosen on validation scenes (docs/studies/embedded-network.md). `scenes_shortcut`
is trained in the same way, on scenes with a spurious mark. For another mark than the tile its
weights go to results/embedded/<name>_<pattern>_seed<seed>.safetensors.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

import axiom_bench as ab
from axiom_bench.data.embedded import DrawnImages
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import marked, networks
from axiom_bench.environment import conf_folder
from axiom_bench.models.spec import model_config

HELD_OUT = 2_000  # scenes for the accuracy
EXPLAINED = 400  # scenes for the maps
BATCH = 64
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
# Split and seed. The benchmark draws the first scenes of TEST.
TEST = ("evaluation", 0)
VALIDATION = ("validation", 7)
METHODS = ("xgrad_cam", "grad_cam", "random")
METRICS = ("pointing_game", "box_iou", "sensitivity_error")
ELSEWHERE = Path("results", "embedded")  # weights that aren't committed
# A function of a network, its input and targets, such as each class's presence.
Loss = Callable[[Any, Tensor, Tensor], Tensor]


class Recipe(NamedTuple):
    """The settings of a training."""

    split: str
    scenes: int
    epochs: int  # over the scenes
    sparsity: float  # of sparse_loss; scenes_resnet learns with shares_loss, without it
    measured: dict[str, tuple[str, int]]  # the scenes to report on, as split and seed
    pattern: str = ""  # of the mark on all scenes; empty: no mark
    kind: str = "scenes"  # of the data set
    half: bool = False  # whether seed 0 is stored in float16, too

    def data(self, split: str, size: int, seed: int) -> DrawnImages:
        """Return the data set of this many scenes."""
        settings = {"kind": self.kind, "split": split, "size": size, "seed": seed}
        if self.pattern:
            settings["pattern"] = self.pattern
        dataset = load_dataset(settings)
        assert isinstance(dataset, DrawnImages)
        return dataset


MEASURED = {"validation": VALIDATION, "test": TEST}
# scenes_vgg was chosen by validation scenes, so it is trained on the rest of "train", which is
# "fit". scenes_resnet was not chosen.
RECIPES = {
    "scenes_vgg": Recipe("fit", 16_000, 6, 0.05, MEASURED),
    "scenes_resnet": Recipe("train", 24_000, 8, 0, {"test": TEST}),
    "scenes_shortcut": Recipe("fit", 16_000, 6, 0.05, MEASURED, "tile", "scenes_marked"),
    "signals_cnn": Recipe("fit", 16_000, 6, 0.05, MEASURED, kind="signals"),
    "volumes_cnn": Recipe("fit", 8_000, 6, 0.05, MEASURED, kind="volumes"),
    "synthetic_shapes_cnn": Recipe("fit", 8_000, 8, 0.05, MEASURED, kind="synthetic_shapes"),
    "qr_cnn": Recipe("fit", 4_000, 6, 0.05, MEASURED, kind="qr_codes", half=True),
}


def draw_scenes(dataset: DrawnImages, target: Callable[[Any], Tensor]) -> tuple[Tensor, Tensor]:
    """Return images (n, C, *space) uint8, and the targets (n, ...) of their scenes."""
    images = []
    targets = []
    with ProcessPoolExecutor(THREADS) as pool:
        for scene in pool.map(dataset.draw, range(len(dataset)), chunksize=200):
            images.append(torch.from_numpy(scene.image).movedim(-1, 0))
            targets.append(target(scene))
    return torch.stack(images), torch.stack(targets)


def presence(classes: int, scene: Any) -> Tensor:
    """Return 1 for each class in a scene, otherwise 0: (classes,) float."""
    present = torch.zeros(classes)
    present[[label for label, _ in scene.objects]] = 1
    return present


def draw_presence(recipe: Recipe, split: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return images (n, C, *space) uint8, and the presence of each class, (n, classes) float."""
    dataset = recipe.data(split, count, seed)
    return draw_scenes(dataset, partial(presence, len(dataset.classes)))


def normalised(images: Tensor) -> Tensor:
    """Return images (n, C, *space) uint8 as float32, normalised as the networks expect."""
    # all channels have the same mean and deviation
    return (images.float() / 255 - networks.MEAN[0]) / networks.STD[0]


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images with their channels permuted, and half of the images inverted.

    So colour tells nothing about the class.
    """
    space = (1,) * (images.ndim - 2)
    order = torch.rand(*images.shape[:2], generator=generator).argsort(1)
    shuffled = images.gather(1, order.view(*order.shape, *space).expand_as(images))
    negative = torch.rand(len(images), 1, *space, generator=generator) < 0.5
    return torch.where(negative, 255 - shuffled, shuffled)


def shares_loss(network: nn.Sequential, images: Tensor, present: Tensor) -> Tensor:
    """Return the cross-entropy to an equal probability for each class present."""
    return cross_entropy(network(images), present / present.sum(1, keepdim=True))


def sparse_loss(sparsity: float, network: nn.Sequential, images: Tensor, present: Tensor) -> Tensor:
    """Return the binary cross-entropy to the classes present, plus a penalty of activations.

    The penalty is sparsity times the mean activation of the target layer.
    """
    if images.ndim == 4:  # channels_last takes a third less time
        images = images.contiguous(memory_format=torch.channels_last)
    activations = network.get_submodule("features")(images)
    classes = binary_cross_entropy_with_logits(network[1:](activations), present)
    loss: Tensor = 3 * classes + sparsity * activations.mean()
    return loss


def train(
    network: nn.Module,
    loss: Loss,
    images: Tensor,
    targets: Tensor,
    epochs: int,
    seed: int,
    batch: int = BATCH,
    rate: float = 4e-3,
) -> None:
    """Train with AdamW and a one-cycle schedule up to the rate.

    The seed decides batches and augmentation.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * (len(images) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=rate, total_steps=steps, pct_start=0.2
    )
    network.train()
    for epoch in range(epochs):
        losses = []
        order = torch.randperm(len(images), generator=generator)
        # Images that don't fill a batch are left out: the schedule counts only full batches.
        for rows in order.split(batch)[: steps // epochs]:
            value = loss(network, normalised(augmented(images[rows], generator)), targets[rows])
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            schedule.step()
            losses.append(value.item())
        print(f"  epoch {epoch + 1:2d} loss {np.mean(losses):.3f}", flush=True)
    network.eval()


def trained(name: str, seed: int, recipe: Recipe) -> nn.Module:
    """Return the network trained by the recipe, with float32 values as they are stored.

    Batch norms are folded, except in scenes_resnet.
    """
    images, present = draw_presence(recipe, recipe.split, recipe.scenes, seed)
    torch.manual_seed(seed)  # for the initial weights
    network: nn.Module
    if name == "scenes_resnet":
        network = networks.scenes_resnet()
        train(network, shares_loss, images, present, recipe.epochs, seed)
    else:
        network = networks.BUILDERS[name](batch_norm=True)
        train(network, partial(sparse_loss, recipe.sparsity), images, present, recipe.epochs, seed)
        network = fold_batch_norm(network, networks.BUILDERS[name]())
    return network.half().float() if is_stored_in_half(name, seed, recipe) else network


def is_stored_in_half(name: str, seed: int, recipe: Recipe) -> bool:
    """Return whether the weights are stored in float16, which all but the first networks are."""
    return seed > 0 or recipe.half or recipe.pattern != RECIPES[name].pattern


def fold_batch_norm(network: nn.Module, folded: nn.Module) -> nn.Module:
    """Load the trained network's weights into `folded`, its twin without batch norm.

    Each batch norm is folded into the layer before it.
    """
    targets = (layer for layer in folded.modules() if isinstance(layer, _ConvNd | nn.Linear))
    layers = [
        layer for layer in network.modules() if isinstance(layer, _ConvNd | nn.Linear | _BatchNorm)
    ]
    for layer, following in pairwise([*layers, None]):
        if isinstance(layer, _ConvNd) and isinstance(following, _BatchNorm):
            next(targets).load_state_dict(fuse_conv_bn_eval(layer, following).state_dict())
        elif isinstance(layer, nn.Linear) and isinstance(following, _BatchNorm):
            next(targets).load_state_dict(fuse_linear_bn_eval(layer, following).state_dict())
        elif isinstance(layer, _ConvNd | nn.Linear):
            next(targets).load_state_dict(layer.state_dict())
    return folded.eval()


def measure(
    name: str,
    network: nn.Module,
    recipe: Recipe,
    split: str,
    seed: int,
    metrics: Sequence[str | Callable[[ab.Explanation], Tensor]] = METRICS,
) -> dict[str, float]:
    """Return the accuracy, the median logit of the classes present, and the metrics' means.

    The metrics are those of the objects of the first EXPLAINED scenes. The sensitivity error has a
    median instead of a mean.
    """
    images, present = draw_presence(recipe, split, HELD_OUT, seed)
    with torch.inference_mode():
        logits = torch.cat([network(normalised(part)) for part in images.split(250)])
    is_right = present.gather(1, logits.argmax(1, keepdim=True))
    median_score = logits[present.bool()].median().item()
    values = {"accuracy": is_right.mean().item(), "median_score": median_score}
    dataset = recipe.data(split, EXPLAINED, seed)
    channels = len(networks.MEAN if dataset.shape is None else dataset.shape[:1])
    preprocessing = Preprocessing(
        None, None, networks.MEAN[:channels], networks.STD[:channels], shape=dataset.shape
    )
    rows = batches(dataset, range(EXPLAINED), preprocessing, "each_label")
    # for the type checker: a drawn scene is never a bad image
    drawn = (batch for batch in rows if isinstance(batch, ab.Batch))
    frame = ab.evaluate(network, networks.LAYERS[name], drawn, METHODS, metrics)
    ok = frame[frame["status"] == "ok"]
    for method, metric in product(METHODS, frame["metric"].unique()):
        column = ok.loc[(ok["method"] == method) & (ok["metric"] == metric), "value"]
        # random weights have no sensitivity error: they are not on the score's scale
        if len(column) > 0:
            mean = column.median() if metric == "sensitivity_error" else column.mean()
            values[f"{method}_{metric}"] = float(mean)
    return {key: round(value, 4) for key, value in values.items()}


def main() -> None:
    """Train, measure and save each named network from each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(RECIPES), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    parser.add_argument(
        "--pattern", choices=marked.PATTERNS, help="of the mark of scenes_shortcut; default: tile"
    )
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    for seed, name in product(options.seeds, options.names):
        recipe = RECIPES[name]
        file = networks.weights_file(name, seed)
        # Networks of another pattern aren't published, so they don't replace the package's weights.
        if recipe.pattern and options.pattern not in (None, recipe.pattern):
            recipe = recipe._replace(pattern=options.pattern)
            file = ELSEWHERE / f"{name}_{options.pattern}_seed{seed}.safetensors"
            if file.exists():
                continue
        start = time.perf_counter()
        network = trained(name, seed, recipe)
        cost = {"seconds": round(time.perf_counter() - start), "threads": torch.get_num_threads()}
        values = {
            part: measure(name, network, recipe, split, split_seed)
            for part, (split, split_seed) in recipe.measured.items()
        }
        save(file, name, network, {**values, **cost}, is_stored_in_half(name, seed, recipe))
        if seed and file == networks.weights_file(name, seed):
            write_settings(name, seed)


def save(
    file: Path, name: str, network: nn.Module, values: Mapping[str, object], half: bool = False
) -> None:
    """Write the weights, and the measured values as an entry of training.json.

    The weights are stored in float16 if `half` is true, or if another network of this name has the
    committed file of seed 0.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    is_first = file == networks.weights_file(name)
    stored = network if is_first and not half else deepcopy(network).half()
    save_file(stored.state_dict(), file)
    file.chmod(0o644)  # safetensors makes the file readable only by its owner
    results = {**values, "parameters": sum(parameter.numel() for parameter in network.parameters())}
    print(file.stem, json.dumps(results, indent=2), flush=True)
    path = networks.weights_file(name).with_name("training.json")
    entries = json.loads(path.read_text(encoding="utf-8")) | {file.stem: results}
    path.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_settings(name: str, seed: int) -> None:
    """Write conf/model/<name>_seed<seed>.yaml with what differs from seed 0.

    If seed 0 has a data_model, the seed gets one too.
    """
    model_folder = conf_folder() / "model"
    data_folder = conf_folder() / "data_model"
    settings = (
        f"# Embedded: {name} trained once more, from seed {seed}; not chosen by what it does.\n"
    )
    settings += f"defaults: [{name}]\nname: {name}_seed{seed}\nweights: seed{seed}\n"
    if model_config(name).get("finetuned"):
        settings += "finetuned: null\n"
    (model_folder / f"{name}_seed{seed}.yaml").write_text(settings, encoding="utf-8")
    if (data_folder / f"scenes_{name}.yaml").exists():
        data_settings = f"# @package _global_\ndefaults: [scenes_{name}]\n"
        data_file = data_folder / f"scenes_{name}_seed{seed}.yaml"
        data_file.write_text(data_settings, encoding="utf-8")


if __name__ == "__main__":
    main()
