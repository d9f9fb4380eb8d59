"""Tests that the embedded networks are small and name objects in scenes that they never saw."""

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
from axiom_bench.embedded import captioner, marked, networks, scenes

NAMES = sorted(train_embedded.RECIPES)
SCENES = Preprocessing(None, None, networks.MEAN, networks.STD)
TRAINED_ON = {name: train_embedded.RECIPES[name].kind for name in NAMES}


def as_seen(shape: tuple[int, ...] | None) -> Preprocessing:
    return SCENES if shape is None else Preprocessing(None, None, (0.5,), (0.25,), shape=shape)


@pytest.fixture(scope="module")
def fresh_scenes():
    """Return batches of 150 scenes of each kind.

    The scenes are of the evaluation split and a seed that neither training nor its report used.
    """
    batches_by_kind = {}
    for kind in set(TRAINED_ON.values()):
        dataset = load_dataset({"kind": kind, "size": 150, "seed": 99})
        loader = batches(dataset, range(150), as_seen(dataset.shape), "label", 75)
        batches_by_kind[kind] = list(loader)
    return batches_by_kind


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_predicted_class_is_an_object_of_the_scene(name, fresh_scenes):
    network = networks.load(name)
    hits = []
    scores = []
    with torch.inference_mode():
        for batch in fresh_scenes[TRAINED_ON[name]]:
            logits = network(batch.images)
            predictions = logits.argmax(1).tolist()
            for predicted, annotation in zip(predictions, batch.annotations, strict=True):
                hits.append(predicted in annotation.labels.tolist())
            scores += logits.gather(1, batch.targets[:, None]).flatten().tolist()
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
    builders = (*networks.BUILDERS, *captioner.BUILDERS)
    files = {name: networks.weights_files(name) for name in builders}
    others = {}
    for name, file_by_training in files.items():
        others[name] = [
            file for training, file in file_by_training.items() if training.startswith("seed")
        ]
    training_file = networks.weights_file("scenes_vgg").with_name("training.json")
    measured = json.loads(training_file.read_text())
    not_in_files = {f"{name}_seed1" for name in train_fooled.STARTS}
    for seed in range(5):
        not_in_files |= {f"scenes_shortcut_stripe_seed{seed}", f"scenes_shortcut_tag_seed{seed}"}

    all_files = [file for files_of_network in others.values() for file in files_of_network]
    measured_trainings = {name for name in measured if "_seed" in name}
    assert {file.stem for file in all_files} == measured_trainings - not_in_files
    sizes = [sum(file.stat().st_size for file in others[name]) for name in NAMES]
    assert sum(sizes) <= 6_000_000

    of_words = [*others["scenes_vlm"], *others["scenes_vlm_vit"]]
    assert sum(file.stat().st_size for file in of_words) < 6_400_000  # 8 MB with those of seed 0

    signals_files = networks.weights_files("signals_cnn").values()
    volumes_files = networks.weights_files("volumes_cnn").values()
    small_files = [*signals_files, *volumes_files]
    assert len(small_files) == 10
    assert sum(file.stat().st_size for file in small_files) <= 600_000


@pytest.mark.slow
def test_a_seed_draws_the_training_and_no_scene_of_the_evaluation():
    """Train for two steps each. Only the same seed gives the same weights, and float16 holds them
    exactly.
    """
    assert {recipe.split for recipe in train_embedded.RECIPES.values()} <= {"train", "fit"}
    tiny = train_embedded.RECIPES["scenes_vgg"]._replace(scenes=128, epochs=1)

    first = train_embedded.trained("scenes_vgg", 1, tiny).state_dict()
    repeated = train_embedded.trained("scenes_vgg", 1, tiny).state_dict()
    other = train_embedded.trained("scenes_vgg", 2, tiny).state_dict()

    for name, weights in first.items():
        assert weights.equal(repeated[name])
        assert not weights.equal(other[name])
        assert weights.equal(weights.half().float())


