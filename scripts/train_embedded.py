"""Train the embedded CNNs on drawn scenes and write their weights; seeded, minutes each on two
cores.

    python scripts/train_embedded.py [scenes_vgg scenes_resnet signals_cnn ...] [--seeds 0 1 2 3 4]
    [--pattern tile]

Prints the accuracy on held-out scenes (digits and textures that training never saw): the share of
scenes whose predicted class is an object of the scene. Writes bench/embedded/<name>.safetensors, of
another seed than 0 <name>_seed<seed>.safetensors and the conf/model/*.yaml that names it, and the
measured numbers to training.json.

A seed draws all that chance decides in a training: the training scenes, the initial weights, the
order of batches and the augmentation. Every seed draws its scenes from the same digits and
textures, none of them in the evaluation split, or its signals and volumes by other random numbers
than those of that split, so the benchmark's are unseen by each network. No seed is left out or
chosen by what its network does. Seed 0 is stored in float32, the others in float16, and measured as
stored.

Nothing tells a network where an object is: it learns from the classes that are present. Training
runs no CAM method, because a network trained on a method's maps would favour it. The settings of
`scenes_vgg` were chosen on validation scenes (docs/studies/embedded-network.md). `scenes_shortcut`
is trained likewise, on scenes with a spurious mark; for another mark than the tile its weights go
to results/embedded/<name>_<pattern>_seed<seed>.safetensors.
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

HELD_OUT, EXPLAINED = 2_000, 400  # scenes for the accuracy, and for the maps
BATCH = 64
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
TEST, VALIDATION = (
    ("evaluation", 0),
    ("validation", 7),
)  # split and seed; the benchmark draws the first scenes of TEST
METHODS, METRICS = (
    ("xgrad_cam", "grad_cam", "random"),
    ("pointing_game", "box_iou", "sensitivity_error"),
)
ELSEWHERE = Path("results", "embedded")  # weights that aren't committed
Loss = Callable[
    [Any, Tensor, Tensor], Tensor
]  # of a network, its input and targets, such as each class's presence


class Recipe(NamedTuple):
    """A training: the split and number of scenes, the epochs over them, and the sparsity of
    sparse_loss (scenes_resnet learns with shares_loss, without). measured: the scenes to report on,
    as split and seed. pattern: of the mark on all scenes, empty without. kind: of the data set.
    """

    split: str
    scenes: int
    epochs: int
    sparsity: float
    measured: dict[str, tuple[str, int]]
    pattern: str = ""
    kind: str = "scenes"

    def data(self, split: str, size: int, seed: int) -> DrawnImages:
        """The data set."""
        pattern = {"pattern": self.pattern} if self.pattern else {}
        dataset = load_dataset(
            {"kind": self.kind, "split": split, "size": size, "seed": seed, **pattern}
        )
        assert isinstance(dataset, DrawnImages)
        return dataset


MEASURED = {"validation": VALIDATION, "test": TEST}
# scenes_vgg was chosen by validation scenes, so it is trained on the rest of "train"; scenes_resnet
# was not chosen.
RECIPES = {
    "scenes_vgg": Recipe("fit", 16_000, 6, 0.05, MEASURED),
    "scenes_resnet": Recipe("train", 24_000, 8, 0, {"test": TEST}),
    "scenes_shortcut": Recipe("fit", 16_000, 6, 0.05, MEASURED, "tile", "scenes_marked"),
    "signals_cnn": Recipe("fit", 16_000, 6, 0.05, MEASURED, kind="signals"),
    "volumes_cnn": Recipe("fit", 8_000, 6, 0.05, MEASURED, kind="volumes"),
    "synthetic_shapes_cnn": Recipe("fit", 8_000, 8, 0.05, MEASURED, kind="synthetic_shapes"),
}


def draw_scenes(dataset: DrawnImages, target: Callable[[Any], Tensor]) -> tuple[Tensor, Tensor]:
    """(images (n, C, *space) uint8, targets (n, ...), made of each scene)."""
    images, targets = [], []
    with ProcessPoolExecutor(THREADS) as pool:
        for scene in pool.map(dataset.draw, range(len(dataset)), chunksize=200):
            images.append(torch.from_numpy(scene.image).movedim(-1, 0))
            targets.append(target(scene))
    return torch.stack(images), torch.stack(targets)


def presence(classes: int, scene: Any) -> Tensor:
    """Of each class in a scene, 1 or 0: (classes,) float."""
    present = torch.zeros(classes)
    present[[label for label, _ in scene.objects]] = 1
    return present


def draw_presence(recipe: Recipe, split: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(images (n, C, *space) uint8, presence of each class (n, classes) float)."""
    dataset = recipe.data(split, count, seed)
    return draw_scenes(dataset, partial(presence, len(dataset.classes)))


