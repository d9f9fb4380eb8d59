"""scripts/audit: our values by hand; one pair and one case of each library that is installed."""

import math
import sys
from importlib.util import find_spec

import pytest
import torch
from audit import methods, metrics, networks, pages, samples
from audit.__main__ import missing
from audit.libraries import Quotation
from audit.method_pairs import OF_CHANNELS, SETTINGS, pairs_of
from audit.metrics import PAIRS, Pair
from audit.samples import Peer
from torch import nn

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins

BY_HAND = [entry for entry in PAIRS if entry.by_hand is not None]
OF_METHODS, OF_METRICS = ({case.name: case for case in pages.cases(kind)} for kind in ("methods", "metrics"))
LIBRARIES = {"grad-cam": "pytorch_grad_cam", "scikit-learn": "sklearn"}  # import names that are others
CASES = {
    "pytorch_grad_cam": "grad_cam_ablation_memory",
    "torchcam": "torchcam_small_maps",
    "captum": "captum_infidelity_sign",
    "quantus": "quantus_effective_complexity_model",
}
METHODS = ("grad_cam@pytorch_grad_cam", "grad_cam@torchcam", "grad_cam@captum")
METRICS = {
    "pytorch_grad_cam": ("increase_in_confidence", "IncreaseInConfidence"),
    "torchcam": ("average_drop", "ClassificationMetric"),
    "captum": ("infidelity", "infidelity"),
    "quantus": ("gini", "Sparseness"),
}


def needs(*libraries: str) -> None:
    for library in libraries:
        if find_spec(library) is None:
            pytest.skip("pip install '.[quantus]'" if library == "quantus" else "make peers")


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


def test_tiny_network_by_hand():
    networks.check_tiny(networks.tiny())


@pytest.mark.parametrize("entry", BY_HAND, ids=lambda entry: f"{entry.value}-{entry.title}")
def test_our_value_equals_the_one_by_hand(entry):
    metrics.check_by_hand(entry, samples.tiny())


def test_wrong_value_by_hand_is_detected():
    wrong = Pair("gini", Peer("none", "none", lambda sample: [0.0]), by_hand=0.5)
    with pytest.raises(AssertionError, match="gini"):
        metrics.check_by_hand(wrong, samples.tiny())


def test_pairs_cases_and_settings_name_what_exists():
    peers = set(plugins.names(plugins.PEERS))
    assert set(SETTINGS) <= peers
    assert set(OF_CHANNELS) <= set(ab.methods.names())
    assert {entry.case for entry in PAIRS if entry.case} <= set(OF_METRICS)
    assert {name for case in OF_METHODS.values() for text in case.field("Photographs") for name in text.split(", ")
            if "@" in name} <= peers  # fmt: skip
    assert set(CASES.values()) <= {*OF_METHODS, *OF_METRICS}


def test_every_case_has_a_claim_and_a_class():
    assert (len(OF_METHODS), len(OF_METRICS)) == (31, 21)
    for case in (*OF_METHODS.values(), *OF_METRICS.values()):
        assert case.claim.partition(":")[2]
        assert case.code.startswith(f"def {case.name}():\n    ")
        assert "Class:" not in case.claim + case.code
    assert {case.kind for case in OF_METHODS.values()} == {"documented choice", "other reading", "defect"}
    assert all(case.field("Ours") for case in OF_METHODS.values())


def test_degenerate_networks():
    small = networks.tiny()
    for bias, value in ((-1.0, 0.0), (1.0, 1.0)):
        assert (networks.with_layer(small, 0, bias).model[:2](small.images) == value).all()
    silent = networks.with_layer(small, -1, 0.0)
    assert not silent.model(silent.images).any()
    assert small.model(small.images).any()


@pytest.mark.parametrize("library", CASES)
def test_case_of_each_library_is_reproduced(library):
    needs(library, *({"captum", "torchcam"} if library == "pytorch_grad_cam" else ()))  # its file compares the three
    output, holds = {**OF_METHODS, **OF_METRICS}[CASES[library]].run()
    assert holds
    assert output


@pytest.mark.parametrize("name", METHODS)
def test_method_of_each_library_agrees_on_the_tiny_network(name):
    needs(name.partition("@")[2])
    (pair,), small = pairs_of(name), networks.tiny()
    finding = methods.measured(pair, small, small)
    assert finding.agrees
    assert finding.passes >= 1
    assert finding.row[0] == f"`{name}`"
    assert finding.sentence.startswith(f"`{name}` differs from ours on 0 of 2, by ")


def test_guided_grad_cam_of_captum_is_ours_with_bilinear_interpolation():
    needs("captum")
    pairs = pairs_of("guided_grad_cam@captum")
    nearest, bilinear = (methods.returned_differences(pair, photographs()) for pair in pairs)
    assert (nearest > pages.AGREES).all()
    assert bilinear.max() <= 1e-14  # float64: both multiply and sum three numbers


