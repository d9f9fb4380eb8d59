"""What a race says, from values that are written out."""

import numpy as np
import pandas as pd
import pytest

from axiom_bench.cli.choose import decided, raced
from axiom_bench.errors import BenchError
from axiom_bench.statistics.choice import COSTLY, Contest, fields, images_needed
from axiom_bench.statistics.labels import Value

IMAGES = 16
NOISE = np.random.default_rng(0).normal(0, 0.05, IMAGES)
OTHER_NOISE = np.random.default_rng(1).normal(0, 0.05, IMAGES)
TITLES = {
    "cam": "CAM",
    "grad": "Grad-CAM",
    "layer": "LayerCAM",
    "score": "Score-CAM",
    "uniform": "Uniform",
}


def contest(values, images=IMAGES, better="higher"):
    """Return the contest of {(layer, method): values of images}."""
    rows = []
    for (layer, method), numbers in values.items():
        for image in range(images):
            rows.append(
                {
                    "layer": layer,
                    "method": method,
                    "image_id": f"image {image}",
                    "target_class": 0,
                    "metric": "deletion",
                    "value": float(np.broadcast_to(numbers, IMAGES)[image]),
                    "status": "ok",
                }
            )
    value = Value("deletion", "Single deletion", better=better, kind="bounded")
    passes = dict.fromkeys(TITLES, 0) | {"score": COSTLY}
    return Contest(
        pd.DataFrame(rows), {"deletion": value}, TITLES, frozenset({"uniform"}), passes
    )


def answer(values, **options):
    made = contest(values, **options)
    return decided(made, raced(made, {}, 1), None)


CLEAR = {
    ("last", "grad"): 0.8 + NOISE,
    ("last", "cam"): 0.8 + NOISE,
    ("last", "layer"): 0.4 + OTHER_NOISE,
    ("last", "uniform"): 0.1 + NOISE[::-1],
}


def test_a_method_that_beats_all_others_is_chosen_with_those_of_the_same_map():
    choice = answer(CLEAR)
    assert (choice.layer, choice.methods, choice.is_best) == ("last", ("grad", "cam"), True)
    assert choice.sentences == (
        "Show Grad-CAM at last.",
        "Grad-CAM and CAM draw the same map at last.",
        "LayerCAM (0.380, p < 0.001) is worse by single deletion.",
        'Use it:  ab.explain(model, "last", "photo.jpg", methods=["grad"])',
    )


def test_lower_values_can_be_better():
    lower = {name: 1 - np.asarray(numbers) for name, numbers in CLEAR.items()}
    assert answer(lower, better="lower").methods == ("grad", "cam")


def test_of_methods_that_cannot_be_told_apart_the_cheapest_is_chosen():
    noise = np.random.default_rng(2).normal(0, 0.3, (2, IMAGES))
    values = {
        ("last", "score"): 0.82 + noise[0],
        ("last", "layer"): 0.80 + noise[1],
        ("last", "uniform"): -2 + NOISE,
    }
    choice = answer(values)
    assert choice.methods == ("layer",)
    assert not choice.is_best
    assert choice.sentences[0] == (
        "Show LayerCAM at last, the cheapest of those that can't be distinguished."
    )
    assert choice.sentences[1].startswith("Score-CAM can't be distinguished from it on 16 images")


def test_nothing_is_chosen_if_a_control_is_as_good():
    values = {("last", "grad"): 0.5 + NOISE, ("last", "uniform"): 0.5 + OTHER_NOISE}
    choice = answer(values)
    assert choice.methods == ()
    assert "none of these shows more than Uniform" in choice.sentences[0]


def test_a_method_with_a_controls_map_is_that_control():
    values = {**CLEAR, ("last", "score"): CLEAR["last", "uniform"]}
    made = fields(contest(values))["deletion"]
    assert [control.method for control in made.controls] == ["uniform"]
    assert all(name.method != "score" for group in made.groups for name in group)


def test_layers_race_too():
    values = {**CLEAR, ("first", "grad"): 0.2 + OTHER_NOISE}
    choice = answer(values)
    assert choice.layer == "last"
    assert "Grad-CAM at first" in " ".join(choice.sentences)


def test_few_images_rank_nothing():
    choice = answer(CLEAR, images=7)
    assert choice.methods == ()
    assert choice.sentences[0].startswith("7 images are too few to rank methods")
    assert choice.sentences[1] == "Grad-CAM and CAM draw the same map at last."


def test_values_of_no_method_are_a_mistake():
    with pytest.raises(BenchError, match="No metric has values"):
        answer({("last", "uniform"): 0.5})


def test_more_noise_needs_more_images():
    differences = np.random.default_rng(3).normal(0, 0.1, 40)
    few = images_needed([differences])
    many = images_needed([3 * differences])
    # the standard error falls with the root of the number of images
    assert many == pytest.approx(9 * few, rel=0.1)
