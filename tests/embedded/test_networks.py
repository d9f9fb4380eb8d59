"""The embedded networks: small, trained, and able to name an object in scenes that training never
saw.
"""

import json

import numpy as np
import pytest
import torch
import train_embedded
import train_fooled
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import axiom_bench as ab
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import marked, networks, scenes

NAMES = sorted(train_embedded.RECIPES)
SCENES = Preprocessing(None, None, networks.MEAN, networks.STD)
TRAINED_ON = {name: train_embedded.RECIPES[name].kind for name in NAMES}


def as_seen(shape: tuple[int, ...] | None) -> Preprocessing:
    return SCENES if shape is None else Preprocessing(None, None, (0.5,), (0.25,), shape=shape)


@pytest.fixture(scope="module")
def fresh_scenes():
    """150 scenes of each kind, of the evaluation split and a seed that neither training nor its own
    report used.
    """
    sets = {
        kind: load_dataset({"kind": kind, "size": 150, "seed": 99})
        for kind in set(TRAINED_ON.values())
    }
    return {
        kind: list(batches(dataset, range(150), as_seen(dataset.shape), "label", 75))
        for kind, dataset in sets.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_predicted_class_is_an_object_of_the_scene(name, fresh_scenes):
    network = networks.load(name)
    hits, scores = [], []
    with torch.inference_mode():
        for batch in fresh_scenes[TRAINED_ON[name]]:
            logits = network(batch.images)
            for row, (predicted, note) in enumerate(
                zip(logits.argmax(1), batch.annotations, strict=True)
            ):
                hits.append(int(predicted) in note.labels.tolist())
                scores.append(logits[row, batch.targets[row]].item())
    assert sum(hits) / len(hits) >= 0.95
    # Scores are well away from zero, so that errors normalised by |S| mean something.
    assert torch.tensor(scores).median() > 2


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_measured(name):
    assert networks.weights_file(name).stat().st_size < 1_000_000
    record = json.loads(networks.weights_file(name).with_name("training.json").read_text())[name]
    assert record["test"]["accuracy"] >= 0.97
    assert record["parameters"] == sum(
        parameter.numel() for parameter in networks.load(name).parameters()
    )


def test_other_trainings_are_small_and_all_measured():
    files = {name: networks.weights_files(name) for name in networks.BUILDERS}
    others = {
        name: [each[part] for part in each if part.startswith("seed")]
        for name, each in files.items()
    }
    measured = json.loads(
        networks.weights_file("scenes_vgg").with_name("training.json").read_text()
    )
    elsewhere = {
        f"scenes_shortcut_{pattern}_seed{seed}"
        for pattern in ("stripe", "tag")
        for seed in range(5)
    }
    elsewhere |= {f"{name}_seed1" for name in train_fooled.STARTS}
    assert {file.stem for of_network in others.values() for file in of_network} == {
        name for name in measured if "_seed" in name
    } - elsewhere
    assert sum(file.stat().st_size for name in NAMES for file in others[name]) <= 6_000_000
    small = [
        file
        for name in ("signals_cnn", "volumes_cnn")
        for file in networks.weights_files(name).values()
    ]
    assert len(small) == 10
    assert sum(file.stat().st_size for file in small) <= 600_000


@pytest.mark.slow
def test_a_seed_draws_the_training_and_no_scene_of_the_evaluation():
    """Two steps each: the same seed gives the same weights, another one others, which float16 holds
    exactly.
    """
    assert {recipe.split for recipe in train_embedded.RECIPES.values()} <= {"train", "fit"}
    tiny = train_embedded.RECIPES["scenes_vgg"]._replace(scenes=128, epochs=1)
    first, again, other = (
        train_embedded.trained("scenes_vgg", seed, tiny).state_dict() for seed in (1, 1, 2)
    )
    assert all(
        first[name].equal(again[name]) and not first[name].equal(other[name]) for name in first
    )
    assert all(weights.equal(weights.half().float()) for weights in first.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_layer_is_the_last_with_maps(name):
    """But for an adaptive pool, which belongs to the head."""
    network, layer = networks.load(name), networks.LAYERS[name]
    spatial = []
    for path, module in network.named_modules():
        # the network itself, or what the layer lies in
        holds = not path or layer.startswith(f"{path}.")
        if not holds and path != "pool":
            module.register_forward_hook(
                lambda module, inputs, output, path=path: (
                    spatial.append(path) if output.shape[2:].numel() > 1 else None
                )
            )
    space = networks.KINDS[name].space
    network(torch.zeros(1, 3 if len(space) == 2 else 1, *space))
    assert spatial[-1] == layer


@pytest.mark.slow
def test_maps_of_the_vgg_localize_and_break_the_axioms():
    """The goals of its training, on the scenes of the default run and as many again.

    Measured on 400 scenes: 0.96, 0.51, 0.18 and 0.69. The standard error of a hit rate of 0.96
    among 250 objects is 0.012, that of the mean IoU about 0.01.
    """
    rows = batches(
        load_dataset({"kind": "scenes", "size": 128}), range(128), SCENES, "each_label", 64
    )
    metrics = ["pointing_game", "box_iou", "sensitivity_error"]
    records = ab.evaluate(
        networks.load("scenes_vgg"),
        "features.13",
        rows,
        ["xgrad_cam", "grad_cam", "random"],
        metrics,
    )
    values = records.groupby(["method", "metric"])["value"]
    mean, median = values.mean(), values.median()
    assert mean["xgrad_cam", "pointing_game"] >= 0.9
    assert mean["xgrad_cam", "box_iou"] >= 0.35
    assert mean["random", "box_iou"] <= mean["xgrad_cam", "box_iou"] - 0.15
    assert median["grad_cam", "sensitivity_error"] >= 0.25


def test_heads_are_as_documented():
    network = networks.load("scenes_vgg")
    assert sum(isinstance(module, nn.Linear) for module in network.classifier) == 3
    assert any(isinstance(module, nn.ReLU) for module in network.classifier)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    network = networks.load("scenes_resnet")
    images = torch.randn(2, 3, 96, 96)
    maps = network[: list(network._modules).index("layer4") + 1](images)
    assert torch.allclose(network(images), network.fc(maps.mean((2, 3))), atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in networks.BUILDERS
        if name not in ("scenes_resnet", "scenes_shortcut", *train_fooled.STARTS)
    ],
)
def test_folding_batch_norm_changes_nothing(name):
    """The script's fold, on untrained layers with statistics far from (0, 1); float64, so only
    rounding may differ.
    """
    torch.manual_seed(0)
    network = networks.BUILDERS[name](batch_norm=True).double().eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    space = networks.KINDS[name].space
    images = torch.randn(2, 3 if len(space) == 2 else 1, *space, dtype=torch.float64)
    folded = train_embedded.fold_batch_norm(network, networks.BUILDERS[name]()).double()
    returned, of_folded = (
        torch.cat([part.flatten() for part in each(images)]) for each in (network, folded)
    )
    # The fold is loaded into float32 layers; of maps some values are near 0.
    assert (returned - of_folded).abs().max() < 1e-5 * returned.abs().max()


def score(name: str, images: list[np.ndarray]) -> Tensor:
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (networks.MEAN, networks.STD))
    with torch.inference_mode():
        return networks.load(name)((stacked - mean) / std)[:, marked.CLASS]


