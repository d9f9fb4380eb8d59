"""Tests of the commands as users type them, run in this process."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from PIL import Image

import axiom_bench as ab
from axiom_bench.cli.main import main, parse
from axiom_bench.embedded import scenes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.records.entries import Manifest
from axiom_bench.run.manifest import no_longer_shown

pytestmark = pytest.mark.usefixtures("undrawn")
TINY = [
    "run=default",
    "model=scenes_vgg",
    "data.size=3",
    "data.batch_size=4",
    "method=[grad_cam,xgrad_cam]",
    "metric=[sensitivity_error,conservation_error,single_deletion]",
    "pictures.rows=1",
    "pictures.gallery=1",
    "report.figures.formats=[png]",
    "device=cpu",
    "runtime.repeats=0",
]


@pytest.fixture(autouse=True)
def _outside_checkout(tmp_path, monkeypatch):
    """The current folder is outside the checkout, as a user's would be."""
    monkeypatch.chdir(tmp_path)


def write_files(folder: Path, text_by_path: dict[str, str]) -> None:
    for path, text in text_by_path.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_help_and_version(capsys):
    words_by_option = {
        "--help": ["run", "report", "gate", "explain", "list"],
        "--version": [f"axiom-bench {version('axiom-bench')}"],
    }
    for option, words in words_by_option.items():
        with pytest.raises(SystemExit) as stop:
            main([option])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert all(word in text for word in words)


def test_help_begins_with_five_commands_that_parse(capsys, tmp_path):
    """Check the commands that most people type first, before the list of all commands."""
    (tmp_path / "results/quick/default").mkdir(parents=True)
    with pytest.raises(SystemExit):
        main(["--help"])
    first_screen, _, _ = capsys.readouterr().out.partition("positional arguments")
    _, _, start = first_screen.partition("start here:")
    commands = start.replace("\\\n", " ").strip().splitlines()
    assert [command.partition("axiom-bench ")[0].strip() for command in commands] == [
        "your photographs",
        "your model",
        "your method",
        "maps of one photograph",
        "a regression test",
    ]
    for command in commands:
        parse(command.partition("axiom-bench ")[2].split())


