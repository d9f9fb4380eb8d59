"""Python's `explain` of networks that find objects or say words."""

import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench.embedded import captions
from axiom_bench.embedded.captions import WORDS
from axiom_bench.errors import BenchError
from axiom_bench.models.words import is_function_word

METHODS = ["layer_cam", "xgrad_cam"]


@pytest.fixture(scope="module")
def pictures():
    return [Image.fromarray(captions.draw("evaluation", 7, number).image) for number in (0, 3)]


def sentence(number):
    words = captions.draw("evaluation", 7, number).caption
    return " ".join(WORDS[word] for word in words).replace(" ,", ",")


@pytest.mark.slow
def test_each_word_of_each_image_has_a_row_function_words_last(pictures):
    maps = ab.explain("scenes_vlm", images=pictures, methods=METHODS)
    words = [sentence(number).replace(",", "").split() for number in (0, 3)]
    counts = [len(words[0]), len(words[1])]
    assert maps.texts == [sentence(0)] * counts[0] + [sentence(3)] * counts[1]
    assert maps.names == ["image 0"] * counts[0] + ["image 1"] * counts[1]
    expected = [sorted(said, key=is_function_word) for said in words]
    assert [score.name for score in maps.scores] == expected[0] + expected[1]
    assert not maps.notes
    assert maps["layer_cam"].shape == (sum(counts), 96, 96)
    # the picture has each image once, and a part for each word
    assert len(maps.figure().subfigs) == 2 + sum(counts)


@pytest.mark.slow
def test_a_word_has_the_map_of_its_place(pictures):
    network = ab.load_model("scenes_vlm")
    maps = ab.explain(network, images=pictures[0], methods=METHODS, words=["7"])
    pixels = network.loaded.preprocessing.from_photograph(pictures[0], "image")[None]
    (found,) = network.found(pixels, 0)
    (seven,) = [word for word in found if word.name == "7"]
    inputs = (pixels, seven.place[None])
    expected = ab.explain(network, images=inputs, methods=METHODS, targets=[seven.label])
    for method in METHODS:
        assert torch.equal(maps[method], expected[method])


def test_objects_have_rows_and_classes_choose_among_them(pictures):
    network = ab.load_model("scenes_detector")
    maps = ab.explain(network, images=pictures[0], methods=METHODS)
    assert [score.name for score in maps.scores] == ["digit 1", "digit 7"]
    assert all(score.box is not None for score in maps.scores)
    chosen = ab.explain(network, images=pictures[0], methods=METHODS, targets="digit 7")
    assert [score.name for score in chosen.scores] == ["digit 7"]
    # a batch of one row is rounded otherwise than one of two
    torch.testing.assert_close(chosen["xgrad_cam"][0], maps["xgrad_cam"][1], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("scenes_vlm", {"words": ["left"]}, "without 'left'; choose one of its words"),
        ("scenes_vlm", {"targets": 5}, "choose them by words=, without targets"),
        ("scenes_detector", {"targets": 5}, "finds no digit 5 in image 0"),
        ("scenes_detector", {"words": ["left"]}, "says no text, so it has no words="),
    ],
)
def test_an_image_without_it_is_one_error(pictures, model, arguments, message):
    with pytest.raises(BenchError, match=message):
        ab.explain(model, images=pictures[0], methods=METHODS, **arguments)
