"""Output modules: the groups of ImageNet classes under a VOC class, behind a network, and the cut through both."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from bench import cut, models
from bench.data.voc import CLASSES
from bench.errors import BenchError
from bench.models import outputs
from bench.torchvision_import import torchvision  # noqa: F401 -- must come before its submodules

from torchvision.models._meta import _IMAGENET_CATEGORIES  # isort: skip

REAL = Path(os.environ.get("AXIOM_BENCH_REAL", Path(__file__).parents[2].parent / "shared"))


def rows() -> list[dict[str, str]]:
    with outputs.GROUPS.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_every_voc_class_has_imagenet_classes_and_none_has_two_parents() -> None:
    groups = outputs.voc_in_imagenet()
    assert tuple(groups) == CLASSES
    assert all(groups.values())
    everything = [index for group in groups.values() for index in group]
    assert len(set(everything)) == len(everything) == 242
    assert (len(groups["dog"]), len(groups["bird"]), len(groups["cat"])) == (118, 59, 5)
    assert set(everything) <= set(range(1000))


def test_every_entry_is_the_class_that_it_names() -> None:
    """Names against torchvision's list; the standard order is that of the synset ids, so they ascend together."""
    for row in rows():
        name = {"crane": "crane bird"}.get(row["name"], row["name"])  # torchvision tells the two cranes apart
        assert _IMAGENET_CATEGORIES[int(row["index"])].lower() == name.lower()
    by_index = sorted(rows(), key=lambda row: int(row["index"]))
    synsets = [row["synset"] for row in by_index]
    assert synsets == sorted(set(synsets))


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "data").is_dir(), reason=f"there is no data in {REAL}")
def test_every_synset_is_at_its_index_of_the_standard_order() -> None:
    standard = (REAL / "data/imagenet/LOC_synset_mapping.txt").read_text().split("\n")
    assert all(standard[int(row["index"])].startswith(f"{row['synset']} {row['name']}") for row in rows())


def test_groups_are_log_sum_exp() -> None:
    logits = torch.randn(3, 7, dtype=torch.float64)
    found = outputs.LogSumExpGroups([[1], [0, 6, 3]]).double()(logits)
    assert torch.allclose(found[:, 0], logits[:, 1])
    assert torch.allclose(found[:, 1], logits[:, [0, 6, 3]].exp().sum(1).log())


def test_softmax_over_groups_is_the_conditional_probability() -> None:
    logits = torch.randn(3, 1000, dtype=torch.float64)
    module = outputs.LogSumExpGroups(list(outputs.voc_in_imagenet().values())).double()
    probability = logits.softmax(1)
    of_groups = torch.stack([probability[:, list(group)].sum(1) for group in outputs.voc_in_imagenet().values()], 1)
    assert torch.allclose(module(logits).softmax(1), of_groups / of_groups.sum(1, keepdim=True))


def test_a_model_of_voc_groups() -> None:
    bare = models.load({**models.config("resnet18"), "weights": None})
    loaded = models.load({**models.config("resnet18"), "weights": None, "output": "voc_groups"})
    assert (loaded.name, loaded.layer, loaded.classes) == ("resnet18+voc_groups", "network.layer4", CLASSES)
    assert (loaded.number_of_classes, loaded.weights_sha256) == (20, bare.weights_sha256)
    images = torch.randn(2, 3, 64, 64)
    logits = bare.module(images)
    dogs = logits[:, list(outputs.voc_in_imagenet()["dog"])].logsumexp(1)
    assert torch.allclose(loaded.module(images)[:, CLASSES.index("dog")], dogs)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**models.config("scenes_vgg"), "output": "voc_groups"}, "1000 ImageNet classes.*10 logits"),
        ({**models.config("scenes_vgg"), "output": "voc_group"}, "did you mean 'voc_groups'"),
    ],
)
def test_mistakes(config: dict[str, object], says: str) -> None:
    with pytest.raises(BenchError, match=says):
        models.load(config)


def small(head: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), head)
    return outputs.WithOutput(body, outputs.LogSumExpGroups([[0, 4], [1], [2, 3, 5, 7]])).eval()


HEADS = {
    "pooled": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8)),
    "fully connected": lambda: nn.Sequential(nn.Flatten(), nn.Linear(216, 10), nn.ReLU(), nn.Linear(10, 8)),
}


def drops_by_hand(network: nn.Module, layer: str, images: torch.Tensor, targets: list[int]) -> torch.Tensor:
    """S - S_k of a network whose layer is the second module: each channel set to zero in turn."""
    body = network.get_submodule(layer.rpartition(".")[0])
    assert isinstance(body, nn.Sequential)
    assert isinstance(network, outputs.WithOutput)
    maps = body[:2](images)
    scores = torch.tensor([])
    drops = []
    for channel in range(-1, maps.shape[1]):
        ablated = maps.clone()
        if channel >= 0:
            ablated[:, channel] = 0
        found = network.output(body[2:](ablated))[range(len(images)), targets]
        scores = found if channel < 0 else scores
        drops.append(scores - found)
    return torch.stack(drops[1:], 1)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_ablations_through_the_groups_are_exact(head: str, dtype: torch.dtype) -> None:
    network, targets = small(HEADS[head]()).to(dtype), [0, 1, 2, 2]
    images = torch.randn(4, 3, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(1))
    drops = cut(network, "network.1").trace(images, torch.tensor(targets)).ablation_drops.double()
    expected = drops_by_hand(network.double(), "network.1", images.double(), targets)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    assert (drops - expected).abs().max() <= tolerance * expected.abs().max()
