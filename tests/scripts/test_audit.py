"""scripts/audit: our values by hand; one pair and one case of each library that is installed."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from audit import cases, markdown, networks
from audit.libraries import missing
from audit.methods import findings as method_findings
from audit.methods import page as methods_page
from audit.methods.cases_of_photographs import MEASURES
from audit.methods.claims import CLAIMS, Quotation
from audit.methods.measures import largest_difference, on_photographs
from audit.methods.pairs import PASSES_PER_CHANNEL, SETTINGS, pairs_of
from audit.methods.readings import READINGS
from audit.metrics import findings as metric_findings
from audit.metrics import page as metrics_page
from audit.metrics import samples
from audit.metrics.pairs import CURVE, PAIRS, MetricPair
from audit.metrics.perturbation import deletion_in_reading_order, insertion_in_reading_order, road_at_percentile
from torch import nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins

BY_HAND = [entry for entry in PAIRS if entry.by_hand is not None]
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


def needs(library: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} isn't installed: pip install -c requirements.lock -e '.[peers,quantus]'")


def test_tiny_network_by_hand():
    networks.check_tiny(networks.tiny())


@pytest.mark.parametrize("entry", BY_HAND, ids=lambda entry: f"{entry.value}-{entry.library}-{entry.name}")
def test_own_value_equals_the_one_by_hand(entry):
    metric_findings.check_by_hand(entry, samples.tiny())


def test_wrong_value_by_hand_is_detected():
    wrong = MetricPair("gini", "none", "none", peer=lambda sample: [0.0], by_hand=0.5)
    with pytest.raises(AssertionError, match="gini"):
        metric_findings.check_by_hand(wrong, samples.tiny())


def test_pairs_and_settings_name_existing_methods_and_cases():
    assert set(SETTINGS) <= set(plugins.names(plugins.PEERS))
    assert set(PASSES_PER_CHANNEL) <= set(methods.names())
    named = {f"{entry.case}.py" for entry in PAIRS if entry.case}
    assert named <= {path.name for path in cases.paths("metrics")}


def test_degenerate_networks():
    small = networks.tiny()
    for network, value in ((networks.with_constant_maps(small, -1), 0.0), (networks.with_constant_maps(small, 1), 1.0)):
        assert (network.model[:2](network.images) == value).all()
    silent = networks.with_zero_head(small)
    assert not silent.model(silent.images).any()
    assert small.model(small.images).any()


@pytest.mark.parametrize("library", CASES)
def test_case_of_each_library_is_reproduced(library):
    needs(library)
    case = cases.run(cases.FOLDER / CASES[library])
    assert case.reproduced
    assert case.claim.count('"""') == 0
    assert case.output


@pytest.mark.parametrize("name", METHODS)
def test_method_of_each_library_agrees_on_the_tiny_network(name):
    needs(name.partition("@")[2])
    (pair,), small = pairs_of(name), networks.tiny()
    trace = ab.trace(small.model, small.layer, small.images, small.targets)
    finding = method_findings.measured(pair, small, small, trace)
    assert finding.agrees
    assert finding.passes >= 1
    assert any(line.startswith(f"| `{name}` | ") for line in methods_page._values([finding]))


@pytest.mark.parametrize("name", READINGS)
def test_reading_of_the_source_equals_the_library(name):
    needs(name.partition("@")[2])
    network = photographs()
    trace = ab.trace(network.model, network.layer, network.images, network.targets)
    differences = on_photographs(next(pairs_of(name)), network, trace)
    assert differences.left is not None
    assert differences.left <= markdown.AGREES
    assert differences.largest > 1e-3  # what the reading explains


def test_guided_grad_cam_of_captum_is_ours_with_bilinear_interpolation():
    needs("captum")
    network = photographs()
    trace = ab.trace(network.model, network.layer, network.images, network.targets)
    nearest, bilinear = (on_photographs(pair, network, trace) for pair in pairs_of("guided_grad_cam@captum"))
    assert nearest.differing == 4
    assert bilinear.largest <= 1e-14  # float64: both multiply and sum three numbers


def test_cam_of_torchcam_is_not_rectified():
    needs("torchcam")
    small = networks.tiny_pooled()
    with torch.no_grad():
        small.model[-1].weight.mul_(-1)  # all of the map is negative
    trace = ab.trace(small.model, small.layer, small.images, small.targets)
    differences = on_photographs(next(pairs_of("cam@torchcam")), small, trace)
    assert differences.largest <= markdown.AGREES


