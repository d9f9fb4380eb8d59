"""scripts/audit: our values by hand; one pair and one case of each library that is installed."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from audit import cases, networks, pages
from audit.__main__ import missing
from audit.cases import Case, Quotation
from audit.methods import measures
from audit.methods import page as methods_page
from audit.methods.pairs import OF_CHANNELS, SETTINGS, pairs_of
from audit.methods.photographs import MEASURES
from audit.methods.readings import READINGS
from audit.metrics import page as metrics_page
from audit.metrics import samples
from audit.metrics.pairs import CURVE, PAIRS, MetricPair
from audit.metrics.perturbation import deletion_in_reading_order, insertion_in_reading_order, road_at_percentile
from torch import nn

from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins

BY_HAND = [entry for entry in PAIRS if entry.by_hand is not None]
OF_METHODS = {case.name: case for case in cases.cases("methods")}
CASES = {
    "pytorch_grad_cam": "methods/grad_cam_ablation_exception.py",
    "torchcam": "methods/torchcam_small_maps.py",
    "captum": "metrics/captum_infidelity_sign.py",
    "quantus": "metrics/quantus_effective_complexity_model.py",
}
METHODS = ("grad_cam@pytorch_grad_cam", "grad_cam@torchcam", "grad_cam@captum")
METRICS = {
    "pytorch_grad_cam": ("average_drop", "DropInConfidence"),
    "torchcam": ("average_drop", "ClassificationMetric"),
    "captum": ("infidelity", "infidelity"),
    "quantus": ("gini", "Sparseness"),
}


def photographs() -> networks.Network:
    """Four random images and a network whose layer is half as large, in place of photographs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(80, 6), nn.ReLU(), nn.Linear(6, 4)),
        )
        images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    return networks.Network("random", model.double().eval(), "1", images, torch.tensor([0, 1, 2, 3]))


def on_photographs(pair, network):
    return measures.relative_differences(measures.returned_maps(pair, network), measures.expected_maps(pair, network))


def needs(library: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} isn't installed: pip install -c requirements.lock -e '.[peers,quantus]'")


def test_tiny_network_by_hand():
    networks.check_tiny(networks.tiny())


@pytest.mark.parametrize("entry", BY_HAND, ids=lambda entry: f"{entry.value}-{entry.library}-{entry.name}")
def test_own_value_equals_the_one_by_hand(entry):
    metrics_page.check_by_hand(entry, samples.tiny())


def test_wrong_value_by_hand_is_detected():
    wrong = MetricPair("gini", "none", "none", peer=lambda sample: [0.0], by_hand=0.5)
    with pytest.raises(AssertionError, match="gini"):
        metrics_page.check_by_hand(wrong, samples.tiny())


def test_pairs_and_settings_name_existing_methods_and_cases():
    assert set(SETTINGS) <= set(plugins.names(plugins.PEERS))
    assert set(OF_CHANNELS) <= set(methods.names())
    named = {f"{entry.case}.py" for entry in PAIRS if entry.case}
    assert named <= {case.path.name for case in cases.cases("metrics")}


def test_degenerate_networks():
    small = networks.tiny()
    for bias, value in ((-1.0, 0.0), (1.0, 1.0)):
        assert (networks.with_layer(small, 0, bias).model[:2](small.images) == value).all()
    silent = networks.with_layer(small, -1, 0.0)
    assert not silent.model(silent.images).any()
    assert small.model(small.images).any()


@pytest.mark.parametrize("library", CASES)
def test_case_of_each_library_is_reproduced(library):
    needs(library)
    case = cases.run(Case(cases.FOLDER / CASES[library]))
    assert case.reproduced
    assert case.output


@pytest.mark.parametrize("name", METHODS)
def test_method_of_each_library_agrees_on_the_tiny_network(name):
    needs(name.partition("@")[2])
    (pair,), small = pairs_of(name), networks.tiny()
    finding = measures.measured(pair, small, small)
    assert finding.agrees
    assert finding.passes >= 1
    assert methods_page._row(finding)[0] == f"`{name}`"


@pytest.mark.parametrize("name", READINGS)
def test_reading_of_the_source_equals_the_library(name):
    needs(name.partition("@")[2])
    network, pair = photographs(), next(pairs_of(name))
    left = measures.difference_left(pair, network, measures.returned_maps(pair, network))
    assert left is not None
    assert left <= pages.AGREES
    assert on_photographs(pair, network).max() > 1e-3  # what the reading explains


def test_guided_grad_cam_of_captum_is_ours_with_bilinear_interpolation():
    needs("captum")
    nearest, bilinear = (on_photographs(pair, photographs()) for pair in pairs_of("guided_grad_cam@captum"))
    assert (nearest > pages.AGREES).all()
    assert bilinear.max() <= 1e-14  # float64: both multiply and sum three numbers


def test_cam_of_torchcam_is_not_rectified():
    needs("torchcam")
    small = networks.tiny_pooled()
    with torch.no_grad():
        small.model[-1].weight.mul_(-1)  # all of the map is negative
    assert on_photographs(next(pairs_of("cam@torchcam")), small).max() <= pages.AGREES


def test_every_case_has_a_claim_and_a_class():
    for case in (*OF_METHODS.values(), *cases.cases("metrics")):
        assert case.claim
        assert case.code
    assert {case.kind for case in OF_METHODS.values()} == {"documented choice", "other reading", "defect"}
    assert all(case.ours for case in OF_METHODS.values())
    shown = {name for case in OF_METHODS.values() for name in case.photographs}
    assert shown & set(MEASURES) == set(MEASURES)
    assert shown - set(MEASURES) <= set(plugins.names(plugins.PEERS))


