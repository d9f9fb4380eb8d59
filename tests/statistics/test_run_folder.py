"""Tests of reading run folders, and of the messages about damaged ones."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records import files
from axiom_bench.statistics.bootstrap import over_networks
from axiom_bench.statistics.chosen import CHOICE_FILE, CONTROL, IN_THE_RACE, Choice, Standing
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import rows_of

LAYERS = {"net": ("features.9", "features.12", "features.2")}


def test_names_are_in_the_manifests_order_and_labels_say_no_more_than_needed(usual):
    assert list(usual.records.methods) == [
        "-",
        "grad_cam",
        "xgrad_cam",
        "hires_cam",
        "ablation_cam_axiomatic",
        "guided_xgrad_cam",
        "random",
    ]
    assert usual.metrics[:2] == ("sensitivity_error", "conservation_error")
    assert usual.settings == (
        Setting("scenes_fc", "features.9", "scenes"),
        Setting("scenes_residual", "stages.2", "scenes"),
    )
    assert [usual.label(setting) for setting in usual.settings] == ["scenes_fc", "scenes_residual"]


def test_layers_keep_the_manifests_order_and_else_count_their_numbers(
    make_run, make_records, edit_manifest
):
    folder = make_run(make_records(4, LAYERS), layers=LAYERS, pictures=False)
    run = RunFolder.read(folder)
    assert [setting.layer for setting in run.settings] == list(LAYERS["net"])
    assert run.label(run.settings[0]) == "net features.9"
    edit_manifest(folder, models={})
    assert [setting.layer for setting in RunFolder.read(folder).settings] == [
        "features.2",
        "features.9",
        "features.12",
    ]


def test_the_layer_of_a_choice_is_the_first_one(make_run, make_records):
    folder = make_run(make_records(4, LAYERS), layers=LAYERS, pictures=False)
    best = Standing("features.2", "grad_cam", "Grad-CAM", 0.5, 0.1, IN_THE_RACE, 4)
    control = replace(best, layer="features.9", method="uniform", status=CONTROL)
    choice = Choice("features.12", (), "zeta", 4, False, ("Show it.",), "", None, (control, best))
    files.write_json(folder / CHOICE_FILE, asdict(choice))
    layers = [setting.layer for setting in RunFolder.read(folder).settings]
    assert layers == ["features.12", "features.9", "features.2"]
    # without a chosen layer, the one with the best value that is no control's
    files.write_json(folder / CHOICE_FILE, asdict(replace(choice, layer=None)))
    layers = [setting.layer for setting in RunFolder.read(folder).settings]
    assert layers == ["features.2", "features.9", "features.12"]


def test_a_whole_set_s_value_knows_the_value_of_images_that_it_is_made_of(make_run, edit_manifest):
    images = [rows_of(name, {"a": [0.5, 0.7]}) for name in ("hits", "hits_too")]
    stars = [rows_of(name, {"a": [0.6]}) for name in ("best", "alone", "unlisted")]
    stars = [star.assign(target_class=-1, predicted_class=-1, image_id="*") for star in stars]
    records = pd.concat([*images, *stars])
    folder = make_run(
        records, layers={"net": ("last",)}, methods={"a": {}}, runtime=False, pictures=False
    )
    owners = {"hits": "mine", "hits_too": "mine", "best": "mine", "alone": "another"}
    metrics = {name: {"title": name, "metric": owner} for name, owner in owners.items()}
    edit_manifest(folder, metrics=metrics)
    expected = {"best": "hits", "alone": "alone", "unlisted": "unlisted"}
    assert RunFolder.read(folder).image_value_of == expected


def test_over_networks_an_image_of_two_classes_is_one_image(make_run):
    """A method without a value in one of the networks isn't compared over them either."""
    names = ("one", "two", "three")
    generator = np.random.default_rng(0)
    values = generator.normal(size=(60, 3))  # rows of 30 images, each with two classes
    tables = []
    for place, model in enumerate(names):
        partly = np.full(30, np.nan) if place else values[:30, 0]
        for label in (0, 1):
            of_class = {"a": values[label::2, place], "b": partly}
            tables.append(rows_of("box_iou", of_class, model=model).assign(target_class=label))
    layers = dict.fromkeys(names, ("last",))
    run = RunFolder.read(
        make_run(pd.concat(tables), layers=layers, methods={"a": {}, "b": {}}, pictures=False)
    )
    value = run.metadata.value("box_iou")

    found_by_method = run.over_networks(run.settings, value)

    assert list(found_by_method) == ["a"]
    expected = over_networks(values, np.arange(60) // 2, value.lead)
    for value, by_hand in zip(found_by_method["a"], expected, strict=True):
        np.testing.assert_allclose(value, by_hand, rtol=1e-12)


def test_ok_without_a_number_is_not_ok_and_only_listed_records_count(
    make_run, make_records, edit_manifest
):
    records = make_records(10)
    broken = (records["metric"] == "box_iou") & (records["image_id"] == "scene_00005")
    records.loc[broken, "value"] = np.nan
    folder = make_run(records, pictures=False)
    changed = RunFolder.read(folder).records.frame().query("status == 'not_finite'")
    assert len(changed) == broken.sum()
    assert set(changed["metric"]) == {"box_iou"}
    edit_manifest(folder, jobs=files.read_json(folder / "manifest.json")["jobs"][:1])
    assert set(RunFolder.read(folder).records.frame()["model"]) == {"scenes_fc"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "can't be read"), ("[]", "can't be read"), ("{}", "isn't a run's manifest")],
)
def test_what_is_no_manifest_is_told(make_run, make_records, text, message):
    folder = make_run(make_records(3), pictures=False)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BenchError, match=message):
        RunFolder.read(folder)


OURS = {"target": "axiom_bench.methods.some.some"}


@pytest.mark.parametrize(("factor", "is_marked"), [(1.000001, True), (1.001, True), (1.01, False)])
def test_a_scaled_method_without_an_error_by_its_formula_is_marked(make_run, factor, is_marked):
    """The scaled method's error is the factor - 1, and the best other one's is 0.15.

    Before global pooling, every method's error is rounding.
    """
    errors = {"exact": 1e-8, "good": 0.15, "fair": 0.6, "shares": 1e-9, "mine": factor - 1}
    hidden_errors = {name: np.full(20, error) for name, error in errors.items()}
    pooled_errors = {name: np.full(20, 1e-7) for name in errors}
    hidden = rows_of("sensitivity_error", hidden_errors)
    pooled = rows_of("sensitivity_error", pooled_errors, model="pooled")
    methods = {
        "exact": {**OURS, "wins_by_construction": ["sensitivity_error"]},
        "good": OURS,
        "fair": OURS,
        "shares": {**OURS, "control": True},
        "mine": {"target": "mine.scaled"},
    }
    folder = make_run(
        pd.concat([hidden, pooled]),
        methods=methods,
        layers={"net": ("last",), "pooled": ("last",)},
        runtime=False,
        pictures=False,
    )

    run = RunFolder.read(folder)

    expected = {"exact", "mine"} if is_marked else {"exact"}
    assert run.metadata.by_construction("sensitivity_error") == expected
