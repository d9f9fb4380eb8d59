"""FunnyBirds in its published layout, written to a temporary folder.

The tests cover parts, versions without them, the truth about a network, and error messages.
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
    assert [part.name for part in parts] == list(BIRD_PLACES)
    assert [part.label for part in parts] == [1] * len(parts)
    assert [int(part.mask.sum()) for part in parts] == [9] * len(parts)
    assert (sum(part.mask for part in (*parts, ground)) == 1).all()

    for part in parts:
        row, column = BIRD_PLACES[part.name]
        assert part.mask[row : row + 3, column : column + 3].all()
        without = np.asarray(part.images[0])
        changed = (without != np.asarray(sample.image)).any(2)
        assert (changed == part.mask).all()
        assert (without[part.mask] == 90).all()
    assert (np.asarray(ground.bare[0]) == 90).all()


def test_both_truths_of_a_network_that_adds_up_are_what_each_part_adds(funnybirds_root):
    """Compare with a score that is the sum of the red values.

    Each of a part's 9 pixels adds the difference between its grey and the ground's, which is 90.
    """
    red = nn.Conv2d(3, 1, 1, bias=False)
    red.weight.data[:] = torch.tensor([1.0, 0, 0])[None, :, None, None]
    total = nn.Linear(1, 2)
    total.weight.data[:] = BIRD_SIDE**2  # undoes the mean
    total.bias.data[:] = 0
    model = nn.Sequential(red, nn.AdaptiveAvgPool2d(1), nn.Flatten(), total)
    preprocessing = Preprocessing(None, None, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    dataset = load("funnybirds", funnybirds_root)
    (batch,) = batches(dataset, [2], preprocessing, extras={"interventions"})

    trace = trace_of_batch(ab.cut(model.eval(), "0"), batch)

    greys_above_ground = [20 + 20 * BIRD_PARTS.index(name) for name in BIRD_PLACES]
    added = [9.0 * grey for grey in greys_above_ground]
    added.append(0)  # the ground
    expected = pytest.approx(added, abs=0.05)  # float32 sums of 40,000
    assert trace.part_effects[0].tolist() == expected
    assert trace.part_shapley_values[0].tolist() == expected


def test_mistakes_are_sentences(funnybirds_root):
    no_part_map = r"1/000000\.png: there is no file .*test_part_map/1/000000\.png"
    with pytest.raises(BadImage, match=no_part_map):
        load("funnybirds", funnybirds_root).interventions(1)

    path = funnybirds_root / f"test_interventions/{BIRD}/body_beak_eye_foot_tail.png"
    Image.new("RGB", (5, 4)).save(path)
    other_size = r"body_beak_eye_foot_tail\.png has \(5, 4\) pixels .* the image \(16, 16\)"
    with pytest.raises(BadImage, match=other_size):
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