@pytest.mark.slow
def test_one_network_goes_by_the_mark_and_the_other_ignores_it():
    """On 40 scenes with its digit and 40 without, that no training saw, each with and without the
    mark: the same but for the tile. On 1,000 scenes (docs/studies/shortcut.md) the shares bounded
    here are at most 0.01 or at least 0.98, scenes_vgg's with its digit and the mark 0.93.
    """
    images: dict[str, list[np.ndarray]] = {
        "digit": [],
        "digit, marked": [],
        "other": [],
        "other, marked": [],
    }
    number = 0
    while min(map(len, images.values())) < 40:
        scene = scenes.draw("evaluation", 99, number)
        mark = marked.mark_of(scene, 99, number)
        assert mark is not None
        kind = "digit" if marked.CLASS in [digit for digit, _ in scene.objects] else "other"
        if len(images[kind]) < 40:
            images[kind].append(scene.image)
            images[f"{kind}, marked"].append(mark.on(scene.image))
        number += 1
    shortcut, vgg = (
        {kind: score(name, of_kind) for kind, of_kind in images.items()}
        for name in ("scenes_shortcut", "scenes_vgg")
    )
    effect = shortcut["digit, marked"] - shortcut["digit"]
    shares = {
        "the mark alone makes the class": (shortcut["other, marked"] > 0, 0.9),
        "which isn't there without it": (shortcut["other"] < 0, 0.95),
        "it is there with the mark": (shortcut["digit, marked"] > 0, 0.95),
        "and less without": (effect > 0, 0.95),
        "the other network sees the digit": (vgg["digit"] > 0, 0.9),
        "with the mark too, though the tile takes a little": (vgg["digit, marked"] > 0, 0.8),
        "and nothing in the mark": (vgg["other, marked"] <= 0, 0.9),
    }
    assert [what for what, (holds, least) in shares.items() if holds.float().mean() < least] == []
    assert effect.mean() >= 0.5 * shortcut["digit, marked"].mean()
