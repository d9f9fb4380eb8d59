"""The commands as they are typed, in this process."""

import os
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
from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main, parse
from axiom_bench.embedded import scenes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.records.entries import Manifest
from axiom_bench.records.files import check_output
from axiom_bench.run.manifest import no_longer_shown

pytestmark = pytest.mark.usefixtures("undrawn")
TINY = [
    *(
        "run=default",
        "model=scenes_vgg",
        "data.size=3",
        "data.batch_size=4",
        "method=[grad_cam,xgrad_cam]",
    ),
    *(
        "metric=[sensitivity_error,conservation_error,single_deletion]",
        "pictures.rows=1",
        "pictures.gallery=1",
    ),
    *("report.figures.formats=[png]", "device=cpu", "runtime.repeats=0"),
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Outside the checkout, as a user would be."""
    monkeypatch.chdir(tmp_path)


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def test_help_and_version(capsys):
    for option, words in (
        ("--help", ["run", "report", "gate", "explain", "list"]),
        ("--version", [f"axiom-bench {version('axiom-bench')}"]),
    ):
        with pytest.raises(SystemExit) as stop:
            main([option])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert all(word in text for word in words)


def test_a_home_folder_stands_for_its_sign_in_options_and_in_python(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    options = parse(["gate", "~/run", "--baseline=~/base.json", "--markdown", "~/page.md"])
    assert (options.run_folder, options.baseline) == (
        Path("/home/me/run"),
        Path("/home/me/base.json"),
    )
    assert parse(["explain", "~/a.png", "--output=~/maps.png"]).images == [Path("/home/me/a.png")]
    with pytest.raises(BenchError, match=r"/home/me/run is no run folder"):
        ab.read_run("~/run")
    with pytest.raises(
        BenchError, match=r"~nobody-here/maps\.png begins with the home folder of nobody; write"
    ):
        parse(["explain", "a.png", "--output=~nobody-here/maps.png"])


def test_a_device_that_no_machine_has_is_named_with_those_that_there_are():
    for setting, words in (
        ("device=gpu", "device=cuda for a GPU"),
        ("device.name=GPU", "device=cuda for a GPU"),
        ("device=0", "CUDA_VISIBLE_DEVICES=0 in front"),
        ("device=cuda:1", "CUDA_VISIBLE_DEVICES=1 in front"),
        ("device=mps", "use device=cpu"),
    ):
        with pytest.raises(BenchError, match=words):
            compute([*TINY, setting] if "name" in setting else [*TINY[:-2], setting, TINY[-1]])


def test_list(capsys):
    """A name and a description each, as it is read from the source."""
    for kind in ("method", "metric", "data"):
        assert main(["list", f"{kind}s".replace("datas", "data")]) == 0
        lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
        assert [name for name, _ in lines] == plugins.names(kind)
        for name, description in lines if kind != "data" else ():
            assert description.startswith(plugins.load(kind, name).description)
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(
        name in text for name in ("[fu2020axiom]", "  scenes_vgg ", "  vgg11_bn ", "  quick ")
    )


def test_list_shows_what_a_user_s_folder_adds(tmp_path, capsys):
    write(tmp_path, {
        "own.py": 'def cam(trace):\n    """My own maps."""\n    return trace.gradients\n',
        "my conf/method/own_cam.yaml": "_target_: own.cam\n",
        "my conf/experiment/mine.yaml": "# @package _global_\n# My study.\nexperiment: mine\n",
    })  # fmt: skip
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
    assert (config["model"]["name"], config["data"]["size"]) == ("scenes_vgg", 3)
    assert list(config["method"]) == ["grad_cam", "xgrad_cam"]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_command_takes_a_user_s_own_folder(tmp_path, capsys):
    option = ["--config-dir", "my conf"]
    write(tmp_path, {
        "my conf/method/own_cam.yaml": "own_cam:\n  _target_: axiom_bench.methods.grad_cam.grad_cam\n",
        "my conf/model/own_net.yaml": "defaults:\n  - scenes_vgg\nname: own_net\n",
        "my conf/experiment/mine.yaml": "# @package _global_\ndefaults:\n  - override /method: [own_cam]\n"
        "  - override /metric: [zeta]\nexperiment: mine\ndata:\n  size: 1\nruntime:\n  repeats: 0\n"
        "pictures:\n  rows: 0\nhydra:\n  sweeper:\n    params:\n      model: own_net\n",
    })  # fmt: skip
    assert main([*option, "experiment=mine", "--cfg", "job"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["experiment"], config["model"]["name"], list(config["method"])) == (
        "mine",
        "own_net",
        ["own_cam"],
    )
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save("scene.png")
    assert (
        main(["explain", "scene.png", *option, "--model", "own_net", "--methods", "own_cam"]) == 0
    )
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
    assert (options.run_folders, options.output) == ([Path("a"), Path("../b")], Path("out"))
    assert options.overrides == ["report.compare=x", "report.headline=[y]"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        *((argv, "unrecognized arguments") for argv in (
            *("--confg job", "data.size=3 --methods cam", "gate a --baseline b.csv c=d", "compare . . c=d"),
            *("verify . c=d", "judge . c=d", "game . c=d"),
        )),
        ("--model=resnet18", "--model=resnet18; a setting has no dashes: model=VALUE"),
        *((argv, "is no run folder") for argv in ("compare . c=d", "judge . --truth . c=d")),
    ],
)  # fmt: skip
def test_an_unknown_option_and_a_setting_in_the_place_of_a_run_folder(argv, sentence, capsys):
    try:
        code: Any = main(argv.split())
    except SystemExit as stop:  # argparse's
        code = stop.code
    error = capsys.readouterr().err
    assert (code, sentence in error) == (2, True), error


@pytest.mark.slow
def test_run_report_and_gate(tmp_path, capsys):
    """One run; its report again; a baseline of it holds, and of another run it doesn't."""
    folder, baseline = tmp_path / "results/quick/default", tmp_path / "baseline.csv"
    assert main(["run", *TINY]) == 0
    last = capsys.readouterr().out.splitlines()
    assert last[-1] == f"report: {folder.relative_to(tmp_path)}/report.html"
    assert last[-2] == "No metric tells which method is best with 3 images"
    assert last[-4].startswith(
        "Nothing is marked * in Conservation error: equal shares of the score"
    )
    assert last[-9].split() == ["Sensitivity", "Conservation"]
    assert max(map(len, last[-9:])) <= 80
    page = (folder / "report.html").read_bytes()

    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_bytes() == page

    assert main(["gate", str(folder), "--baseline", str(baseline), "--write"]) == 0
    assert main(["gate", str(folder), "--baseline", str(baseline)]) == 0
    assert "Holds" in capsys.readouterr().out
    baseline.write_text("".join(baseline.read_text().splitlines(keepends=True)[:-1]))
    assert main(["gate", str(folder), "--baseline", str(baseline)]) == 1
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
    own = [
        "model=user",
        "model.architecture=grey.py:build",
        "model.weights=null",
        "model.resize=[40,40]",
    ]
    assert main(["explain", "scene.png", *own, "--methods", "xgrad_cam"]) == 2
    assert "can't run on one RGB image of 40x40 pixels" in (error := capsys.readouterr().err)
    assert "for grey images, model.mean and model.std have one number each, [0.5]" in error
    own += ["model.mean=[0.5]", "model.std=[0.25]"]
    assert (
        main(
            [
                "explain",
                "scene.png",
                *own,
                "--methods",
                "xgrad_cam,guided_grad_cam,smooth_grad,sobel",
            ]
        )
        == 0
    )
    assert Image.open("scene-maps.png").mode in ("RGB", "RGBA")
    assert (
        main(
            [
                *own,
                "method=[xgrad_cam]",
                "metric=[sensitivity_error,confidence_drop]",
                "data.size=2",
            ]
        )
        == 0
    )
    assert Path("results/quick/grey/report.html").is_file()


@pytest.mark.slow
def test_a_report_that_shows_less_than_before_says_so(tmp_path, capsys):
    metric = ["metric=[confidence_drop]", "pictures.rows=0"]
    assert main([*TINY, *metric, "model=scenes_vgg,scenes_resnet"]) == 0
    assert "no longer shows" not in capsys.readouterr().out
    assert main([*TINY, *metric, "method=[grad_cam]", "data.size=2"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no longer shows" in line]
    assert line.startswith(
        "the report no longer shows model scenes_resnet; method xgrad_cam; 1 image of scenes: "
    )
    assert main([*TINY, *metric, "model=scenes_vgg,scenes_resnet", "report.compare=xgrad_cam"]) == 0
    assert "no longer shows" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [
        (
            ["tidy", "results/quick/default", "--drop"],
            "delete the run folder and run its command again",
        ),
        (["metric=all", "metrics.max_forwards_per_image=5"], "a run prints how long it will take"),
        (["report.latex.width=page"], "LaTeX tables are as wide as their columns"),
        (
            ["report", "results/quick/default", "report.latex.width=page"],
            "LaTeX tables are as wide as their columns",
        ),
        (
            ["gate", "run", "--baseline", "b.csv", "--sampled"],
            "`axiom-bench compare RUN RUN` shows what differs",
        ),
        (
            ["gate", "run", "--baseline", "b.csv", "--min-effect=iou=mean:1"],
            "Set the metric's tolerance",
        ),
        (
            ["gate", "run", "--baseline", "b.csv", "--write", "--run-time", "50%"],
            "The report has run times",
        ),
        (
            ["report", "results/quick/default", "--watch"],
            "`axiom-bench report RUN` shows what is done so far",
        ),
        (
            ["model=resnet18,vgg16", "model.layer={resnet18:layer4}"],
            "For layers by network, write them in an experiment",
        ),
    ],
)
def test_what_is_gone_says_what_to_do_instead(arguments, instead, capsys):
    assert main(arguments) == 2
    assert instead in capsys.readouterr().err


SLOW = ("maps: ", "methods and metrics: ")  # what a loaded machine prints of its progress


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["reprot", "results"], "There is no command 'reprot'; did you mean 'report'"),
        (["model=resnt18"], "There is no model 'resnt18'; did you mean 'resnet18'"),
        (["run", "method=[xgrad_can]"], "did you mean 'xgrad_cam'"),
        (
            ["method=[xgrad_cam,Grad-CAM++]"],
            "There is no method 'Grad-CAM++'; did you mean 'grad_cam_pp'",
        ),
        (["report", "nowhere"], "nowhere is no run folder"),
        ([""], "The command line can't be understood"),
        (
            ["report.columns=[box_iuo]"],
            "There is no metric for report.columns 'box_iuo'; did you mean 'box_iou'",
        ),
        (["report.headline=[zeta,epsilo]"], "for report.headline 'epsilo'; did you mean 'epsilon'"),
        (
            ["report.compare=xgrad_can"],
            "There is no method in this run 'xgrad_can'; did you mean 'xgrad_cam'",
        ),
        (["--config-dir", "no_conf"], "no_conf (--config-dir)"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, sentence, capsys, tmp_path):
    assert main(arguments) == 2
    (message,) = (
        line for line in capsys.readouterr().err.splitlines() if not line.startswith(SLOW)
    )
    assert message.startswith("axiom-bench: ")
    assert sentence in message
    assert not list(tmp_path.iterdir())  # nothing was begun


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
    few = [
        "model=scenes_vgg",
        "data.size=1",
        "pictures.rows=0",
        "pictures.gallery=0",
        f"results={tmp_path}",
    ]
    command = [sys.executable, "-c", FIRST_RUN.format(unneeded=UNNEEDED), *few]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


MISSING = {
    "data=voc data.root=nowhere": "There is no folder nowhere; expected the VOC layout",
    "data=folder data.root=nowhere": "There is no folder nowhere; expected ",
    "data=mosaic data.of=coco data.of.root=nowhere": "There is no folder nowhere; expected the COCO layout",
    "data=parquet data.path=nowhere.parquet": "data.path: there is no file nowhere.parquet",
    "data=folder data.root=. data.classes=nowhere.txt": "data.classes: there is no file 'nowhere.txt'",
    "model=resnet18 model.weights=nowhere.pth": "nowhere.pth is not a file",
    "model=resnet18,vgg16 model.weights_folder=nowhere": "There is no folder nowhere; set model.weights_folder",
    "model=user model.architecture=nowhere.py:build model.weights=null": "There is no file nowhere.py",
    "model=user model.architecture=nowhere.py:build": "model.weights has no default; set model.weights=VALUE",
    "paper data.root=nowhere": "There is no folder nowhere; expected the ImageNet layout",
    "explain nowhere.jpg --model resnet18": "The image nowhere.jpg: there is no file nowhere.jpg.",
    "explain . --model resnet18 --weights nowhere.pth": "nowhere.pth is not a file",
    "explain there.png --model resnet18 --output there.html": "there.html exists already",
    "verify nowhere": "nowhere is no run folder",
}
LOOP = """\
import sys
from axiom_bench.cli.main import main
for line in sys.argv[1:]:
    assert main(line.split()) == 2, line
    assert "torch" not in sys.modules, line
"""


@pytest.mark.slow
def test_a_path_that_leads_nowhere_is_answered_before_torch_is_imported(tmp_path):
    write(tmp_path, {"there.html": "", "there.png": ""})
    command = [sys.executable, "-c", LOOP, *MISSING]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert len(lines) == len(MISSING), done.stderr
    for line, sentence in zip(lines, MISSING.values(), strict=True):
        assert sentence in line
    assert len(list(tmp_path.iterdir())) == 2


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


def test_a_process_collects_its_garbage_at_its_end():
    """What it leaves, nanobind's modules print as leaked."""
    done = subprocess.run([sys.executable, "-c", CYCLE], capture_output=True, text=True, check=True)
    assert done.stderr == "collected"


@pytest.mark.slow
def test_a_failed_job_is_named_and_the_others_are_reported(tmp_path, capsys):
    tiny = [override for override in TINY if not override.startswith("model=")]
    assert main([*tiny, "model=scenes_vgg", "model.layer=features.13,no_such_layer"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("failed: scenes_vgg: There is no layer 'no_such_layer'")
    assert (tmp_path / "results/quick/default/report.html").is_file()


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr("axiom_bench.run.shards.compute", Mock(side_effect=KeyboardInterrupt))
    assert main(TINY) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


@pytest.mark.slow
def test_a_user_s_own_method_is_explained_and_compared(tmp_path, monkeypatch):
    """As docs/your-method.md walks through it: one picture, and paired tests of it against the
    others.
    """
    (tmp_path / "my_own.py").write_text(
        "def my_cam(trace, power=1.0):\n    return trace.gradients.relu() ** power\n"
    )
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save("scene.png")
    monkeypatch.setattr(
        "sys.path", [folder for folder in sys.path if folder not in ("", str(tmp_path))]
    )
    assert (
        main(
            [
                "explain",
                "scene.png",
                "--model",
                "scenes_vgg",
                "--methods",
                "xgrad_cam,my_own.my_cam",
            ]
        )
        == 0
    )
    own = ["+method.mine._target_=my_own.my_cam", "+method.mine.params.power=2"]
    assert main([*TINY, "metric=[confidence_drop]", *own, "report.compare=mine"]) == 0
    tables = tmp_path / "results/quick/default/tables"
    assert any("mine" in path.read_text() for path in tables.glob("*.csv"))
    table = (tables / "paired_1.md").read_text()
    assert all(f"| {name} | " in table for name in ("Grad-CAM", "XGrad-CAM"))


@pytest.mark.parametrize(
    "name", ["folder.json", "pipe.json", "link.json", "dangling.json", "/dev/null", "/dev/stdout"]
)
@pytest.mark.parametrize(
    "words",
    [
        *(f"gate run --baseline b.csv {option}" for option in ("--json", "--junit", "--markdown")),
        *("gate run --write --baseline", "game run --output"),
    ],
)
def test_what_is_no_plain_file_is_not_replaced(words, name, capsys):
    """And it is said before any work."""
    Path("run").mkdir()
    Path("folder.json").mkdir()
    os.mkfifo("pipe.json")
    Path("link.json").symlink_to("file.json")
    Path("file.json").write_text("{}")
    Path("dangling.json").symlink_to("nothing.json")
    assert main([*words.split(), name]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"axiom-bench: {name} is ")
    assert "isn't replaced" in message


def test_what_an_output_may_be_called(tmp_path):
    """What lies below a file can't be written: `files.write` says so."""
    Path("file.json").write_text("{}")
    for name in ("file.json", "new.json", "new/folder/x.json", "file.json/x"):
        check_output(Path(name), None)
    for name in ("a" * 10_000, "a\0b"):
        with pytest.raises(BenchError, match="Can't write '"):
            check_output(Path(name))


VGG: dict[str, Any] = {"layers": ["last", "first"], "weights_sha256": "a"}
SHOWN: dict[str, Any] = {
    "config": {"protocol": {"name": "rise2018"}},
    "models": {"vgg": VGG, "resnet": {"layers": ["last"]}},
    "methods": {f"cam_{number}": {} for number in range(8)},
    "metrics": {"zeta": {}, "epsilon": {}},
    "data": {"scenes": {"ids": ["a", "b", "c"]}, "voc": {"ids": ["d"], "fingerprint": "x"}},
}


def without(key: str, name: str) -> dict[str, Any]:
    return {**SHOWN, key: {other: facts for other, facts in SHOWN[key].items() if other != name}}


LEFT_OUT = {
    "model resnet": without("models", "resnet"),
    "methods cam_1, cam_2, cam_3, cam_4, cam_5 and 2 more": {**SHOWN, "methods": {"cam_0": {}}},
    "metric zeta": without("metrics", "zeta"),
    "data set voc": without("data", "voc"),
    "layer first of vgg": {**SHOWN, "models": {**SHOWN["models"], "vgg": {"layers": ["last"]}}},
    "other weights of vgg": {
        **SHOWN,
        "models": {**SHOWN["models"], "vgg": {**VGG, "weights_sha256": "b"}},
    },
    "other files of voc": {
        **SHOWN,
        "data": {**SHOWN["data"], "voc": {"ids": ["d"], "fingerprint": "y"}},
    },
    "2 images of scenes": {**SHOWN, "data": {**SHOWN["data"], "scenes": {"ids": ["c", "x"]}}},
    "protocol rise2018": {**SHOWN, "config": {"protocol": None}},
    "model resnet; metric epsilon": {**without("models", "resnet"), "metrics": {"zeta": {}}},
}


def test_what_is_left_out_is_named():
    for parts, after in LEFT_OUT.items():
        line = no_longer_shown(Manifest.model_validate(SHOWN), Manifest.model_validate(after))
        assert line.startswith(f"the report no longer shows {parts}: ")
        assert "run=NAME" in line
    for before in (SHOWN, {}, without("models", "resnet")):
        assert (
            no_longer_shown(Manifest.model_validate(before), Manifest.model_validate(SHOWN)) is None
        )


@pytest.mark.parametrize("url", ["s3://bucket/results", "memory://results", "file:///tmp/results"])
def test_results_at_a_url_are_refused_with_what_to_do(capsys, url):
    for words in (
        [f"results={url}", "data.size=1"],
        ["report", f"{url}/quick/default"],
        ["status", f"{url}/quick"],
    ):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "is a URL, and results are in a folder of this machine." in line
        assert (
            "with the bucket's own tool, such as `aws s3 sync FOLDER s3://BUCKET/FOLDER`." in line
        )
