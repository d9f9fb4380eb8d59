"""The commands as they are typed, in this process."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from axiom_bench import methods, metrics
from axiom_bench.cli.main import main
from axiom_bench.data.registry import dataset_names
from axiom_bench.embedded import scenes

TINY = [
    "model=scenes_vgg",
    "data.size=3",
    "data.batch_size=4",
    "method=[grad_cam,xgrad_cam]",
    "runtime.repeats=0",
    "device=cpu",
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Outside the checkout, as a user would be."""
    monkeypatch.chdir(tmp_path)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("run", "report", "gate", "explain", "list"))


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"axiom-bench {version('axiom-bench')}"


@pytest.mark.parametrize(
    ("kind", "names"), [("methods", methods.names), ("metrics", metrics.names), ("data", dataset_names)]
)
def test_list(kind: str, names, capsys: pytest.CaptureFixture[str]):
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert all(len(line.split()) > 1 for line in lines)  # a description each


def test_list_shows_references_and_models(capsys: pytest.CaptureFixture[str]):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert "[fu2020axiom]" in text
    assert "  scenes_vgg " in text
    assert "  vgg11_bn " in text


def test_run_report_and_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One run; its report again; a baseline of it holds, and of another run it doesn't."""
    folder, baseline = tmp_path / "results/quick/default", tmp_path / "baseline.csv"
    assert main(["run", *TINY]) == 0
    last = capsys.readouterr().out.splitlines()
    assert last[-1] == f"report: {folder.relative_to(tmp_path)}/report.html"
    assert [line.partition(" (")[0] for line in last[-4:-1]] == [
        "Sensitivity error",
        "Conservation error",
        "Confidence drop",
    ]
    page = (folder / "report.html").read_bytes()

    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_bytes() == page

    assert main(["gate", str(folder), "--baseline", str(baseline), "--write"]) == 0
    assert main(["gate", str(folder), "--baseline", str(baseline)]) == 0
    assert "Holds" in capsys.readouterr().out
    baseline.write_text("".join(baseline.read_text().splitlines(keepends=True)[:-1]))
    assert main(["gate", str(folder), "--baseline", str(baseline)]) == 1
    assert main(["gate", str(folder), "--baseline", "nowhere.csv"]) == 2


def test_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save("scene.png")
    assert (
        main(["explain", "scene.png", "--model", "scenes_resnet", "--methods", "cam,xgrad_cam", "--output", "maps.png"])
        == 0
    )
    assert capsys.readouterr().out.strip() == "picture: maps.png"
    two = Image.open("maps.png").size
    assert main(["explain", "scene.png", "--model", "scenes_vgg", "--layer", "features.10"]) == 0
    assert Image.open("explanation.png").size > two  # all methods that apply, in several rows


def test_explain_says_which_method_does_not_apply(capsys: pytest.CaptureFixture[str]):
    """`cam` needs a linear head: beside another method it is a note, alone there is no picture to write."""
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save("scene.png")
    assert main(["explain", "scene.png", "--model", "scenes_vgg", "--methods", "cam,xgrad_cam"]) == 0
    note, picture = capsys.readouterr().out.splitlines()
    assert note.startswith("The method 'cam' is left out: ")
    assert picture == "picture: explanation.png"
    Path("explanation.png").unlink()
    assert main(["explain", "scene.png", "--model", "scenes_vgg", "--methods", "cam"]) == 2
    assert "The method 'cam' is left out: " in capsys.readouterr().err
    assert not Path("explanation.png").exists()


def test_a_file_is_no_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    assert main(["report", "file"]) == 2
    assert "file is no run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["reprot", "results"], "There is no command 'reprot'; did you mean 'report'"),
        (["model=resnt18"], "There is no model 'resnt18'; did you mean 'resnet18'"),
        (["run", "method=[xgradcam]"], "did you mean 'xgrad_cam'"),
        (["report", "nowhere"], "nowhere is no run folder"),
        ([""], "The command line can't be understood"),
        (["explain", "nowhere.png", "--model", "scenes_vgg"], "there is no file nowhere.png"),
        (["explain", "nowhere.png", "--model", "scenes_vg"], "did you mean 'scenes_vgg'"),
        (["explain", "nowhere.png", "--model", "scenes_vgg", "--methods", "gradcam"], "did you mean 'grad_cam'"),
        (["explain", "nowhere.png", "--model", "scenes_vgg", "--weights", "no.pth"], "no.pth is not a file"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("axiom-bench: ")
    assert sentence in said
    assert "\n" not in said
    assert not list(tmp_path.iterdir())  # nothing was begun


def test_a_failed_job_is_named_and_the_others_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tiny = [override for override in TINY if not override.startswith("model=")]
    assert main([*tiny, "model=scenes_vgg", "model.layer=features.13,no_such_layer"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("failed: scenes_vgg: There is no layer 'no_such_layer'")
    assert (tmp_path / "results/quick/default/report.html").is_file()


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("axiom_bench.run.compute.compute", stopped)
    assert main(TINY) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


def test_a_user_s_own_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A function in the current folder, beside the project's own, by one override."""
    (tmp_path / "my_module.py").write_text("def my_cam(trace):\n    return trace.gradients.relu()\n")
    assert main([*TINY, "metric=[confidence_drop,sensitivity_error]", "+method.mine._target_=my_module.my_cam"]) == 0
    table = (tmp_path / "results/quick/default/tables").glob("*.csv")
    assert any("mine" in path.read_text() for path in table)


def test_a_user_s_own_method_is_explained_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As docs/your-method.md walks through it: one picture, and paired tests of it against the others."""
    (tmp_path / "my_own.py").write_text("def my_cam(trace, power=1.0):\n    return trace.gradients.relu() ** power\n")
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save("scene.png")
    monkeypatch.setattr("sys.path", [folder for folder in sys.path if folder not in ("", str(tmp_path))])
    assert main(["explain", "scene.png", "--model", "scenes_vgg", "--methods", "xgrad_cam,my_own.my_cam"]) == 0
    mine = ["+method.mine._target_=my_own.my_cam", "+method.mine.params.power=2"]
    assert main([*TINY, "metric=[confidence_drop]", *mine, "report.compare=mine"]) == 0
    table = (tmp_path / "results/quick/default/tables/paired_1.md").read_text()
    assert all(f"| {name} | " in table for name in ("grad_cam", "xgrad_cam"))
    assert main([*TINY, "metric=[confidence_drop]", *mine, "report.compare=my"]) == 2
    assert "There is no method in this run 'my'" in capsys.readouterr().err
