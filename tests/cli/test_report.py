"""Tests of `axiom-bench report` with settings, on several runs, and on a stopped run."""

import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main
from axiom_bench.cli.report import parse_settings
from axiom_bench.errors import BenchError
from axiom_bench.records import files, reading, running
from axiom_bench.records.record_files import RecordFile
from axiom_bench.run import shards
from tests.made_runs import undraw

TINY = [
    "run=default",
    "data.size=4",
    "data.batch_size=4",
    "runtime.repeats=0",
    "device=cpu",
    "metric=[confidence_drop,zeta]",
    "pictures.rows=1",
    "pictures.gallery=0",
    "report.figures.formats=[png]",
    "report.columns_off=[entropy]",  # a metric that no run of these tests computes
]


@pytest.fixture(scope="module", autouse=True)
def _undrawn():
    with pytest.MonkeyPatch.context() as patch:
        undraw(patch)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Runs of two networks, and one of scenes_vgg in another precision.

    Only the first run has a report.
    """
    folder = tmp_path_factory.mktemp("runs") / "results"
    shared = [*TINY, f"results={folder}", "method=[grad_cam,xgrad_cam]"]
    assert main([*shared, "run=scenes_vgg", "model=scenes_vgg"]) == 0
    for overrides in (
        ["run=scenes_resnet", "model=scenes_resnet"],
        ["run=coarse", "model=scenes_vgg", "device.head_precision=bf16"],
    ):
        code, _, _ = compute([*shared, *overrides])
        assert code == 0
    return folder


@pytest.fixture
def runs(results, tmp_path, monkeypatch) -> list[str]:
    """The folders of two runs, copied into the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(results, "results")
    return ["results/quick/scenes_vgg", "results/quick/scenes_resnet"]


@pytest.mark.slow
def test_two_networks(runs, capsys):
    capsys.readouterr()
    assert main(["report", *runs]) == 0
    folder = Path("results/quick/combined").resolve()
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    page = (folder / "report.html").read_text()
    assert "Combined runs" in page
    for text in ("scenes_vgg", "scenes_resnet", "quick/scenes_vgg", "../scenes_resnet"):
        assert text in page
    assert "axiom-bench report ../scenes_vgg ../scenes_resnet --output ." in page
    assert len(list((folder / "figures").glob("maps_*.png"))) == 2

    assert main(["report", *runs]) == 0
    assert (folder / "report.html").read_text() == page


@pytest.mark.slow
def test_runs_that_disagree(runs, capsys):
    capsys.readouterr()
    assert main(["report", runs[0], "results/quick/coarse", "--output", "never"]) == 2
    error = capsys.readouterr().err
    assert "axiom-bench: Two values of " in error
    assert "scenes_vgg at features.13 on scenes, image evaluation-0-" in error

    manifest = files.read_json(Path(runs[0], "manifest.json"))
    manifest["models"]["scenes_vgg"]["weights_sha256"] = "0" * 64
    files.write_json(Path(runs[0], "manifest.json"), manifest)
    assert main(["report", "results/quick/coarse", runs[0], "--output", "never"]) == 2
    assert "The model scenes_vgg has another weights_sha256 in" in capsys.readouterr().err
    assert not Path("never").exists()


@pytest.mark.slow
def test_settings_change_the_report_and_not_the_run(runs, capsys):
    run = runs[0]
    manifest = Path(run, "manifest.json")
    page = Path(run, "report.html")
    manifest_before = manifest.read_bytes()
    page_before = page.read_bytes()

    assert main(["report", run, "report.figures.over_models=[]", "report.headline=[zeta]"]) == 0
    changed = page.read_bytes()
    assert changed != page_before
    assert not Path(run, "figures/over_models_zeta.png").exists()
    assert main(["report", "report.headline=[zeta]", run, "report.figures.over_models=[]"]) == 0
    assert page.read_bytes() == changed

    assert main(["report", run]) == 0
    assert page.read_bytes() == page_before
    assert manifest.read_bytes() == manifest_before

    assert main(["report", run, "report.compare=grad_cam"]) == 0
    assert main(["report", run]) == 0
    capsys.readouterr()
    for setting, sentence in (
        ("report.headline=[box_iuo]", "There is no metric 'box_iuo' in this run (report.headline)"),
        (
            "report.compare=grad_camm",
            "There is no method 'grad_camm' in this run; did you mean 'grad_cam'",
        ),
        (
            "report.figures.grid=[random_cam]",
            "There is no method 'random_cam' in this run (report.figures.grid)",
        ),
    ):
        assert main(["report", run, setting]) == 2
        assert sentence in capsys.readouterr().err
    assert page.read_bytes() == page_before


