"""FunnyBirds in its published layout, made in a temporary folder: parts, versions without them,
truth, errors.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import axiom_bench as ab
from axiom_bench.data.base import BadImage
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import trace_of_batch
from tests.data.builders import BIRD, BIRD_PARTS, BIRD_PLACES, BIRD_SIDE, cut, load


def test_the_parts_that_are_seen(funnybirds_root):
    dataset = load("funnybirds", funnybirds_root)
    sample = dataset.read(2)
    assert sample.image.mode == "RGB"
    *parts, ground = dataset.interventions(2)
    assert [(part.name, part.label, int(part.mask.sum())) for part in parts] == [
        (name, 1, 9) for name in BIRD_PLACES
    ]
    assert (sum(part.mask for part in (*parts, ground)) == 1).all()
    for part in parts:
        (row, column), without = BIRD_PLACES[part.name], np.asarray(part.images[0])
        assert part.mask[row : row + 3, column : column + 3].all()
        changed = (without != np.asarray(sample.image)).any(2)
        assert (changed == part.mask).all()
        assert (without[part.mask] == 90).all()
    assert (np.asarray(ground.bare[0]) == 90).all()


def test_both_truths_of_a_network_that_adds_up_are_what_each_part_adds(funnybirds_root):
    """The score is the sum of the red values, so a part adds 9 times its shade above the ground's
    90.
    """
    model = nn.Sequential(
        nn.Conv2d(3, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)
    )
    model[0].weight.data[:] = torch.tensor([1.0, 0, 0])[None, :, None, None]
    model[3].weight.data[:], model[3].bias.data[:] = BIRD_SIDE**2, 0
    ready = Preprocessing(None, None, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    (batch,) = batches(load("funnybirds", funnybirds_root), [2], ready, extras={"interventions"})
    trace = trace_of_batch(ab.cut(model.eval(), "0"), batch)
    added = torch.tensor([9.0 * (20 + 20 * BIRD_PARTS.index(name)) for name in BIRD_PLACES] + [0])
    # float32 of 40,000
    assert trace.part_effects[0].tolist() == pytest.approx(added.tolist(), abs=0.05)
    assert trace.part_shapley_values[0].tolist() == pytest.approx(added.tolist(), abs=0.05)


def test_mistakes_are_sentences(funnybirds_root):
    with pytest.raises(
        BadImage, match=r"1/000000\.png: there is no file .*test_part_map/1/000000\.png"
    ):
        load("funnybirds", funnybirds_root).interventions(1)
    path = funnybirds_root / f"test_interventions/{BIRD}/body_beak_eye_foot_tail.png"
    Image.new("RGB", (5, 4)).save(path)
    with pytest.raises(
        BadImage, match=r"body_beak_eye_foot_tail\.png has \(5, 4\) pixels .* the image \(16, 16\)"
    ):
        load("funnybirds", funnybirds_root).interventions(2)
    cut(funnybirds_root / f"test_part_map/{BIRD}.png", 60)
    with pytest.raises(BadImage, match="can't be decoded"):
        load("funnybirds", funnybirds_root).interventions(2)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("classes.json", None, r"classes\.json can't be read: .*; expected the FunnyBirds layout"),
        ("classes.json", "[1, 2]", r"classes\.json is no list of objects"),
        (
            "dataset_test.json",
            "[{}]",
            r"dataset_test\.json has an image without a class_idx of classes\.json",
        ),
        ("dataset_test.json", '[{"class_idx": 2}]', "without a class_idx of classes"),
    ],
)
def test_lists_that_tell_nothing(funnybirds_root, name, text, sentence):
    (funnybirds_root / name).unlink()
    if text is not None:
        (funnybirds_root / name).write_text(text)
    with pytest.raises(BenchError, match=sentence):
        load("funnybirds", funnybirds_root)
