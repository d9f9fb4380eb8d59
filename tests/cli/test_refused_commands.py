"""Command lines that are refused with one sentence, and what the sentence advises."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main
from axiom_bench.errors import BenchError
from axiom_bench.records.files import check_output

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(autouse=True)
def _outside_checkout(tmp_path, monkeypatch):
    """The current folder is outside the checkout, as a user's would be."""
    monkeypatch.chdir(tmp_path)


def without_progress(lines):
    """Return the lines of a command without those that only a slow machine prints."""
    return [line for line in lines if not line.startswith(("Loading ", "Computing "))]


@pytest.mark.slow
def test_a_device_that_no_machine_has_is_named_with_those_that_there_are():
    overrides = ["model=scenes_vgg", "data.size=3"]
    for setting, words in (
        ("device=gpu", "device=cuda for a GPU"),
        ("device=0", "CUDA_VISIBLE_DEVICES=0 in front"),
        ("device=cuda:1", "CUDA_VISIBLE_DEVICES=1 in front"),
        ("device=mps", "use device=cpu"),
    ):
        with pytest.raises(BenchError, match=words):
            compute([*overrides, setting])
    # device.name changes one field of the configuration that device=cpu chooses
    with pytest.raises(BenchError, match="device=cuda for a GPU"):
        compute([*overrides, "device=cpu", "device.name=GPU"])


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--confg job", "There is no option --confg; a setting has no dashes: confg=job."),
        ("data.size=3 --methods cam", "There is no option --methods; type "),
        ("gate a --baseline b.csv c=d", "unrecognized arguments"),
        ("compare . . c=d", "c=d is no run folder"),
        ("verify . c=d", "unrecognized arguments"),
        ("judge . c=d", "unrecognized arguments"),
        ("game . c=d", "unrecognized arguments"),
        ("--model=resnet18", "a setting has no dashes: model=resnet18."),
        ("compare . c=d", "is no run folder"),
        ("judge . --truth . c=d", "is no run folder"),
    ],
)
def test_an_unknown_option_and_a_setting_in_the_place_of_a_run_folder(argv, sentence, capsys):
    try:
        code: Any = main(argv.split())
    except SystemExit as stop:  # argparse exits instead of returning
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2, error
    assert sentence in error


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
            "There is no metric 'box_iuo' in this run (report.columns); did you mean 'box_iou'",
        ),
        (
            ["report.headline=[zeta,epsilo]"],
            "no metric 'epsilo' in this run (report.headline); did you mean 'epsilon'",
        ),
        (
            ["report.compare=xgrad_can"],
            "There is no method 'xgrad_can' in this run; did you mean 'xgrad_cam'",
        ),
        (["--config-dir", "no_conf"], "no_conf (--config-dir)"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, sentence, capsys, tmp_path):
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    (message,) = without_progress(lines)
    assert message.startswith("axiom-bench: ")
    assert sentence in message
    assert not list(tmp_path.iterdir())  # the command wrote nothing before it failed


MISSING_PATHS = [  # the command line, and the words that its message contains
    ("data=voc data.root=nowhere", "There is no folder nowhere; expected the VOC layout"),
    ("data=folder data.root=nowhere", "There is no folder nowhere; expected "),
    (
        "data=mosaic data.of=coco data.of.root=nowhere",
        "There is no folder nowhere; expected the COCO layout",
    ),
    ("data=parquet data.path=nowhere.parquet", "data.path: there is no file nowhere.parquet"),
    (
        "data=folder data.root=. data.classes=nowhere.txt",
        "data.classes: there is no file 'nowhere.txt'",
    ),
    ("model=resnet18 model.weights=nowhere.pth", "nowhere.pth is not a file"),
    (
        "model=resnet18,vgg16 model.weights_folder=nowhere",
        "There is no folder nowhere; set model.weights_folder",
    ),
    (
        "model=user model.architecture=nowhere.py:build model.weights=null",
        "There is no file nowhere.py",
    ),
    (
        "model=user model.architecture=nowhere.py:build",
        "model.weights has no default; set model.weights=FILE",
    ),
    ("paper data.root=nowhere", "There is no folder nowhere; expected the ImageNet layout"),
    (
        "data=coco",
        "data.root has no default; set data.root=PATH; expected the COCO layout <root>/<split>/",
    ),
    ("data=coco data.kind=cocoa", "data.root has no default; set data.root=PATH."),
    (
        "data=pasted data.of.root=???",
        "data.of.root has no default; set data.of.root=PATH; expected the VOC layout <root>/",
    ),
    (
        "data=parquet",
        "data.path has no default; set data.path=PATH; expected a file, a folder, a list or a",
    ),
    (
        "explain nowhere.jpg --model resnet18",
        "The image nowhere.jpg: there is no file nowhere.jpg.",
    ),
    ("explain . --model resnet18 --weights nowhere.pth", "nowhere.pth is not a file"),
    ("explain there.png --model resnet18 --output there.html", "there.html exists already"),
    ("verify nowhere", "nowhere is no run folder"),
]
# All command lines run in one process, since importing the package takes seconds.
RUN_WITHOUT_TORCH = """\
import sys
from axiom_bench.cli.main import main
for line in sys.argv[1:]:
    assert main(line.split()) == 2, line
    assert "torch" not in sys.modules, line
"""


@pytest.mark.slow
def test_a_path_that_leads_nowhere_is_answered_before_torch_is_imported(tmp_path):
    (tmp_path / "there.html").touch()
    (tmp_path / "there.png").touch()
    command_lines = [command_line for command_line, _ in MISSING_PATHS]
    command = [sys.executable, "-c", RUN_WITHOUT_TORCH, *command_lines]

    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    lines = process.stderr.splitlines()
    assert len(lines) == len(MISSING_PATHS), process.stderr
    for line, (_, sentence) in zip(lines, MISSING_PATHS, strict=True):
        assert sentence in line
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "name", ["folder.json", "pipe.json", "link.json", "dangling.json", "/dev/null", "/dev/stdout"]
)
@pytest.mark.parametrize(
    "words",
    [
        "gate run --baseline b.csv --json",
        "gate run --baseline b.csv --junit",
        "gate run --baseline b.csv --markdown",
        "gate run --write --baseline",
        "game run --output",
    ],
)
def test_what_is_no_plain_file_is_not_replaced(words, name, capsys):
    """Check that the command refuses such an output before any work."""
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
    """Check the accepted and the refused names.

    A path below a file is accepted here: `files.write` is the one that refuses it.
    """
    Path("file.json").write_text("{}")
    for name in ("file.json", "new.json", "new/folder/x.json", "file.json/x"):
        check_output(Path(name), None)
    for name in ("a" * 10_000, "a\0b"):
        with pytest.raises(BenchError, match="Can't write '"):
            check_output(Path(name))


@pytest.mark.slow
@pytest.mark.parametrize("url", ["s3://bucket/results", "memory://results", "file:///tmp/results"])
def test_results_at_a_url_are_refused_with_what_to_do(capsys, url):
    for words in (
        [f"results={url}", "data.size=1"],
        ["report", f"{url}/quick/default"],
        ["status", f"{url}/quick"],
    ):
        assert main(words) == 2
        (line,) = without_progress(capsys.readouterr().err.splitlines())
        assert "is a URL, and results are in a folder of this machine." in line
        assert (
            "with the bucket's own tool, such as `aws s3 sync FOLDER s3://BUCKET/FOLDER`." in line
        )