def test_cam_of_torchcam_is_not_rectified():
    needs("torchcam")
    small = networks.tiny_pooled()
    with torch.no_grad():
        small.model[-1].weight.mul_(-1)  # all of the map is negative
    assert methods.returned_differences(next(pairs_of("cam@torchcam")), small).max() <= pages.AGREES


@pytest.mark.parametrize("name", [case.name for case in OF_METHODS.values() if case.quotations])
def test_documentation_is_quoted_word_by_word(name):
    for quotation in OF_METHODS[name].quotations:
        needs(LIBRARIES.get(quotation.distribution, quotation.distribution))
        assert quotation.line is not None, quotation


def test_quotation_names_its_line_and_versions_without_it():
    words = Quotation("pytest", "pytest/__init__.py", "unit and functional testing with Python.")
    assert str(words).startswith('"unit and functional testing with Python." (`pytest/__init__.py`, line ')
    assert str(Quotation("pytest", "pytest/__init__.py", "unit and dysfunctional")).endswith("(not in this version)")


def test_missing_libraries_are_those_of_the_chosen_parts(monkeypatch):
    monkeypatch.setattr("audit.__main__.versions", lambda names: {name: "1" for name in names if name != "quantus"})
    assert missing(["methods"]) == []
    assert missing(["methods", "metrics"]) == ["quantus"]


@pytest.mark.parametrize("library", METRICS)
def test_metric_of_each_library_on_the_tiny_image(library):
    needs(library)
    (entry,) = [entry for entry in BY_HAND if (entry.value, entry.peer.name) == METRICS[library]]
    small = samples.tiny()
    side = metrics.measured(entry, small, small).tiny
    assert side is not None
    assert side.difference <= pages.AGREES


def test_reason_of_a_pair_that_agrees_is_said_of_other_images():
    small = samples.tiny()
    entry = Pair("gini", Peer("none", "Gini", lambda sample: [13 / 28]), by_hand=13 / 28, why="other on zeros")
    summary = metrics.summary([metrics.measured(entry, small, small)])
    assert summary == [("`gini`", "none `Gini` (on other images: other on zeros)", "-")]


def test_error_of_a_library_is_reported():
    def failing(sample):
        raise ValueError("no")

    small = samples.tiny()
    finding = metrics.measured(Pair("gini", Peer("none", "none", failing), by_hand=13 / 28), small, small)
    assert not finding.agrees
    assert finding.tiny.difference == math.inf
    assert "raises ValueError" in finding.row


def test_a_page_keeps_its_prose_and_gets_new_tables_and_cases(tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    case = 'def made_{}():\n    """A library: {}."""\n    print("measured")\n    return {}\n\n\n'
    (tmp_path / "methods/made.py").write_text(
        '"""Cases."""\n\n\n' + case.format("gone", "a claim", False) + case.format("there", "another", True)
    )
    (tmp_path / "page.md").write_text("before\n\n| a | b |\n| old |\n| old |\n\nbetween\n\n### Old\n\nold\n")
    monkeypatch.setattr(pages, "CASES", tmp_path)
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    page = pages.Page("page.md")
    page.replace_table(("a", "b"), [("1", "2")], text_columns=1)
    page.replace_cases("methods", {})
    page.write(tmp_path)
    assert (tmp_path / "page.md").read_text() == (
        "before\n\n| a | b |\n| :--- | ---: |\n| 1 | 2 |\n\nbetween\n\n### A library: a claim.\n\n"
        "Not reproduced with these versions (`made_gone`).\n\n### A library: another.\n\n"
        '```python\ndef made_there():\n    print("measured")\n    return True\n```\n\nprints\n\n'
        "```text\nmeasured\n```\n"
    )
    with pytest.raises(SystemExit, match="lacks what is to be replaced"):
        page.replace_table(("b", "a"), [], text_columns=1)


def test_missing_library_error_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcam", None)  # what makes Python's import fail
    monkeypatch.delitem(sys.modules, "axiom_bench.methods.peers.torchcam", raising=False)
    plugins.load.cache_clear()
    with pytest.raises(BenchError, match=r"pip install '\.\[peers\]' in axiom-bench's checkout"):
        list(pairs_of("grad_cam@torchcam"))


def test_relative_differences_and_their_format():
    expected = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    differences = methods.relative_differences(expected + torch.tensor([0.0, 0.5]), expected)
    assert differences.tolist() == [0.25, 0.5]  # the second of zeros
    assert [pages.difference(value) for value in (None, 0.0, 1e-6, 1e-3)] == ["-", "0", "1.0e-06", "**1.0e-03**"]
