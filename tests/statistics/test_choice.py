"""The answer of a race, from values that are written out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.statistics.choice import (
    COSTLY,
    LEVEL,
    Contest,
    decided,
    fields,
    images_needed,
    in_words,
    levels_of,
    raced,
    still_racing,
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
    assert choice.sentences[1].startswith(
        "Score-CAM can't be distinguished from LayerCAM on 16 images"
    )
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
    assert choice.sentences[0] == (
        "By single deletion, show Grad-CAM at last; by pointing game, LayerCAM."
    )
    assert choice.sentences[-1] == "By pointing game, LayerCAM is better than Grad-CAM (p < 0.001)."


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


def look(before, values, metrics=("deletion",), **options):
    """Return the contest of a further look, after the contest `before`."""
    made = contest(values, **options)
    return replace(
        made,
        titles={**before.titles, **made.titles},
        values={name: made.values[name] for name in metrics},
        earlier_fields=fields(before),
    )


def test_what_cannot_win_and_beaten_controls_need_no_further_measurement():
    """Grad-CAM and CAM draw the same map, and wait for a method that is as good."""
    values = {**CLEAR, ("last", "score"): 0.8 + OTHER_NOISE, ("first", "layer"): 0.4 + NOISE}
    first = contest(values)
    races = raced(first, {}, 2)
    racing = still_racing(first, races)
    assert racing == {("last", "grad"), ("last", "cam"), ("last", "score")}
    rest = {name: values[name] for name in values if name in racing}
    second = look(first, rest)
    races = raced(second, races, 2)
    choice = decided(second, races)
    standings = {(row.layer, row.method): row.status for row in choice.standings}
    assert standings["first", "layer"] == standings["last", "layer"] == "worse"
    assert standings["last", "uniform"] == "control"
    assert choice.methods == ("grad", "cam")
    assert "LayerCAM (0.400 worse than Score-CAM, p < 0.001)" in str(choice)
    assert "no values" not in str(choice)


def test_a_control_that_a_contender_has_not_beaten_is_measured_further():
    values = {
        ("last", "grad"): 0.8 + NOISE,
        ("last", "score"): np.where(np.arange(IMAGES) % 2, 2.5, -0.9) + OTHER_NOISE,
        ("last", "uniform"): 0.1 + NOISE[::-1],
    }
    made = contest(values)
    racing = still_racing(made, raced(made, {}, 2))
    assert racing == {("last", "grad"), ("last", "score"), ("last", "uniform")}


def test_values_of_an_earlier_look_are_not_tested_again():
    """The second look has as many images with values as the first, but they aren't the same."""
    first = contest(CLEAR)
    races = raced(first, {}, 2)
    rest = {name: CLEAR[name] for name in CLEAR if name[1] in ("grad", "cam")}
    second = look(first, rest)
    field = fields(second)["deletion"]
    assert set(field.gains) == set(rest)
    assert set(field.earlier_gains) == set(CLEAR) - set(rest)
    assert raced(second, races, 2)["deletion"].dropped == races["deletion"].dropped


def test_a_contender_without_values_in_a_later_look_is_no_choice():
    """CAM draws Grad-CAM's map, and races under its name."""
    values = {name: CLEAR[name] for name in CLEAR if name[1] in ("grad", "cam")}
    values["last", "uniform"] = CLEAR["last", "grad"] + OTHER_NOISE
    first = contest(values)
    races = raced(first, {}, 2)
    second = look(first, {name: values[name] for name in values if name[1] != "grad"})
    choice = decided(second, races)
    assert choice.methods == ()
    assert "what could win has values of too few images to be chosen" in str(choice)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_metrics_share_the_level(count):
    levels = levels_of([f"metric {number}" for number in range(count)])
    assert sum(levels.values()) == pytest.approx(LEVEL)
    assert levels["metric 0"] == (LEVEL if count == 1 else LEVEL / 2)


def test_a_metric_that_has_values_only_later_does_not_race():
    """Its part of the level was given to the others in the first look."""
    first = contest(CLEAR)
    races = raced(first, {}, 2)
    pointing = {name: 1 - np.asarray(numbers) for name, numbers in CLEAR.items()}
    second = look(first, CLEAR, metrics=("deletion", "pointing"), pointing=pointing)
    later = raced(second, races, 2)
    assert set(later) == {"deletion"}
    assert "pointing" not in str(decided(second, later))


def test_metrics_of_contributions_compare_methods_at_the_default_layer():
    values = {**CLEAR, ("first", "layer"): 0.9 + NOISE}
    made = contest(values)
    value = replace(made.values["deletion"], reads_contributions=True)
    made = replace(made, values={"deletion": value}, default_layer="last")
    assert {name.layer for name in fields(made)["deletion"].gains} == {"last"}


def test_metrics_that_prefer_the_same_method_share_a_sentence():
    better = {
        ("last", "grad"): 0.3 + NOISE,
        ("last", "cam"): 0.3 + NOISE,
        ("last", "layer"): 0.9 + OTHER_NOISE,
    }
    made = contest(CLEAR, pointing=better)
    energy = Value("energy", "Energy", better="higher", kind="bounded")
    records = pd.concat([made.records, pd.DataFrame(rows("energy", better, IMAGES))])
    made = replace(made, records=records, values={**made.values, "energy": energy})
    choice = decided(made, raced(made, {}, 1))
    assert choice.sentences[0].endswith("; by pointing game and energy, LayerCAM.")
    assert choice.sentences[-1].startswith("By pointing game and energy, LayerCAM is better")


def test_without_a_choice_the_winner_by_another_metric_is_named():
    values = {("last", "grad"): 0.5 + NOISE, ("last", "layer"): 0.5 + NOISE[::-1]}
    values["last", "uniform"] = 0.5 + OTHER_NOISE
    axiom = {("last", "grad"): 0.9 + NOISE, ("last", "layer"): 0.2 + NOISE}
    choice = answer(values, pointing=axiom)
    assert choice.methods == ()
    assert "By pointing game, Grad-CAM at last is better than all others." in choice.sentences


def test_images_that_cannot_be_read_are_counted():
    made = contest(CLEAR)
    is_bad = made.records["image_id"] == "image 3"
    made.records.loc[is_bad, ["value", "status"]] = [np.nan, "bad_image"]
    choice = decided(made, raced(made, {}, 1))
    assert choice.images == IMAGES - 1
    assert choice.sentences[-1] == "1 of 16 images is left out: bad_image."


def test_objects_of_one_image_are_no_images_that_are_left_out():
    made = contest(CLEAR)
    number = made.records["image_id"].str.removeprefix("image ").astype(int)
    objects = "image " + (number // 2).astype(str) + "//00" + (number % 2).astype(str)
    made = replace(made, records=made.records.assign(image_id=objects))
    choice = decided(made, raced(made, {}, 1))
    assert choice.images == IMAGES // 2
    assert not any("left out" in sentence for sentence in choice.sentences)