def test_a_home_folder_stands_for_its_sign_in_options_and_in_python(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    options = parse(["gate", "~/run", "--baseline=~/base.json", "--markdown", "~/page.md"])
    assert options.run_folder == Path("/home/me/run")
    assert options.baseline == Path("/home/me/base.json")
    assert parse(["explain", "~/a.png", "--output=~/maps.png"]).images == [Path("/home/me/a.png")]
    with pytest.raises(BenchError, match=r"/home/me/run is no run folder"):
        ab.read_run("~/run")
    message = r"~nobody-here/maps\.png begins with the home folder of nobody; write"
    with pytest.raises(BenchError, match=message):
        parse(["explain", "a.png", "--output=~nobody-here/maps.png"])


@pytest.mark.slow
def test_list(capsys):
    """Check that each plug-in has a line: its name and the description in its source."""
    for kind, argument in (("method", "methods"), ("metric", "metrics"), ("data", "data")):
        assert main(["list", argument]) == 0
        lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
        assert [name for name, _ in lines] == plugins.names(kind)
        if kind == "data":
            continue
        for name, description in lines:
            assert description.startswith(plugins.load(kind, name).description)

    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for name in ("[fu2020axiom]", "  scenes_vgg ", "  vgg11_bn ", "  quick "):
        assert name in text


@pytest.mark.slow
def test_list_shows_what_a_user_s_folder_adds(tmp_path, capsys):
    module = 'def cam(trace):\n    """My own maps."""\n    return trace.gradients\n'
    experiment = "# @package _global_\n# My study.\nexperiment: mine\n"
    text_by_path = {
        "own.py": module,
        "my conf/method/own_cam.yaml": "_target_: own.cam\n",
        "my conf/experiment/mine.yaml": experiment,
    }
    write_files(tmp_path, text_by_path)

    assert main(["list", "--config-dir", "my conf"]) == 0
    listed = capsys.readouterr().out
    assert main(["--config-dir", "my conf", "list"]) == 0
    assert capsys.readouterr().out == listed
    lines = [line.split() for line in listed.splitlines()]
    assert ["own_cam", "My", "own", "maps."] in lines
    assert ["mine", "My", "study."] in lines

    assert main(["list", "--config-dir", "nowhere"]) == 2
    assert "There is no folder nowhere" in capsys.readouterr().err


def test_cfg_job_prints_the_configuration_and_nothing_else(tmp_path, capsys):
    assert main([*TINY, "--cfg", "job"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["name"] == "scenes_vgg"
    assert config["data"]["size"] == 3
    assert list(config["method"]) == ["grad_cam", "xgrad_cam"]
    assert not list(tmp_path.iterdir())


OWN_METHOD = """\
own_cam:
  _target_: axiom_bench.methods.grad_cam.grad_cam
"""
OWN_MODEL = """\
defaults:
  - scenes_vgg
name: own_net
"""
OWN_EXPERIMENT = """\
# @package _global_
defaults:
  - override /method: [own_cam]
  - override /metric: [zeta]
experiment: mine
data:
  size: 1
runtime:
  repeats: 0
pictures:
  rows: 0
hydra:
  sweeper:
    params:
      model: own_net
"""


@pytest.mark.slow
def test_every_command_takes_a_user_s_own_folder(tmp_path, capsys):
    option = ["--config-dir", "my conf"]
    text_by_path = {
        "my conf/method/own_cam.yaml": OWN_METHOD,
        "my conf/model/own_net.yaml": OWN_MODEL,
        "my conf/experiment/mine.yaml": OWN_EXPERIMENT,
    }
    write_files(tmp_path, text_by_path)

    assert main([*option, "experiment=mine", "--cfg", "job"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["experiment"] == "mine"
    assert config["model"]["name"] == "own_net"
    assert list(config["method"]) == ["own_cam"]

    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save("scene.png")
    explain = ["explain", "scene.png", *option, "--model", "own_net", "--methods", "own_cam"]
    assert main(explain) == 0

    assert main([*option, "experiment=mine"]) == 0
    assert (tmp_path / "results/mine/default/report.html").is_file()


def test_options_may_stand_among_overrides():
    options = parse(
        ["data.size=3", "--config-dir", "conf", "~metric.zeta", "+method.mine._target_=a.b"]
    )
    assert options.overrides == ["data.size=3", "~metric.zeta", "+method.mine._target_=a.b"]
    assert options.config_dir == Path("conf")

    options = parse(
        ["explain", "a.png", "--model", "vgg16", "b.png", "model.layer=features.4", "../2.png"]
    )
    assert options.images == [Path("a.png"), Path("b.png"), Path("../2.png")]
    assert options.overrides == ["model.layer=features.4"]
    Path("model=1.png").touch()
    assert parse(["explain", "model=1.png", "--model", "vgg16"]).images == [Path("model=1.png")]

    options = parse(
        ["report", "a", "report.compare=x", "--output", "out", "../b", "report.headline=[y]"]
    )
    assert options.run_folders == [Path("a"), Path("../b")]
    assert options.output == Path("out")
    assert options.overrides == ["report.compare=x", "report.headline=[y]"]


@pytest.mark.slow
def test_run_report_and_gate(tmp_path, capsys):
    """Check a run, its report printed again, and a gate with a baseline of this run.

    The gate passes with the baseline of the run and fails with one that misses a row.
    """
    folder = tmp_path / "results/quick/default"
    baseline = tmp_path / "baseline.csv"

    assert main(["run", *TINY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"report: {folder.relative_to(tmp_path)}/report.html"
    assert lines[-2].startswith("images under every method's map: ")
    assert lines[-3] == "No metric tells which method is best with 3 images"
    start = "Nothing is marked * in Conservation error: equal shares of the score"
    assert any(line.startswith(start) for line in lines)
    assert ["Sensitivity", "Conservation"] in [line.split() for line in lines]

    page = (folder / "report.html").read_bytes()
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_bytes() == page

    gate = ["gate", str(folder), "--baseline", str(baseline)]
    assert main([*gate, "--write"]) == 0
    assert main(gate) == 0
    assert "Holds" in capsys.readouterr().out
    rows = baseline.read_text().splitlines(keepends=True)
    baseline.write_text("".join(rows[:-1]))
    assert main(gate) == 1
    assert main(["gate", str(folder), "--baseline", "nowhere.csv"]) == 2


GREY = """\
from torch import nn

def build():
    body = [nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
"""


@pytest.mark.slow
def test_a_network_of_grey_images(tmp_path, capsys):
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save("scene.png")
    (tmp_path / "grey.py").write_text(GREY)
    model = [
        "model=user",
        "model.architecture=grey.py:build",
        "model.weights=null",
        "model.resize=[40,40]",
    ]
    assert main(["explain", "scene.png", *model, "--methods", "xgrad_cam"]) == 2
    error = capsys.readouterr().err
    assert "can't run on one RGB image of 40x40 pixels" in error
    assert "for grey images, model.mean and model.std have one number each, [0.5]" in error

    model += ["model.mean=[0.5]", "model.std=[0.25]"]
    methods = "xgrad_cam,guided_grad_cam,smooth_grad,sobel"
    assert main(["explain", "scene.png", *model, "--methods", methods]) == 0
    assert Image.open("scene-maps.png").mode in ("RGB", "RGBA")

    metrics = "metric=[sensitivity_error,confidence_drop]"
    assert main([*model, "method=[xgrad_cam]", metrics, "data.size=2"]) == 0
    assert Path("results/quick/grey/report.html").is_file()


@pytest.mark.slow
def test_a_report_that_shows_less_than_before_says_so(tmp_path, capsys):
    run = [*TINY, "metric=[confidence_drop]", "pictures.rows=0"]

    assert main([*run, "model=scenes_vgg,scenes_resnet"]) == 0
    assert "no longer shows" not in capsys.readouterr().out

    assert main([*run, "method=[grad_cam]", "data.size=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "no longer shows" in line]
    assert line.startswith(
        "the report no longer shows model scenes_resnet; method xgrad_cam; 1 image of scenes: "
    )

    assert main([*run, "model=scenes_vgg,scenes_resnet", "report.compare=xgrad_cam"]) == 0
    assert "no longer shows" not in capsys.readouterr().out


UNNEEDED = ("numba", "torchvision", "torch._dynamo", "axiom_bench.metrics.road", "axiom_bench.gate")
FIRST_RUN = """
import sys
from axiom_bench.cli.main import main
code = main(sys.argv[1:])
print([name for name in {unneeded} if name in sys.modules])
sys.exit(code)
"""


@pytest.mark.slow
def test_a_first_run_waits_for_no_compiler_and_imports_nothing_that_it_does_not_use(tmp_path):
    overrides = [
        "model=scenes_vgg",
        "data.size=1",
        "pictures.rows=0",
        "pictures.gallery=0",
        f"results={tmp_path}",
    ]
    command = [sys.executable, "-c", FIRST_RUN.format(unneeded=UNNEEDED), *overrides]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.splitlines()[-1] == "[]", process.stdout


CYCLE = """\
import os, sys
from axiom_bench.cli.main import main

class InACycle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        os.write(2, b"collected")

kept = InACycle()
sys.argv = ["axiom-bench", "list", "data"]
main()
"""


@pytest.mark.slow
def test_a_process_collects_its_garbage_at_its_end():
    """Check that cycles are collected: nanobind's modules print uncollected objects as leaks."""
    command = [sys.executable, "-c", CYCLE]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stderr == "collected"


@pytest.mark.slow
def test_a_failed_job_is_named_and_the_others_are_reported(tmp_path, capsys):
    tiny = [override for override in TINY if not override.startswith("model=")]
    assert main([*tiny, "model=scenes_vgg", "model.layer=features.13,no_such_layer"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("failed: scenes_vgg: There is no layer 'no_such_layer'")
    assert (tmp_path / "results/quick/default/report.html").is_file()


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr("axiom_bench.run.shards.compute", Mock(side_effect=KeyboardInterrupt))
    assert main(TINY) == 130
    assert "the same command continues from there" in capsys.readouterr().err


@pytest.mark.slow
def test_a_user_s_own_method_is_explained_and_compared(tmp_path, monkeypatch):
    """Check the steps of docs/your-method.md.

    They are one picture, and a run with paired tests of the user's method against the others.
    """
    module = "def my_cam(trace, power=1.0):\n    return trace.gradients.relu() ** power\n"
    (tmp_path / "my_own.py").write_text(module)
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save("scene.png")
    path = [folder for folder in sys.path if folder not in ("", str(tmp_path))]
    monkeypatch.setattr("sys.path", path)

    explain = ["explain", "scene.png", "--model", "scenes_vgg"]
    assert main([*explain, "--methods", "xgrad_cam,my_own.my_cam"]) == 0
    own_method = ["+method.mine._target_=my_own.my_cam", "+method.mine.params.power=2"]
    run = [*TINY, "metric=[confidence_drop]", *own_method, "report.compare=mine"]
    assert main(run) == 0

    tables = tmp_path / "results/quick/default/tables"
    assert any("mine" in path.read_text() for path in tables.glob("*.csv"))
    table = (tables / "paired_1.md").read_text()
    assert "| Grad-CAM | " in table
    assert "| XGrad-CAM | " in table


VGG: dict[str, Any] = {"layers": ["last", "first"], "weights_sha256": "a"}
MANIFEST: dict[str, Any] = {
    "config": {"protocol": {"name": "rise2018"}},
    "models": {"vgg": VGG, "resnet": {"layers": ["last"]}},
    "methods": {f"cam_{number}": {} for number in range(8)},
    "metrics": {"zeta": {}, "epsilon": {}},
    "data": {"scenes": {"ids": ["a", "b", "c"]}, "voc": {"ids": ["d"], "fingerprint": "x"}},
}


def remove(key: str, name: str) -> dict[str, Any]:
    """Return the manifest without the entry `name` of `key`."""
    kept = {other: facts for other, facts in MANIFEST[key].items() if other != name}
    return {**MANIFEST, key: kept}


def replace(key: str, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with other facts for the entry `name` of `key`."""
    return {**MANIFEST, key: {**MANIFEST[key], name: facts}}


ONE_METHOD = {**MANIFEST, "methods": {"cam_0": {}}}
NO_PROTOCOL = {**MANIFEST, "config": {"protocol": None}}
TWO_CHANGES = {**remove("models", "resnet"), "metrics": {"zeta": {}}}
LATER_MANIFESTS = {  # the words that describe the difference, and the later manifest
    "model resnet": remove("models", "resnet"),
    "methods cam_1, cam_2, cam_3, cam_4, cam_5 and 2 more": ONE_METHOD,
    "metric zeta": remove("metrics", "zeta"),
    "data set voc": remove("data", "voc"),
    "layer first of vgg": replace("models", "vgg", {"layers": ["last"]}),
    "other weights of vgg": replace("models", "vgg", {**VGG, "weights_sha256": "b"}),
    "other files of voc": replace("data", "voc", {"ids": ["d"], "fingerprint": "y"}),
    "2 images of scenes": replace("data", "scenes", {"ids": ["c", "x"]}),
    "protocol rise2018": NO_PROTOCOL,
    "model resnet; metric epsilon": TWO_CHANGES,
}


def test_what_is_left_out_is_named():
    full = Manifest.model_validate(MANIFEST)

    for parts, later in LATER_MANIFESTS.items():
        line = no_longer_shown(full, Manifest.model_validate(later))
        assert line.startswith(f"the report no longer shows {parts}: ")
        assert "run=NAME" in line

    for earlier in (MANIFEST, {}, remove("models", "resnet")):
        assert no_longer_shown(Manifest.model_validate(earlier), full) is None


COLOUR_NETWORK = GREY.replace("Conv2d(1,", "Conv2d(3,")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["explain", "photos/a.png", "--methods", "grad_cam"],
        ["doctor", "data=folder", "data.root=photos"],
        ["choose", "photos"],
        ["audit", "maps", "--targets", "targets.csv"],
        [
            "run",
            "data=folder",
            "data.root=photos",
            "method=[grad_cam]",
            "metric=[sensitivity_error]",
        ],
    ],
    ids=lambda command: command[0],
)
def test_the_assumed_mean_and_std_are_printed_until_they_are_set(command, tmp_path, capsys):
    for folder in ("photos", "maps"):
        (tmp_path / folder).mkdir()
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save("photos/a.png")
    (tmp_path / "targets.csv").write_text("photos/a.png,1\n")
    (tmp_path / "colour.py").write_text(COLOUR_NETWORK)
    model = ["model.weights=as_built", "--model", "colour.py:build"]
    if command[0] == "run":  # it has no --model
        model[1:] = ["model=user", "model.architecture=colour.py:build"]

    main([*command, *model])
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("you haven't set mean and std, so images are normalised by ImageNet's") == 1
    advice = re.findall(r"model\.(?:mean|std)=\[[\d.,]+\]", out)
    assert advice == ["model.mean=[0.485,0.456,0.406]", "model.std=[0.229,0.224,0.225]"]

    main([*command, *model, advice[0]])
    assert capsys.readouterr().out.count("you haven't set std, so") == 1
    main([*command, *model, *advice])
    assert "you haven't set" not in capsys.readouterr().out