@pytest.mark.parametrize("name", [case.name for case in OF_METHODS.values() if case.documented])
def test_documentation_is_quoted_word_by_word(name):
    for quotation in OF_METHODS[name].documented:
        library = {"grad-cam": "pytorch_grad_cam", "scikit-learn": "sklearn"}.get(quotation.distribution)
        needs(library or quotation.distribution)
        assert quotation.line is not None, quotation


def test_quotation_names_its_line_and_versions_without_it():
    words = Quotation("pytest", "pytest/__init__.py", "unit and functional testing with Python.")
    assert str(words).startswith('"unit and functional testing with Python." (`pytest/__init__.py`, line ')
    assert str(Quotation("pytest", "pytest/__init__.py", "unit and dysfunctional")).endswith("(not in this version)")


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_of_photographs_name_their_number(measure):
    for library in ("pytorch_grad_cam", "torchcam", "captum"):
        needs(library)
    assert "of 4 photographs" in MEASURES[measure](photographs())


def test_missing_libraries_are_those_of_the_chosen_parts(monkeypatch):
    monkeypatch.setattr("audit.__main__.versions", lambda names: {name: "1" for name in names if name != "quantus"})
    assert missing(["methods"]) == []
    assert missing(["methods", "metrics"]) == ["quantus"]


@pytest.mark.parametrize("library", METRICS)
def test_metric_of_each_library_on_the_tiny_image(library):
    needs(library)
    value, name = METRICS[library]
    chosen = [entry for entry in BY_HAND if (entry.value, entry.name) == (value, name)]
    (entry,) = chosen
    small = samples.tiny()
    side = metrics_page.measured(entry, small, small).tiny
    assert side is not None
    assert (side.difference if side.predicted is None else side.unexplained) <= pages.AGREES


def test_areas_in_reading_order_are_ours_without_a_raw_map():
    scenes = samples.trained().rows()[1]  # half of its pixels are 0
    heatmap = torch.from_numpy(scenes.heatmaps).round(decimals=6)  # as ours is before its pixels are ordered
    scenes = replace(scenes, explanation=replace(scenes.explanation, heatmap=heatmap))
    for name, predicted in (("deletion_auc", deletion_in_reading_order), ("insertion_auc", insertion_in_reading_order)):
        entry = MetricPair(name, "none", "none", peer=lambda sample: [0.0], params=CURVE)
        own = entry.own(replace(scenes, explanation=replace(scenes.explanation, raw_map=None)))
        np.testing.assert_allclose(predicted(scenes, own), own, rtol=0, atol=1e-6)  # float32 probabilities
        assert abs(own - entry.own(scenes)).item() > 1e-5


def test_removal_at_the_percentile_takes_a_map_of_few_pixels_away():
    small = samples.tiny()
    few = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    sample = replace(small, explanation=replace(small.explanation, heatmap=few))
    predicted = road_at_percentile("highest", 0.5)(sample, np.zeros(1))
    np.testing.assert_allclose(predicted, [0.5])  # of an image of zeros


def test_reason_of_a_pair_that_agrees_is_said_of_other_images():
    small = samples.tiny()
    entry = MetricPair("gini", "none", "Gini", peer=lambda sample: [13 / 28], by_hand=13 / 28, why="other on zeros")
    summary = metrics_page.summary([metrics_page.measured(entry, small, small)])
    assert summary == [("`gini`", "none `Gini` (on other images: other on zeros)", "-")]


def test_error_of_a_library_is_reported():
    def failing(sample):
        raise ValueError("no")

    entry = MetricPair("gini", "none", "none", peer=failing, by_hand=13 / 28)
    small = samples.tiny()
    finding = metrics_page.measured(entry, small, small)
    assert not finding.agrees
    assert finding.tiny.difference == math.inf
    assert "raises ValueError" in metrics_page.row(finding)


def test_a_page_keeps_its_prose_and_gets_new_tables_and_cases(tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/gone.py").write_text('"""A library: a claim."""\n\nprint("measured")\nreproduced = False\n')
    (tmp_path / "methods/there.py").write_text('"""A library: another."""\n\nprint("measured")\nreproduced = True\n')
    (tmp_path / "page.md").write_text("before\n\n| a | b |\n| old |\n| old |\n\nbetween\n\n### Old\n\nold\n")
    monkeypatch.setattr(cases, "FOLDER", tmp_path)
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    page = pages.Page("page.md")
    page.replace_table(("a", "b"), [("1", "2")], text_columns=1)
    cases.replace_cases(page, "methods", {"there": ["more"]})
    page.write(tmp_path)
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("before\n\n| a | b |\n| :--- | ---: |\n| 1 | 2 |\n\nbetween\n\n### A library: a claim.\n\n")
    assert "Not reproduced with these versions (`gone.py`)." in text
    assert '### A library: another.\n\nmore\n```python\nprint("measured")\nreproduced = True\n```' in text
    assert "old" not in text.lower()
    with pytest.raises(SystemExit, match="lacks what is to be replaced"):
        page.replace_table(("b", "a"), [], text_columns=1)


def test_missing_library_error_message():
    if find_spec("torchcam") is not None:
        pytest.skip("torchcam is installed")
    with pytest.raises(BenchError, match=r"pip install 'axiom-bench\[peers\]'"):
        list(pairs_of("grad_cam@torchcam"))


def test_relative_differences_and_their_format():
    expected = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    differences = measures.relative_differences(expected + torch.tensor([0.0, 0.5]), expected)
    assert differences.tolist() == [0.25, 0.5]  # the second of zeros
    assert [pages.difference(value) for value in (None, 0.0, 1e-6, 1e-3)] == ["-", "0", "1.0e-06", "**1.0e-03**"]