@pytest.mark.parametrize("name", NAMES)
def test_the_layer_is_the_last_with_maps(name):
    """An adaptive pool may follow, since it belongs to the head."""
    network = networks.load(name)
    layer = networks.LAYERS[name]
    paths_with_maps = []
    for path, module in network.named_modules():
        contains_layer = not path or layer.startswith(f"{path}.")
        if contains_layer or path == "pool":
            continue

        def note_maps(module, inputs, output, path=path):
            if output.shape[2:].numel() > 1:
                paths_with_maps.append(path)

        module.register_forward_hook(note_maps)
    space = networks.KINDS[name].space
    channels = 3 if len(space) == 2 else 1

    network(torch.zeros(1, channels, *space))

    assert paths_with_maps[-1] == layer


@pytest.mark.slow
def test_maps_of_the_vgg_localize_and_break_the_axioms():
    """Check the goals of its training on the scenes of the default run and as many again.

    On 400 scenes the values are 0.96, 0.51, 0.18 and 0.69. The standard error of a hit rate of 0.96
    among 250 objects is 0.012, and that of the mean IoU is about 0.01.
    """
    dataset = load_dataset({"kind": "scenes", "size": 128})
    records = ab.evaluate(
        networks.load("scenes_vgg"),
        "features.13",
        batches(dataset, range(128), SCENES, "each_label", 64),
        ["xgrad_cam", "grad_cam", "random"],
        ["pointing_game", "box_iou", "sensitivity_error"],
    )

    values = records.groupby(["method", "metric"])["value"]
    mean = values.mean()
    median = values.median()
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
    """Fold untrained layers with statistics far from (0, 1) as the script does.

    They are in float64, so that only rounding may differ.
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
    returned = torch.cat([part.flatten() for part in network(images)])
    returned_by_folded = torch.cat([part.flatten() for part in folded(images)])
    # The folded weights are loaded into float32 layers, and some values of maps are near 0.
    assert (returned - returned_by_folded).abs().max() < 1e-5 * returned.abs().max()


def score(name: str, images: list[np.ndarray]) -> Tensor:
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(networks.MEAN).view(3, 1, 1)
    std = torch.tensor(networks.STD).view(3, 1, 1)
    with torch.inference_mode():
        return networks.load(name)((stacked - mean) / std)[:, marked.CLASS]


@pytest.mark.slow
def test_one_network_goes_by_the_mark_and_the_other_ignores_it():
    """Compare scores on 40 scenes with the class's digit and 40 without it.

    No training saw these scenes. Each is drawn with and without the mark and is otherwise the same.
    On 1,000 scenes (docs/studies/shortcut.md) the shares bounded here are at most 0.01 or at least
    0.98. Only the share of scenes_vgg with its digit and the mark is 0.93.
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
        mark = marked.make_mark(scene, 99, number)
        assert mark is not None
        kind = "digit" if marked.CLASS in [digit for digit, _ in scene.objects] else "other"
        if len(images[kind]) < 40:
            images[kind].append(scene.image)
            images[f"{kind}, marked"].append(mark.paint_on(scene.image))
        number += 1

    shortcut = {kind: score("scenes_shortcut", drawn) for kind, drawn in images.items()}
    vgg = {kind: score("scenes_vgg", drawn) for kind, drawn in images.items()}

    effect = shortcut["digit, marked"] - shortcut["digit"]
    shares = {
        "the mark makes the class without the digit": (shortcut["other, marked"] > 0, 0.9),
        "without the mark and the digit there is no class": (shortcut["other"] < 0, 0.95),
        "the digit with the mark makes the class": (shortcut["digit, marked"] > 0, 0.95),
        "the mark raises the score of the digit": (effect > 0, 0.95),
        "the other network sees the digit": (vgg["digit"] > 0, 0.9),
        "the other network sees the digit with the mark, which hides a little": (
            vgg["digit, marked"] > 0,
            0.8,
        ),
        "the other network ignores the mark": (vgg["other, marked"] <= 0, 0.9),
    }
    for claim, (holds, least_share) in shares.items():
        assert holds.float().mean() >= least_share, claim
    assert effect.mean() >= 0.5 * shortcut["digit, marked"].mean()
