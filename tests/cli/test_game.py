"""Tests of `axiom-bench game`: its page, and the mistakes that a user can fix."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.cli.main import main
from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import files, running
from axiom_bench.run import manifest

pytestmark = pytest.mark.slow  # whole commands

METHODS = "method=[grad_cam,xgrad_cam,centered,cam]"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run without its report, which a game doesn't read."""
    results = tmp_path_factory.mktemp("results")
    overrides = [
        "model=scenes_vgg",
        METHODS,
        "metric=[zeta]",
        "data.size=24",
        "runtime.repeats=0",
        "pictures.rows=0",
        f"results={results}",
        "device=cpu",
    ]
    settings, outcomes = run_jobs(overrides)
    folder = settings.run_folder
    manifest_file.write(folder, manifest.assemble(outcomes, settings))
    running.end_command(folder)
    return folder


@pytest.fixture
def copy(run, tmp_path) -> Path:
    return shutil.copytree(run, tmp_path / "copy")


def data_of(page: Path) -> dict[str, Any]:
    """Return the data in the page of a game."""
    text = page.read_text(encoding="utf-8")
    data = re.search(r'id="game-data">(.*?)</script>', text, re.DOTALL)[1]
    return json.loads(data)


def test_a_run_on_the_scenes_becomes_a_game(run, capsys):
    assert main(["game", str(run)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"game: {run / 'game.html'}"
    data = data_of(run / "game.html")
    titles = [method["title"] for method in data["methods"]]
    assert titles == ["Grad-CAM", "XGrad-CAM", "Centered", "Centred blob"]
    assert len(data["checks"]) == 6
    ids = [image["image"] for image in data["images"]]
    records = json.loads((run / "manifest.json").read_text())["data"]["scenes"]["ids"]
    assert len(ids) == len(set(ids)) > 3
    assert set(ids) <= set(records)
    assert not set(ids) & {check["image"] for check in data["checks"]}
    for image in data["images"]:
        assert len(image["pictures"]) == 8
        # Pictures 0 to 3 show the methods' maps of one class, 4 to 7 those of the other class.
        assert image["pictures"][0] != image["pictures"][4]
        assert image["pictures"][3] == image["pictures"][7]  # the blob doesn't depend on the class
    assert (run / "game.html").stat().st_size < 10e6


def test_the_same_command_makes_the_same_page(run, tmp_path):
    game = ["game", str(run), "--images", "3", "--methods", "xgradcam,centered", "--output"]

    for name in ("a", "b"):
        assert main([*game, str(tmp_path / name)]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    data = data_of(tmp_path / "a")
    assert len(data["images"]) == 3
    names = [method["name"] for method in data["methods"]]
    assert names == ["xgrad_cam", "centered", "centred_blob"]  # the order of --methods

    assert main([*game, str(tmp_path / "c"), "--seed", "1"]) == 0
    assert data_of(tmp_path / "c")["id"] != data["id"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--methods", "xgradcamm"], "There is no method 'xgradcamm'; did you mean 'xgrad_cam'"),
        (["--methods", "cam"], "The method 'cam' is left out"),
        (["--methods", "centered", "--images", "500"], "data.size=2000"),
        (["--images", "0"], "--images 0: give 1 or more"),
        (["--seed", "-1"], "--seed -1: give 0 or more"),
        (
            ["--model", "resnet"],
            "There is no job 'resnet' in this run; there are: scenes_vgg at features.13 on scenes",
        ),
    ],
)
def test_mistakes_are_sentences(run, capsys, options, sentence):
    assert main(["game", str(run), *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sentence in lines[-1]
    # A slow machine also prints a line of progress.
    assert [line for line in lines if line.startswith("axiom-bench:")] == lines[-1:]


def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["game", str(folder)]) == 2
    return capsys.readouterr().err


def test_what_isnt_the_runs_any_more_and_a_run_that_has_not_ended_are_refused(copy, capsys):
    content = files.read_json(copy / "manifest.json")
    for part, key, sentence in (
        ("models", "weights_sha256", "The weights of scenes_vgg have changed since the run"),
        ("data", "fingerprint", "The images of 'scenes'"),
    ):
        changed = {name: {**entry, key: "0" * 64} for name, entry in content[part].items()}
        files.write_json(copy / "manifest.json", {**content, part: changed})
        assert sentence in refusal(copy, capsys)
    running.begin_command(copy, {"experiment": "quick", "run": "default", "jobs": 1})
    assert "was stopped before its end" in refusal(copy, capsys)


def test_data_without_two_classes_names_what_has_them(copy, capsys):
    """Check a run that leaves out all scenes of several digits, as data.only_correct may."""
    content = files.read_json(copy / "manifest.json")
    (job,) = content["jobs"]
    assert main(["game", str(copy)]) == 0
    job["left_out"] = [image["image"] for image in data_of(copy / "game.html")["images"]]
    files.write_json(copy / "manifest.json", content)
    assert "axiom-bench experiment=voc" in refusal(copy, capsys)


EVIL_MODULE = """\
import pathlib
pathlib.Path(__file__).with_name('ran').write_text('')
def f(*_, **__): return None
"""
REFINE_CAM = "axiom_bench.methods.refine_cam.refine_cam"
ZETA = "axiom_bench.metrics.zeta.zeta"
ENTRIES: dict[str, tuple[str, dict[str, Any]]] = {  # the group of settings and its new entries
    "a method": ("method", {"mine": {"_target_": "evil.f", "params": {}}}),
    "a method of a standard library": (
        "method",
        {"grad_cam": {"_target_": "os.system", "params": {}}},
    ),
    "a method as a parameter": (
        "method",
        {"mine": {"_target_": REFINE_CAM, "params": {"a": ["evil.f"]}}},
    ),
    "a metric": ("metric", {"zeta": {"_target_": "evil.f", "params": {}}}),
    "values of a metric": (
        "metric",
        {"zeta": {"_target_": ZETA, "params": {}, "values": "evil.f"}},
    ),
    "a network": ("model", {"source": "user", "architecture": "FOLDER/evil.py:f"}),
    "a reshape": ("model", {"reshape": "FOLDER/evil.py:f"}),
    "an output": ("model", {"output": "evil.f"}),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_code_that_a_run_names_is_not_run(copy, tmp_path, name, capsys, monkeypatch):
    """Check `game` and the commands that only read: they load nothing."""
    for folder in (tmp_path, copy):
        (folder / "evil.py").write_text(EVIL_MODULE)
    group, template = ENTRIES[name]
    entries = json.loads(json.dumps(template).replace("FOLDER", str(copy)))
    content = files.read_json(copy / "manifest.json")
    content["config"][group] |= entries
    for job in content["jobs"]:
        job["config"][group] |= entries
    files.write_json(copy / "manifest.json", content)
    monkeypatch.chdir(tmp_path)

    assert main(["game", str(copy)]) == 2
    assert "names code, which would run with your rights" in capsys.readouterr().err
    main(["judge", str(copy)])
    main(["gate", str(copy), "--baseline", "quick"])
    main(["report", str(copy), "report.compare=x"])

    assert not [*tmp_path.rglob("ran")]
    if name == "a network":
        assert main(["game", str(copy), "--trust"]) == 2  # its function returns no network
        assert [*tmp_path.rglob("ran")]