def normalised(images: Tensor) -> Tensor:
    """(n, C, *space) uint8 -> float32, normalised as the networks expect."""
    return (images.float() / 255 - networks.MEAN[0]) / networks.STD[0]  # those of all channels


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image with its channels permuted, half of them inverted, so that colour tells nothing
    about the class.
    """
    space = (1,) * (images.ndim - 2)
    order = torch.rand(*images.shape[:2], generator=generator).argsort(1)
    shuffled = images.gather(1, order.view(*order.shape, *space).expand_as(images))
    negative = torch.rand(len(images), 1, *space, generator=generator) < 0.5
    return torch.where(negative, 255 - shuffled, shuffled)


def shares_loss(network: nn.Sequential, images: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy to an equal probability for each class present."""
    return cross_entropy(network(images), present / present.sum(1, keepdim=True))


def sparse_loss(sparsity: float, network: nn.Sequential, images: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy to the classes present, and sparsity times the mean activation of the
    target layer.
    """
    if images.ndim == 4:  # channels_last takes a third less time
        images = images.contiguous(memory_format=torch.channels_last)
    activations = network.get_submodule("features")(images)
    classes = binary_cross_entropy_with_logits(network[1:](activations), present)
    return 3 * classes + sparsity * activations.mean()


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
    """Train with AdamW and a one-cycle schedule up to the rate. seed: of batches and
    augmentation.
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
    """The network, trained by the recipe, without batch norm where it is folded; float32 values as
    they are stored.
    """
    images, present = draw_presence(recipe, recipe.split, recipe.scenes, seed)
    torch.manual_seed(seed)  # for the initial weights
    network: nn.Module
    if name == "scenes_resnet":
        train(
            network := networks.scenes_resnet(), shares_loss, images, present, recipe.epochs, seed
        )
    else:
        network = networks.BUILDERS[name](batch_norm=True)
        train(network, partial(sparse_loss, recipe.sparsity), images, present, recipe.epochs, seed)
        network = fold_batch_norm(network, networks.BUILDERS[name]())
    return network.half().float() if seed or recipe.pattern != RECIPES[name].pattern else network


def fold_batch_norm(network: nn.Module, folded: nn.Module) -> nn.Module:
    """The trained network's weights in its twin without batch norm: each is folded into the layer
    before it.
    """
    weighted = (layer for layer in folded.modules() if isinstance(layer, _ConvNd | nn.Linear))
    layers = [
        layer for layer in network.modules() if isinstance(layer, _ConvNd | nn.Linear | _BatchNorm)
    ]
    for layer, norm in pairwise([*layers, None]):
        if isinstance(layer, _ConvNd) and isinstance(norm, _BatchNorm):
            next(weighted).load_state_dict(fuse_conv_bn_eval(layer, norm).state_dict())
        elif isinstance(layer, nn.Linear) and isinstance(norm, _BatchNorm):
            next(weighted).load_state_dict(fuse_linear_bn_eval(layer, norm).state_dict())
        elif isinstance(layer, _ConvNd | nn.Linear):
            next(weighted).load_state_dict(layer.state_dict())
    return folded.eval()


def measure(
    name: str,
    network: nn.Module,
    recipe: Recipe,
    split: str,
    seed: int,
    metrics: Sequence[str | Callable[[ab.Explanation], Tensor]] = METRICS,
) -> dict[str, float]:
    """The accuracy and the median logit of the classes present; the means of the metrics, of the
    sensitivity error the median, of the objects of the first EXPLAINED scenes.
    """
    images, present = draw_presence(recipe, split, HELD_OUT, seed)
    with torch.inference_mode():
        logits = torch.cat([network(normalised(part)) for part in images.split(250)])
    values = {
        "accuracy": present.gather(1, logits.argmax(1, keepdim=True)).mean().item(),
        "median_score": logits[present.bool()].median().item(),
    }
    dataset = recipe.data(split, EXPLAINED, seed)
    channels = len(networks.MEAN if dataset.shape is None else dataset.shape[:1])
    preprocessing = Preprocessing(
        None, None, networks.MEAN[:channels], networks.STD[:channels], shape=dataset.shape
    )
    rows = batches(dataset, range(EXPLAINED), preprocessing, "each_label")
    drawn = (
        batch for batch in rows if isinstance(batch, ab.Batch)
    )  # a drawn scene is never a bad image
    frame = ab.evaluate(network, networks.LAYERS[name], drawn, METHODS, metrics)
    for method, metric in product(METHODS, frame["metric"].unique()):
        chosen = (
            (frame["method"] == method) & (frame["metric"] == metric) & (frame["status"] == "ok")
        )
        column = frame.loc[chosen, "value"]
        if (
            len(column) > 0
        ):  # random weights are not on the score's scale: they have no sensitivity error
            values[f"{method}_{metric}"] = float(
                column.median() if metric == "sensitivity_error" else column.mean()
            )
    return {key: round(value, 4) for key, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(RECIPES), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    parser.add_argument(
        "--pattern", choices=marked.PATTERNS, help="of the mark of scenes_shortcut; default: tile"
    )
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    for seed, name in product(options.seeds, options.names):
        recipe, file = RECIPES[name], networks.weights_file(name, seed)
        if recipe.pattern and options.pattern not in (None, recipe.pattern):
            recipe = recipe._replace(pattern=options.pattern)
            file = ELSEWHERE / f"{name}_{options.pattern}_seed{seed}.safetensors"
            if file.exists():
                continue
        start = time.perf_counter()
        network = trained(name, seed, recipe)
        cost = {"seconds": round(time.perf_counter() - start), "threads": torch.get_num_threads()}
        values = {
            part: measure(name, network, recipe, *drawn) for part, drawn in recipe.measured.items()
        }
        save(file, name, network, {**values, **cost})
        if seed and file == networks.weights_file(name, seed):
            write_settings(name, seed)


def save(file: Path, name: str, network: nn.Module, values: Mapping[str, object]) -> None:
    """Write the weights, and what was measured of the network, as an entry of training.json."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        (network if file == networks.weights_file(name) else deepcopy(network).half()).state_dict(),
        file,
    )
    file.chmod(0o644)  # safetensors writes for the owner alone
    results = {**values, "parameters": sum(parameter.numel() for parameter in network.parameters())}
    print(file.stem, json.dumps(results, indent=2), flush=True)
    path = networks.weights_file(name).with_name("training.json")
    entries = json.loads(path.read_text(encoding="utf-8")) | {file.stem: results}
    path.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_settings(name: str, seed: int) -> None:
    """Write conf/model/<name>_seed<seed>.yaml, which says what differs from seed 0; and its data,
    if any.
    """
    folder, data = conf_folder() / "model", conf_folder() / "data_model"
    title = f"# Embedded: {name} trained once more, from seed {seed}; not chosen by what it does.\n"
    settings = f"defaults: [{name}]\nname: {name}_seed{seed}\nweights: seed{seed}\n"
    settings += "finetuned: null\n" * bool(model_config(name).get("finetuned"))
    (folder / f"{name}_seed{seed}.yaml").write_text(title + settings, encoding="utf-8")
    if (data / f"scenes_{name}.yaml").exists():
        of_data = f"# @package _global_\ndefaults: [scenes_{name}]\n"
        (data / f"scenes_{name}_seed{seed}.yaml").write_text(of_data, encoding="utf-8")


if __name__ == "__main__":
    main()
