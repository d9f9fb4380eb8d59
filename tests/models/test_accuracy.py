"""Published networks on photographs.

Their accuracy is known, so the weights, classes and preprocessing are right.
"""

import pytest
import torch

from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config

pytestmark = pytest.mark.real
STANDARD = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# A network, a step (every sixteenth photograph or every fourth is used) and the accuracy on them.
# ResNet-50, which takes the longest, has 0.735 on all 400.
ACCURACY = [
    ("resnet18", 16, 0.64),
    pytest.param("squeezenet1_1", 4, 0.59, marks=pytest.mark.slow),
    pytest.param("resnet18", 4, 0.67, marks=pytest.mark.slow),
    pytest.param("resnet50", 16, 0.64, marks=pytest.mark.slow),
    pytest.param("mobilenet_v2", 4, 0.72, marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step", "accuracy"), ACCURACY)
def test_top_1_accuracy(real_root, name, step, accuracy):
    """Allow a difference of one image: another machine's kernels may turn a close call."""
    model = load_model({**model_config(name), "weights_folder": str(real_root / "weights")})
    assert model.preprocessing == STANDARD
    dataset = load_dataset({"kind": "imagenet", "root": str(real_root / "data/imagenet")})
    positions = range(0, len(dataset), step)
    items = list(batches(dataset, positions, STANDARD, "label", batch_size=25))
    assert sum(len(batch) for batch in items) == len(positions) == 400 // step
    with torch.inference_mode():
        is_right = [model.module(batch.images).argmax(1) == batch.targets for batch in items]
    right = torch.cat(is_right)
    assert right.float().mean().item() == pytest.approx(accuracy, abs=1.01 / len(right))
