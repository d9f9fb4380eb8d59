"""Tests of the captioned scenes and of the planted words."""

import numpy as np
import pytest
import torch

import axiom_bench as ab
from axiom_bench.data.embedded import Captions
from axiom_bench.embedded import captions, planted, scenes
from axiom_bench.embedded.captions import CAPTIONED, WORDS

COUNT = 200
DIGITS = {"rtol": 1e-9, "atol": 1e-11}  # of a few sums of float64


def sentence(scene):
    return " ".join(WORDS[word] for word in scene.caption).replace(" ,", ",")


@pytest.fixture(scope="module")
def drawn():
    return [captions.draw("evaluation", 0, number) for number in range(COUNT)]


def test_a_sentence_names_the_larger_digit_first_and_where_it_is(drawn):
    for scene in drawn:
        words = sentence(scene).replace(",", "").split()
        (label, large), *others = scene.objects
        assert words[:3] == ["a", str(label), "on"]
        assert words[3] in captions.GROUND_WORDS
        if not others:
            assert len(words) == 4
            continue
        ((other, small),) = others
        assert words[-2:] == ["a", str(other)]
        right = (large[0] + large[2] - small[0] - small[2]) / 2
        down = (large[1] + large[3] - small[1] - small[3]) / 2
        relation = {
            "left": -right,
            "right": right,
            "above": -down,
            "below": down,
        }
        assert max(relation, key=relation.get) == words[4]
        assert (scene.mask == label).sum() > (scene.mask == other).sum()


def test_every_word_of_the_vocabulary_occurs_and_no_sentence_is_too_long(drawn):
    assert {word for scene in drawn for word in scene.caption} == {*range(len(WORDS))}
    assert max(len(scene.caption) for scene in drawn) == 9  # "a 7 on stripes, left of a 3"


def test_the_word_of_the_ground_is_that_of_the_drawn_pattern():
    # The ground that a scene's random numbers draw, from the first of them on, is the scene's.
    for number in range(8):
        drawing = scenes.make_drawing("evaluation", 0, number, CAPTIONED)
        rng = CAPTIONED.rng("evaluation", 0, number)
        ground, _ = CAPTIONED.ground(rng, "evaluation")
        assert np.array_equal(ground, drawing.ground)


def test_splits_have_other_grounds():
    grounds = [scenes.make_drawing(split, 0, 3, CAPTIONED).ground for split in scenes.SPLITS]
    assert len({ground.tobytes() for ground in grounds}) == len(scenes.SPLITS)


def test_the_data_set_has_the_scenes_and_their_parts(drawn):
    data = Captions(4, 0)
    assert data.ids[3] == "captions-evaluation-0-000003"
    assert data.classes == tuple("0123456789")
    sample = data.read(3)
    assert np.array_equal(np.asarray(sample.image), drawn[3].image)
    *objects, ground = data.interventions(3)
    assert {part.label for part in objects} == {label for label, _ in drawn[3].objects}
    assert ground.label is None


def traced(scores, images, found, layer):
    places = torch.stack([word.place for word in found]).double()
    labels = torch.tensor([word.label for word in found])
    images = images[:1].expand(len(found), -1, -1, -1)
    return ab.trace(scores, layer, (images, places), labels, output="logits")


def test_planted_words_read_their_half_and_nothing_else():
    scores = ab.WordScores(planted.planted_words().double()).eval()
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 96, 96, generator=generator, dtype=torch.float64) * 4 - 2
    (found,) = scores.found(image, 0)
    assert [word.name for word in found] == ["left", "and", "right"]
    trace = traced(scores, image, found, "features")
    truth = trace.true_contributions
    torch.testing.assert_close(truth.flatten(1).sum(1), trace.scores, **DIGITS)
    assert not truth[0, ..., 8:].any()
    assert truth[0, ..., :8].any()
    assert not truth[1].any()
    assert not truth[2, ..., :8].any()