def test_every_case_has_a_claim():
    assert set(CLAIMS) == {path.stem for path in cases.paths("methods")}
    assert {claim.measure for claim in CLAIMS.values() if claim.measure} == set(MEASURES)
    assert {name for claim in CLAIMS.values() for name in claim.pairs} <= set(plugins.names(plugins.PEERS))


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.documented])
def test_documentation_is_quoted_word_by_word(name):
    for quotation in CLAIMS[name].documented:
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
    network = photographs()
    trace = ab.trace(network.model, network.layer, network.images, network.targets)
    assert "of 4 photographs" in MEASURES[measure](network, trace)


def test_missing_libraries_are_those_of_the_chosen_parts(monkeypatch):
    monkeypatch.setattr("audit.libraries.versions", lambda names: {name: "1" for name in names if name != "quantus"})
    assert missing(["methods"]) == []
    assert missing(["methods", "metrics"]) == ["quantus"]


@pytest.mark.parametrize("library", METRICS)
def test_metric_of_each_library_on_the_tiny_image(library):
    needs(library)
    value, name = METRICS[library]
    chosen = [entry for entry in BY_HAND if (entry.value, entry.name) == (value, name)]
    (entry,) = chosen
    small = samples.tiny()
    side = metric_findings.measured(entry, small, small).tiny
    assert side is not None
    assert (side.difference if side.predicted is None else side.unexplained) <= markdown.AGREES


@pytest.mark.parametrize(
    ("name", "predicted"),
    [("deletion_auc", deletion_in_reading_order), ("insertion_auc", insertion_in_reading_order)],
)
def test_areas_in_reading_order_are_ours_without_a_raw_map(name, predicted):
    scenes = samples.trained().row(1)  # half of its pixels are 0
    heatmap = torch.from_numpy(scenes.heatmaps).round(decimals=6)  # as ours is before its pixels are ordered
    scenes = replace(scenes, explanation=replace(scenes.explanation, heatmap=heatmap))
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
    summary = metrics_page.summary([metric_findings.measured(entry, small, small)])
    assert "| `gini` | none `Gini` (on other images: other on zeros) | - |" in summary


def test_error_of_a_library_is_reported():
    def failing(sample):
        raise ValueError("no")

    entry = MetricPair("gini", "none", "none", peer=failing, by_hand=13 / 28)
    small = samples.tiny()
    finding = metric_findings.measured(entry, small, small)
    assert not finding.agrees
    assert finding.tiny.difference == math.inf
    assert "raises ValueError" in metrics_page._row(finding)


def test_summary_replaces_the_lines_between_the_markers():
    small = samples.tiny()
    entry = MetricPair("gini", "quantus", "Sparseness", peer=lambda sample: [13 / 28], by_hand=13 / 28)
    finding = metric_findings.measured(entry, small, small)
    start, end = metrics_page.MARKERS
    page = metrics_page.with_summary(f"before\n{start}\nold\n{end}\nafter\n", [finding])
    assert page.startswith(f"before\n{start}\n\n| metric |")
    assert "| `gini` | quantus `Sparseness` | - |" in page
    assert page.endswith(f"{end}\nafter\n")
    assert "old" not in page
    with pytest.raises(SystemExit, match="needs the lines"):
        metrics_page.with_summary("no markers", [finding])


def test_case_that_is_not_reproduced_is_marked(tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/gone.py").write_text('"""A library: a claim."""\n\nprint("measured")\nreproduced = False\n')
    (tmp_path / "methods/there.py").write_text('"""A library: another."""\n\nprint("measured")\nreproduced = True\n')
    monkeypatch.setattr(cases, "FOLDER", tmp_path)
    lines = cases.section("methods")
    assert "Not reproduced with these versions (`gone.py`)." in lines
    assert lines[lines.index("### A library: another.") :][:5] == [
        "### A library: another.", "", "```python", 'print("measured")\nreproduced = True', "```",
    ]  # fmt: skip


def test_missing_library_error_message():
    if find_spec("torchcam") is not None:
        pytest.skip("torchcam is installed")
    with pytest.raises(BenchError, match=r"pip install 'axiom-bench\[peers\]'"):
        list(pairs_of("grad_cam@torchcam"))


def test_relative_differences_and_their_format():
    expected = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    assert largest_difference(expected + torch.tensor([0.0, 0.5]), expected) == 0.5  # 0.25 of the first, 0.5 of zeros
    assert [markdown.difference(value) for value in (None, 0.0, 1e-6, 1e-3)] == ["-", "0", "1.0e-06", "**1.0e-03**"]
