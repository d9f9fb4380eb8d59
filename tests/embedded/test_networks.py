"""The embedded networks: small, trained, and able to name an object in scenes that training never saw."""

import json

import pytest
import torch
import train_embedded
from torch import nn

from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import networks

NAMES = sorted(networks.BUILDERS)
SCENES = Preprocessing(None, None, networks.MEAN, networks.STD)
TRAINED_ON = {name: "scenes_marked" if name == "scenes_shortcut" else "scenes" for name in NAMES}


@pytest.fixture(scope="module")
def fresh_scenes():
    """150 scenes of each kind, of the evaluation split and a seed that neither training nor its own report used."""
    sets = {kind: load_dataset({"kind": kind, "size": 150, "seed": 99}) for kind in set(TRAINED_ON.values())}
    return {kind: list(batches(dataset, range(150), SCENES, "label", 75)) for kind, dataset in sets.items()}


@pytest.mark.parametrize("name", NAMES)
def test_predicted_class_is_an_object_of_the_scene(name, fresh_scenes):
    network = networks.load(name)
    hits, scores = [], []
    with torch.inference_mode():
        for batch in fresh_scenes[TRAINED_ON[name]]:
            logits = network(batch.images)
            for row, (predicted, note) in enumerate(zip(logits.argmax(1), batch.annotations, strict=True)):
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
    assert record["parameters"] == sum(parameter.numel() for parameter in networks.load(name).parameters())


def test_other_trainings_are_small_and_all_measured():
    files = [file for name in NAMES for file in networks.weights_files(name).values() if "_seed" in file.stem]
    measured = json.loads(networks.weights_file("scenes_vgg").with_name("training.json").read_text())
    elsewhere = {f"scenes_shortcut_{pattern}_seed{seed}" for pattern in ("stripe", "tag") for seed in range(5)}
    assert {file.stem for file in files} == {name for name in measured if "_seed" in name} - elsewhere
    assert sum(file.stat().st_size for file in files) <= 6_000_000


@pytest.mark.slow
def test_a_seed_draws_the_training_and_no_scene_of_the_evaluation():
    """Two steps each: the same seed gives the same weights, another one others, which float16 holds exactly."""
    assert {recipe.split for recipe in train_embedded.RECIPES.values()} <= {"train", "fit"}
    tiny = train_embedded.RECIPES["scenes_vgg"]._replace(scenes=128, epochs=1)
    first, again, other = (train_embedded.trained("scenes_vgg", seed, tiny).state_dict() for seed in (1, 1, 2))
    assert all(first[name].equal(again[name]) and not first[name].equal(other[name]) for name in first)
    assert all(weights.equal(weights.half().float()) for weights in first.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_layer_is_the_last_with_maps(name):
    """But for an adaptive pool, which belongs to the head."""
    network, layer = networks.load(name), networks.LAYERS[name]
    spatial = []
    for path, module in network.named_modules():
        holds = not path or layer.startswith(f"{path}.")  # the network itself, or what the layer lies in
        if not holds and not isinstance(module, nn.AdaptiveMaxPool2d):
            module.register_forward_hook(
                lambda module, inputs, output, path=path: spatial.append(path) if output.shape[2:].numel() > 1 else None
            )
    network(torch.zeros(1, 3, 96, 96))
    assert spatial[-1] == layer


def test_folding_batch_norm_changes_nothing():
    """The script's fold, on untrained layers with statistics far from (0, 1); float64, so only rounding may differ."""
    torch.manual_seed(0)
    network = networks.scenes_vgg(batch_norm=True).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    images = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    folded = train_embedded.fold_batch_norm(network).double()
    assert torch.allclose(network(images), folded(images), rtol=1e-5)  # the fold is loaded into float32 layers
