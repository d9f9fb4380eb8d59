"""Published networks on 100 photographs: their accuracy is known, so weights, classes and preprocessing are right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.models.load import load_model
from axiom_bench.models.registry import model_config

pytestmark = pytest.mark.real
STANDARD = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Of every fourth; on all 400 photographs 0.655, 0.7125, 0.735 and 0.75.
ACCURACY = {"squeezenet1_1": 0.59, "resnet18": 0.67, "resnet50": 0.67, "mobilenet_v2": 0.72}


@pytest.fixture(scope="module")
def photographs(real_root: Path) -> list[Batch]:
    """Decoded once for all networks, whose weights all expect the same."""
    dataset = load_dataset({"kind": "imagenet", "root": str(real_root / "data/imagenet")})
    every_fourth = range(0, len(dataset), 4)
    items = list(batches(dataset, every_fourth, STANDARD, "label", batch_size=32))
    assert sum(len(batch) for batch in items) == 100
    return items


@pytest.mark.parametrize("name", ACCURACY)
def test_top_1_accuracy(real_root: Path, photographs: list[Batch], name: str) -> None:
    """To 0.01, one image: kernels of another machine may turn a close call."""
    model = load_model({**model_config(name), "weights_folder": str(real_root / "weights")})
    assert model.preprocessing == STANDARD
    with torch.inference_mode():
        hits = [int((model.module(batch.images).argmax(1) == batch.targets).sum()) for batch in photographs]
    assert sum(hits) / 100 == pytest.approx(ACCURACY[name], abs=0.01)
