"""Published networks on 100 photographs: their accuracy is known, so weights, classes and preprocessing are right."""

import pytest
import torch

from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config

pytestmark = pytest.mark.real
STANDARD = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Of every fourth photograph; of ResNet-50, which takes the longest, of every sixteenth, and on all 400 0.735.
ACCURACY = [("squeezenet1_1", 1, 0.59), ("resnet18", 1, 0.67), ("resnet50", 4, 0.64), ("mobilenet_v2", 1, 0.72)]


@pytest.fixture(scope="module")
def photographs(real_root):
    """100 images and their classes: decoded once for all networks, whose weights all expect the same."""
    dataset = load_dataset({"kind": "imagenet", "root": str(real_root / "data/imagenet")})
    every_fourth = range(0, len(dataset), 4)
    items = list(batches(dataset, every_fourth, STANDARD, "label", batch_size=32))
    assert sum(len(batch) for batch in items) == 100
    return torch.cat([batch.images for batch in items]), torch.cat([batch.targets for batch in items])


@pytest.mark.parametrize(("name", "step", "accuracy"), ACCURACY)
def test_top_1_accuracy(real_root, photographs, name, step, accuracy):
    """To one image: kernels of another machine may turn a close call."""
    model = load_model({**model_config(name), "weights_folder": str(real_root / "weights")})
    assert model.preprocessing == STANDARD
    images, targets = (each[::step] for each in photographs)
    with torch.inference_mode():
        predicted = torch.cat([model.module(part).argmax(1) for part in images.split(25)])
    assert (predicted == targets).float().mean().item() == pytest.approx(accuracy, abs=1.01 / len(images))
