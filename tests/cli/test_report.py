"""`axiom-bench report` with settings, and of several runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from axiom_bench.cli.main import main, parse
from axiom_bench.cli.report import parsed
from axiom_bench.errors import BenchError
from axiom_bench.records import sealed

TINY = [
    *("data.size=4", "data.batch_size=4", "runtime.repeats=0", "device=cpu", "metric=[confidence_drop,zeta]"),
    *("pictures.rows=1", "pictures.gallery=0", "report.figures.formats=[png]"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, each in a run of its own, and one of them again in another precision."""
    folder = tmp_path_factory.mktemp("runs") / "results"
    for run, values in {
        "scenes_vgg": ["model=scenes_vgg"],
        "scenes_resnet": ["model=scenes_resnet"],
        "coarse": ["model=scenes_vgg", "device.head_precision=bf16"],
    }.items():
        assert main([*TINY, *values, f"run={run}", f"results={folder}", "method=[grad_cam,xgrad_cam]"]) == 0
    return folder


@pytest.fixture
def runs(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(results, "results")
    return ["results/quick/scenes_vgg", "results/quick/scenes_resnet"]


def test_two_networks(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["report", *runs]) == 0
    folder = Path("results/quick/combined").resolve()
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    page = (folder / "report.html").read_text()
    assert "Combined runs" in page
    assert all(text in page for text in ("scenes_vgg", "scenes_resnet", "quick/scenes_vgg", "../scenes_resnet"))
    assert len(list((folder / "figures").glob("maps_*.png"))) == 2
    stamp = (folder / "report_stamp.json").read_bytes()
    assert main(["report", *runs]) == 0  # nothing has changed
    assert (folder / "report_stamp.json").read_bytes() == stamp


def test_runs_that_disagree(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["report", runs[0], "results/quick/coarse", "--output", "never"]) == 2
    error = capsys.readouterr().err
    assert "axiom-bench: Two values of " in error
    assert "scenes_vgg at features.13 on scenes, image evaluation-0-" in error
    manifest = sealed.read_json(Path(runs[0], "manifest.json"))
    manifest["models"]["scenes_vgg"]["weights_sha256"] = "0" * 64
    sealed.write_json(Path(runs[0], "manifest.json"), manifest)
    assert main(["report", "results/quick/coarse", runs[0], "--output", "never"]) == 2
    assert "The model scenes_vgg has another weights_sha256 in" in capsys.readouterr().err
    assert not Path("never").exists()


def test_settings_change_the_report_and_not_the_run(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(runs[0])
    before = (folder / "manifest.json").read_bytes()
    first = (folder / "report.html").read_bytes()
    assert main(["report", runs[0], "report.figures.over_models=[]", "report.headline=[zeta]"]) == 0
    changed = (folder / "report.html").read_bytes()
    assert changed != first
    assert not (folder / "figures/over_models_zeta.png").exists()
    stamp = (folder / "report_stamp.json").read_bytes()
    assert main(["report", "report.headline=[zeta]", runs[0], "report.figures.over_models=[]"]) == 0
    assert (folder / "report_stamp.json").read_bytes() == stamp
    assert main(["report", runs[0]]) == 0
    assert (folder / "report.html").read_bytes() == first
    assert (folder / "manifest.json").read_bytes() == before
    capsys.readouterr()
    for setting, sentence in {
        "report.headline=[box_iuo]": "There is no metric for report.headline 'box_iuo'",
        "report.compare=grad_camm": "There is no method in this run 'grad_camm'; did you mean 'grad_cam'",
        "report.figures.grid=[random_cam]": "There is no method for report.figures.grid 'random_cam'",
    }.items():
        assert main(["report", runs[0], setting]) == 2
        assert sentence in capsys.readouterr().err
    assert (folder / "report.html").read_bytes() == first


def test_settings_are_parsed_as_in_a_run() -> None:
    words = ["report.headline=[a,b]", "report.figures.grid=null", "report.figures.pair=[]", "report.compare=x"]
    figures = {"grid": None, "pair": []}
    assert parsed(words) == {"headline": ["a", "b"], "figures": figures, "compare": "x"}


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("report.headlin=[a]", "There is no setting of a report 'report.headlin'; did you mean 'report.headline'"),
        ("model=vgg16", "There is no setting of a report 'model'; there are: report.columns"),
        ("report.headline=3", "report.headline must be a list of metrics"),
        ("report.headline=[a", r"The value of report.headline=\[a can't be understood"),
    ],
)
def test_a_wrong_setting_is_one_sentence(word: str, sentence: str) -> None:
    with pytest.raises(BenchError, match=sentence) as error:
        parsed([word])
    assert "\n" not in str(error.value)


def test_folders_and_settings_in_any_order() -> None:
    options = parse(["report", "a", "report.compare=x", "--output", "out", "../b", "report.headline=[y]"])
    assert options.run_folders == [Path("a"), Path("../b")]
    assert options.overrides == ["report.compare=x", "report.headline=[y]"]
    assert options.output == Path("out")
