"""Whole runs of planted networks: with the images that are drawn for them, and of other networks beside them."""

from __future__ import annotations

from axiom_bench.embedded.planted import BUILDERS
from axiom_bench.environment import conf_folder
from axiom_bench.run.composing.composition import plain
from axiom_bench.run.sweep import configuration

TRUTH = "metric=[truth_channel_error,truth_correlation,truth_mass_outside,truth_rank_agreement]"
PLANTED = ("model.weights=default", "data.size=3", "method=[hires_cam,xgrad_cam,saliency]", TRUTH)


def test_a_planted_network_is_measured_against_its_truth(run, rows):
    """In the region network HiResCAM is right, XGrad-CAM's totals are and its places aren't, a map has no totals."""
    table = rows(run("model=planted_region", *PLANTED)).set_index(["metric", "method"]).sort_index()
    assert set(table["image_id"]) == {f"evaluation-0-{number:06d}" for number in range(3)}
    assert set(table["data"]) == {"planted"}
    value, status = table["value"], table["status"]
    assert value["truth_channel_error"][["hires_cam", "xgrad_cam"]].max() < 1e-5
    assert value["truth_correlation", "hires_cam"].min() > 1 - 1e-6
    assert value["truth_rank_agreement", "hires_cam"].min() == 1
    assert value["truth_mass_outside", "hires_cam"].max() < 1e-6
    assert value["truth_mass_outside", "xgrad_cam"].min() > 0.1
    assert set(status["truth_channel_error", "saliency"]) == {"no_contributions"}
    assert set(status["truth_correlation", "saliency"]) == {"ok"}


def test_other_networks_and_layers_have_no_truth(run, rows):
    settings = ("model=scenes_vgg", "data.size=2", "method=[hires_cam]", TRUTH)
    assert set(rows(run(*settings))["status"]) == {"no_truth"}


def test_another_output_or_class_has_its_own_truth(run, rows):
    other = rows(run("model=planted_and", *PLANTED[:2], "method=[hires_cam]", TRUTH, "data.target=each_label"))
    assert set(other["target_class"].astype(int)) == {0, 1}
    of_the_other = other[(other["target_class"].astype(int) == 1) & (other["metric"] == "truth_channel_error")]
    assert of_the_other["value"].max() < 1e-5  # its logit is linear in cyan
    probability = rows(run("model=planted_and", "model.output=probability", *PLANTED[:2], "method=[hires_cam]", TRUTH))
    assert set(probability[probability["model"] == "planted_and+probability"]["status"]) == {"no_truth"}


def test_a_planted_network_takes_its_own_images_where_no_others_are_chosen():
    config = plain(configuration(["model=planted_and", "data.size=7"]))
    assert (config["data"]["kind"], config["data"]["size"], config["target"]) == ("planted", 7, "label")
    for name in BUILDERS:
        file = conf_folder() / "data_model" / f"scenes_{name}.yaml"
        assert file.read_text() == "# @package _global_\ndefaults:\n  - planted_images\n"


def test_a_wrong_network_for_the_images_is_one_sentence(run):
    (outcome,) = run("model=planted_and", "data=folder", "data.root=/nowhere", *PLANTED[:2])
    assert "There is no folder /nowhere" in outcome.failure.message
