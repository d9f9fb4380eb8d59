"""Tests of `protocol=NAME`: the settings that it fixes, and those that win over it.

A run lists its differences from the protocol. A protocol doesn't change the keys of values.
"""

import json
from html import unescape

import pytest

from axiom_bench.cli.benchmark import benchmark
from axiom_bench.environment import conf_folder, entry_names, read_yaml
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.manifest import bibliography

pytestmark = pytest.mark.slow  # whole runs

NAMES = entry_names("protocol")
FEW = (
    "method=[grad_cam]",
    "data.size=4",
    "runtime.repeats=0",
    "pictures.rows=0",
    "pictures.gallery=0",
)
PHOTOGRAPHS = ("model=vgg16", "data=imagenet", "data.root=/somewhere")


def config_of(*overrides, folder=None):
    with composed(overrides, folder) as composition:
        return composition.plain_job()


def differences(*overrides):
    return config_of("protocol=gradcam2017", *overrides)["protocol"]["differences"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_names_its_paper_code_and_every_parameter(name):
    """Check every parameter, so that a new default of a metric changes no protocol."""
    config = config_of(f"protocol={name}")
    file = read_yaml(conf_folder() / f"protocol/{name}.yaml")
    protocol = config["protocol"]
    assert protocol["name"] == name
    assert protocol["differences"] == []
    assert config["run"] == "default"
    assert protocol["reference"] in bibliography()
    assert {"title", "code", "paper_vs_code", "not_covered"} < set(protocol)
    params_in_file = {metric: entry["params"] for metric, entry in file["metric"].items()}
    params = {metric: entry["params"] for metric, entry in config["metric"].items()}
    assert params_in_file == {metric: values for metric, values in params.items() if values}
    assert {"target", "normalise"} < set(file)
    assert file["model"]["output"] == config["model"]["output"] == "logits"


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_runs_on_the_embedded_default(name, tmp_path):
    """Check a run without a download, whatever size and layers the paper's networks have."""
    code, lines = benchmark([f"protocol={name}", "model=scenes_vgg", *FEW, f"results={tmp_path}"])
    assert code == 0, lines
    assert (tmp_path / "quick/scenes_vgg/report.html").is_file()


def test_the_command_line_wins_and_the_run_says_what_differs():
    assert differences(
        "metric.box_iou.params.fraction=0.2", "target=each_label", "metric=[box_iou,zeta]"
    ) == [
        "metric.top1_loc isn't computed",
        "metric.top5_loc isn't computed",
        "target is each_label, not label",
        "metric.box_iou.params.fraction is 0.2, not 0.15",
    ]
    assert differences(*PHOTOGRAPHS, "model.layer=features.20", "model.resize=null") == [
        "model.layer is features.20, not features.29",
        "model.resize is null, not [224, 224]",
    ]


def test_it_wins_over_the_experiment_and_leaves_methods_and_networks():
    config = config_of("protocol=gradcam2017", "experiment=truth")
    config_without_protocol = config_of("experiment=truth")
    assert [*config["metric"]] == ["box_iou", "top1_loc", "top5_loc"]
    for key in ("method", "data", "model"):
        assert config[key] == config_without_protocol[key]


def test_a_named_network_has_the_papers_layer_and_size():
    for name, layer in (
        ("vgg16", "features.29"),
        ("alexnet", "features.11"),
        ("resnet18", "default"),
    ):
        model = config_of("protocol=gradcam2017", f"model={name}", *PHOTOGRAPHS[1:])["model"]
        assert model["layer"] == layer
        assert model["resize"] == [224, 224]


def test_a_protocol_of_ones_own(tmp_path):
    text = (conf_folder() / "protocol/gradcam2017.yaml").read_text().replace("gradcam2017", "mine")
    (tmp_path / "protocol").mkdir()
    (tmp_path / "protocol/mine.yaml").write_text(text)
    config = config_of("protocol=mine", "metric.top1_loc.params.iou=0.3", folder=tmp_path)
    assert config["protocol"]["differences"] == ["metric.top1_loc.params.iou is 0.3, not 0.5"]


def test_values_are_those_of_the_same_parameters_without_it(tmp_path, capsys):
    """Check also that the page contains the protocol's paper and the differences."""
    shared = (*FEW, "model=scenes_vgg", f"results={tmp_path}", "run=one")
    changed = "metric.top5_loc.params.iou=0.3"

    code, _ = benchmark(["protocol=gradcam2017", changed, *shared])

    assert code == 0
    page = unescape((tmp_path / "quick/one/report.html").read_text())
    assert "gradcam2017 (Selvaraju et al. 2017, arXiv:1610.02391): 1 setting differs" in page
    assert "metric.top5_loc.params.iou is 0.3, not 0.5" in page
    assert "ramprs/grad-cam" in page
    manifest = json.loads((tmp_path / "quick/one/manifest.json").read_text())
    assert manifest["protocol"]["differences"] == ["metric.top5_loc.params.iou is 0.3, not 0.5"]

    metrics = read_yaml(conf_folder() / "protocol/gradcam2017.yaml")["metric"]
    params = []
    for name, entry in metrics.items():
        for key, value in entry["params"].items():
            if f"{name}.params.{key}" not in changed:
                params.append(f"metric.{name}.params.{key}={value}")
    chosen = f"metric=[{','.join(metrics)}]"
    capsys.readouterr()

    code, _ = benchmark([chosen, "target=label", *params, changed, *shared])

    assert code == 0
    assert "nothing was computed" in capsys.readouterr().out
    assert "Protocol" not in (tmp_path / "quick/one/report.html").read_text()