@pytest.mark.slow
def test_methods_titles_level_and_order_compute_nothing(runs, capsys):
    run = runs[0]
    page = Path(run, "report.html")
    before = page.read_bytes()
    words = [
        "report.methods=[xgrad_cam]",
        "report.level=0.01",
        "report.sort=confidence_drop",
        "method.xgrad_cam.title=Our own",
        "metric.confidence_drop.title=Drop",
    ]
    assert main(["report", run, *words, "--output", "both"]) == 0
    assert page.read_bytes() == before
    text = Path("both/report.html").read_text()
    for word in ("Our own", "Drop", "report.level=0.01", "report.sort=confidence_drop"):
        assert word in text
    assert not Path("both/records").exists()
    assert "grad_cam" not in Path("both/tables/summary.csv").read_text().replace("xgrad_cam", "")

    assert main(["report", run, *words]) == 0
    assert "Our own" in page.read_text()
    assert main(["report", run]) == 0
    assert page.read_bytes() == before
    capsys.readouterr()
    for word, sentence in (
        (
            "report.methods=[xgrad_camm]",
            "no method 'xgrad_camm' in this run (report.methods); did you mean",
        ),
        ("method.xgradcam.title=A", "no method 'xgradcam' in this run; did you mean"),
        ("report.sort=zeta", "no metric 'zeta' of methods in this run (report.sort)"),
    ):
        assert main(["report", run, word]) == 2
        assert sentence in capsys.readouterr().err
    assert page.read_bytes() == before


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        (
            "report.headlin=[a]",
            "There is no setting 'report.headlin' of a report; did you mean 'report.headline'",
        ),
        ("model=vgg16", "axiom-bench report computes nothing, so it can't set model. It can set"),
        ("colour=red", "There is no setting 'colour' of a report; there are: report.columns"),
        (
            "method.grad_cam.title= ",
            "method.grad_cam.title has no text; write method.grad_cam.title=T",
        ),
        (
            "metric.box_iou.params.threshold=0.3",
            r"the run sets the rest: axiom-bench \.\.\. metric",
        ),
        ("report.headline=3", "report.headline must be a list of metrics"),
        ("report.headline=[a", r"The value of report.headline=\[a can't be understood"),
    ],
)
def test_a_wrong_setting_is_one_sentence(word, sentence):
    words = [
        "report.headline=[a,b]",
        "report.figures.grid=null",
        "report.figures.pair=[]",
        "report.compare=x",
    ]
    assert parse_settings(words).report == {
        "headline": ["a", "b"],
        "figures": {"grid": None, "pair": []},
        "compare": "x",
    }
    with pytest.raises(BenchError, match=sentence) as error:
        parse_settings([*words, word])
    assert "\n" not in str(error.value)


RUN = [*TINY, "model=scenes_vgg", "method=[grad_cam,xgrad_cam]", "shard_size=2", "pictures.rows=0"]
FOLDER = Path("results/quick/default")
DONE = "scenes_vgg at features.13 on scenes: 2 of 4 images so far."


@pytest.fixture(autouse=True)
def _outside_checkout(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def stopped_results(tmp_path_factory) -> Path:
    """The results of a run that Ctrl-C stops at its second shard."""
    folder = tmp_path_factory.mktemp("stopped")
    computed: list[str] = []
    compute_shard = shards.compute

    def compute_one_shard(*arguments: Any) -> RecordFile:
        if computed:
            raise KeyboardInterrupt
        computed.append("a shard")
        return compute_shard(*arguments)

    with pytest.MonkeyPatch.context() as patch, chdir(folder):
        patch.setattr(shards, "compute", compute_one_shard)
        assert main(RUN) == 130
    return folder / "results"


@pytest.fixture
def stopped(stopped_results, _outside_checkout) -> None:
    """A copy of the stopped run's results in the current folder."""
    shutil.copytree(stopped_results, "results")


@pytest.mark.slow
@pytest.mark.usefixtures("stopped")
def test_a_stopped_run_is_reported_as_such(capsys):
    capsys.readouterr()
    assert main(["report", str(FOLDER)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"This run was stopped before its end: the same command continues from there.\n{DONE}\n"
    )
    page = (FOLDER / "report.html").read_text()
    assert DONE in page
    assert 'http-equiv="refresh"' not in page

    assert main(["gate", str(FOLDER), "--baseline", "quick"]) == 2
    assert f"{FOLDER} was stopped before its end" in capsys.readouterr().out
    assert main(["gate", str(FOLDER), "--baseline", "own.csv", "--write"]) == 2
    assert main(["report", str(FOLDER), "--output", "all"]) == 2
    assert "was stopped before its end; run the same command again" in capsys.readouterr().err

    assert main(RUN) == 0
    assert not (FOLDER / running.FOLDER).exists()
    assert DONE not in (FOLDER / "report.html").read_text()
    records = reading.read_records(FOLDER, reading.read_manifest(FOLDER))
    assert records["image_id"].nunique() == 4
