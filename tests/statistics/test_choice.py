"""The answer of a race, from values that are written out."""

import numpy as np
import pandas as pd
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.statistics.choice import (
    COSTLY,
    Contest,
    decided,
    fields,
    images_needed,
    in_words,
    raced,
)
from axiom_bench.statistics.labels import Value
from axiom_bench.statistics.race import Candidate, Race

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


def rows(metric, values, images):
    """Return the records of {(layer, method): values of images}."""
    records = []
    for (layer, method), numbers in values.items():
        for image in range(images):
            records.append(
                {
                    "layer": layer,
                    "method": method,
                    "image_id": f"image {image}",
                    "target_class": 0,
                    "metric": metric,
                    "value": float(np.broadcast_to(numbers, IMAGES)[image]),
                    "status": "ok",
                }
            )
    return records


def contest(values, images=IMAGES, better="higher", pointing=None):
    """Return the contest by single deletion, and by a pointing game if it has values."""
    metadata = {"deletion": Value("deletion", "Single deletion", better=better, kind="bounded")}
    records = rows("deletion", values, images)
    if pointing is not None:
        metadata["pointing"] = Value("pointing", "Pointing game", better="higher", kind="bounded")
        records += rows("pointing", pointing, images)
    methods = {method for _, method in values}
    titles = {name: title for name, title in TITLES.items() if name in methods}
    passes = dict.fromkeys(TITLES, 0) | {"score": COSTLY}
    return Contest(pd.DataFrame(records), metadata, titles, frozenset({"uniform"}), passes)


def answer(values, reasons=None, **options):
    made = contest(values, **options)
    return decided(made, raced(made, {}, 1), reasons)


CLEAR = {
    ("last", "grad"): 0.8 + NOISE,
    ("last", "cam"): 0.8 + NOISE,
    ("last", "layer"): 0.4 + OTHER_NOISE,
    ("last", "uniform"): 0.1 + NOISE[::-1],
}


def test_a_method_that_beats_all_others_is_chosen_with_those_of_the_same_map():
    choice = answer(CLEAR, {"last": "only pooling follows"})
    assert (choice.layer, choice.methods, choice.is_best) == ("last", ("grad", "cam"), True)
    assert choice.sentences == (
        "Show Grad-CAM at last.",
        "Grad-CAM and CAM draw the same map at last: only pooling follows.",
        "LayerCAM (by 0.380, p < 0.001) is worse by single deletion.",
    )
    statuses = {standing.method: standing.status for standing in choice.standings}
    assert statuses == {"grad": "chosen", "cam": "chosen", "layer": "worse", "uniform": "control"}


def test_lower_values_can_be_better():
    lower = {name: 1 - np.asarray(numbers) for name, numbers in CLEAR.items()}
    choice = answer(lower, better="lower")
    assert choice.methods == ("grad", "cam")
    assert choice.standings[0].mean == pytest.approx(0.2 - NOISE.mean())


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
    assert choice.sentences[1].startswith("Score-CAM can't be distinguished from it on 16 images")
    assert choice.sentences[1].endswith("images would show a difference of 0.05.")


def test_nothing_is_chosen_if_a_control_is_as_good():
    values = {("last", "grad"): 0.5 + NOISE, ("last", "uniform"): 0.5 + OTHER_NOISE}
    choice = answer(values)
    assert choice.methods == ()
    assert choice.sentences[0] == (
        "By single deletion on 16 images, none of these methods is significantly better than "
        "Uniform, which explains nothing."
    )


def test_what_would_show_that_a_method_is_better_than_a_control():
    values = {("last", "grad"): 0.53 + NOISE, ("last", "uniform"): 0.5 + OTHER_NOISE}
    difference = float((values["last", "grad"] - values["last", "uniform"]).mean())
    assert difference > 0
    sentence = answer(values).sentences[1]
    assert f"{difference:.3g} better than Uniform; about" in sentence


def test_a_method_with_a_controls_map_is_that_control():
    values = {**CLEAR, ("last", "score"): CLEAR["last", "uniform"]}
    field = fields(contest(values))["deletion"]
    assert [control.method for control in field.controls] == ["uniform"]
    assert all(name.method != "score" for group in field.groups for name in group)


def test_layers_race_too():
    values = {**CLEAR, ("first", "grad"): 0.2 + OTHER_NOISE}
    choice = answer(values)
    assert choice.layer == "last"
    assert "Grad-CAM at first" in " ".join(choice.sentences)


def test_another_metric_that_disagrees_is_reported():
    pointing = {
        ("last", "grad"): 0.3 + NOISE,
        ("last", "cam"): 0.3 + NOISE,
        ("last", "layer"): 0.9 + OTHER_NOISE,
        ("last", "uniform"): 0.1 + NOISE[::-1],
    }
    choice = answer(CLEAR, pointing=pointing)
    assert choice.methods == ("grad", "cam")
    assert choice.sentences[-1] == "By pointing game, LayerCAM is better than it (p < 0.001)."


def test_another_metric_that_no_method_wins_is_reported():
    pointing = dict.fromkeys(CLEAR, 0.5 + NOISE) | {("last", "grad"): 0.5 + OTHER_NOISE}
    sentence = answer(CLEAR, pointing=pointing).sentences[-1]
    assert sentence.startswith("By pointing game on 16 images, none of these methods")


def test_methods_without_values_are_named():
    made = contest(CLEAR)
    made.titles["score"] = "Score-CAM"
    choice = decided(made, raced(made, {}, 1))
    assert choice.sentences[-1] == "Score-CAM has no values of single deletion here."


def test_few_images_rank_nothing():
    choice = answer(CLEAR, images=7)
    assert choice.methods == ()
    assert choice.sentences == (
        "7 images with values are too few to rank methods: give at least 8.",
        "Grad-CAM and CAM draw the same map at last.",
    )


def test_values_of_no_method_are_a_mistake():
    with pytest.raises(BenchError, match="No method has values of Single deletion"):
        answer({("last", "uniform"): 0.5})


def test_a_choice_prints_itself():
    lines = str(answer(CLEAR)).splitlines()
    assert lines[0] == "Show Grad-CAM at last."
    assert all(line.startswith("  ") for line in lines[1:])


def test_more_noise_needs_more_images():
    differences = np.random.default_rng(3).normal(0, 0.1, 40)
    race = Race((Candidate("last", "grad"),), (), 0.05, 1)
    few = images_needed(race, [differences], [0.05])
    many = images_needed(race, [3 * differences], [0.05])
    of_two = Race((Candidate("last", "grad"), Candidate("last", "cam")), (), 0.05, 1)
    assert images_needed(of_two, [differences], [0.05]) > few
    # the standard error falls with the root of the number of images
    assert many == pytest.approx(9 * few)
    assert in_words(few) == "about 46 images"
    assert in_words(20_000) == "over 10,000 images"
