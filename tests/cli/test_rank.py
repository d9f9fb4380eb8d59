"""`axiom-bench rank` and `axiom-bench reference`: places among published values, of one's own
method and of ours.
"""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import axiom_bench as ab
from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main
from axiom_bench.columns import RECORD_COLUMNS
from axiom_bench.records import reading
from axiom_bench.records.publishing import publish
from tests.made_runs import entries_of, write_entries
from tests.made_suites import TINY

QUICK = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0")
HALF = """\
def grad_cam(trace):
    return 0.5 * trace.gradients.mean((2, 3), keepdim=True)


def broken(trace):
    return trace.gradients.mean((2, 3), keepdim=True) * float("nan")


def raising(trace):
    return 1 / 0
"""


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """What `published` has computed, of which each test has a copy."""
    return tmp_path_factory.mktemp("published")


@pytest.fixture
def published(tiny_suite, kept, tmp_path, monkeypatch):
    """The suite with 12 images, its values of four methods published, and a module of one's own in
    the folder.
    """
    shared = ["data.size=12", "data.target=label", "shard_size=12"]
    metrics = "metric=[confidence_drop,sensitivity_error]"
    parts = {
        name: [word for word in part if "metric" not in word] + [metrics]
        for name, part in TINY["parts"].items()
    }
    tiny_suite(shared=shared, parts=parts)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "halved.py").write_text(HALF)
    if not list(kept.iterdir()):
        for part in TINY["parts"]:
            _, _, folder = compute(
                [f"suite=tiny/{part}", "method=[grad_cam,random,uniform,xgrad_cam]", *QUICK]
            )
            publish(
                folder, kept / f"reference/tiny/{part}", {"confidence_drop", "sensitivity_error"}
            )
        shutil.copytree("results", kept / "results")
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)


def test_one_part_is_ranked(published, tmp_path, capsys):
    """A suite with real weights takes half an hour, one of its parts a few minutes."""
    assert main(["rank", "halved.grad_cam", "--suite", "tiny/second", "--json", "places.json"]) == 0
    printed = capsys.readouterr().out
    assert "my_grad_cam on tiny/second" in printed
    assert "tiny/first" not in printed
    standings = json.loads((tmp_path / "places.json").read_text())
    assert [*standings["parts"]] == ["second"]
    assert (tmp_path / "results/suite/rank-tiny-second-my_grad_cam.html").is_file()
    assert main(["rank", "halved.grad_cam", "--suite", "tiny/secnod"]) == 2
    assert (
        "There is no part of the suite tiny 'secnod'; did you mean 'second'?"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_method_stands_where_its_values_do(published, tmp_path, capsys):
    """Half of Grad-CAM has Grad-CAM's map, so that it is told from it by no confidence drop, and
    errors of its own.
    """
    words = ["--suite", "tiny", "--json", "places.json", "--latex", "places.tex"]
    assert main(["rank", "halved.grad_cam", *words]) == 0
    printed = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    assert len(printed.splitlines()) <= 40
    assert max(map(len, printed.splitlines())) <= 100
    (page,) = (tmp_path / "results/suite").glob("rank-tiny-my_grad_cam.html")
    assert f"details: {page.relative_to(tmp_path)}" in printed
    assert "Sensitivity error" in (tmp_path / "places.tex").read_text()
    assert (tmp_path / "places.tex").read_text().count(r"\begin{table") == 2
    standings = json.loads((tmp_path / "places.json").read_text())["parts"]
    drops = {part: metrics["confidence_drop"]["networks"] for part, metrics in standings.items()}
    networks = {part: [each["network"] for each in of_part] for part, of_part in drops.items()}
    assert networks == {"first": ["scenes_vgg", "scenes_resnet"], "second": ["planted_or"]}
    for of_part in drops.values():
        for each in of_part:
            assert "grad_cam" in each["tied"]
            assert 1 <= each["place_low"] <= each["place_high"] <= each["groups"] <= 4
            assert each["low"] <= each["value"] <= each["high"]
            assert {*each["best"]}.isdisjoint(each["worst"])
    of_errors = {
        each["network"]: each["value"]
        for each in standings["first"]["sensitivity_error"]["networks"]
    }
    assert of_errors["scenes_resnet"] == pytest.approx(0.5, abs=0.01)  # Grad-CAM has none there
    assert "my_grad_cam on tiny/first" in printed
    details = page.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"Accuracy: scenes_vgg \d+ of \d+ \(.*\), scenes_resnet ", details)
    frame = ab.rank("halved.grad_cam", "tiny", ["confidence_drop"])
    assert not "".join(capsys.readouterr())
    for each in drops["first"]:
        low, high = frame.loc[
            ("first", "confidence_drop", each["network"]), ["place_low", "place_high"]
        ]
        assert (low, high) == (each["place_low"], each["place_high"])
    assert re.search(r"values by network +my_grad_cam +Grad-CAM +XGrad-CAM +places", printed)
    values = re.findall(
        r"(?:[\d.]+|<1e-6)(?: to [\d.]+)?", re.search(r"Confidence drop ↑(.*)", printed)[1]
    )
    assert values[0] == values[1]  # the map is Grad-CAM's
    errors = re.findall(
        r"(?:[\d.]+|<1e-6)(?: to [\d.]+)?", re.search(r"Sensitivity error ↓(.*)", printed)[1]
    )
    assert errors[0] != errors[1]  # half of its contributions
    assert re.search(r"^cost: [\d.]+ to [\d.]+ forward passes' time", printed, re.MULTILINE)
    assert "![tiny/first sensitivity_error: place" in details
    assert re.search(
        r"sensitivity__error-place_\d_to_\d_of_\d_\(2_of_2_networks,_24_of_24_images\)-blue",
        details,
    )


DROP = ("--metrics", "confidence_drop")
ANSWERS = {  # the words behind `rank`: the exit code, and how often a pattern is said
    ("xgrad_cam", *DROP): (0, "Confidence drop ↑", 2),
    ("halved.broken", *DROP): (0, "no value", 2),
    ("halved.raising",): (2, r"division by zero, raised by 'my_raising' .* at .*halved.py:10\n", 1),
    ("halved.absent",): (2, "absent", 1),
    ("xgrad_can",): (2, "did you mean 'xgrad_cam'", 1),
    ("xgrad_cam", "--metrics", "box_iuo"): (2, "no metric of the suite tiny 'box_iuo'", 1),
    ("xgrad_cam", "data.size=2"): (2, "The suite tiny fixes data.size", 1),
}


@pytest.mark.slow
def test_what_rank_says_of_methods_and_of_mistakes(published, tmp_path, capsys):
    for (method, *words), (code, pattern, count) in ANSWERS.items():
        assert main(["rank", method, "--suite", "tiny", *words]) == code
        printed = "".join(capsys.readouterr()).replace("\N{NO-BREAK SPACE}", " ")
        assert len(re.findall(pattern, printed)) >= count, printed
        assert "manifest.json" not in printed
        assert "Sensitivity" not in printed or DROP[1] not in words
    assert (
        main(
            [
                "rank",
                "grad_cam",
                "--suite",
                "tiny",
                "results=elsewhere",
                "--metrics",
                "sensitivity_error",
            ]
        )
        == 0
    )
    names = ["rank-tiny-grad_cam.html", "tiny-first", "tiny-second"]
    assert [path.name for path in sorted((tmp_path / "elsewhere/suite").iterdir())] == names


def test_the_published_values_are_shown_with_their_origin(published, capsys):
    assert main(["reference", "tiny"]) == 0
    printed = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"^tiny/first: 4 methods, commit \w+, 20\d\d-\d\d-\d\d", printed, re.MULTILINE)
    assert "tiny/second: 4 methods" in printed
    assert main(["reference", "tiny", "--csv", "values.csv.gz"]) == 0
    values = pd.read_csv("values.csv.gz")
    assert list(values) == ["suite", "part", *RECORD_COLUMNS]
    assert set(values["part"]) == {"first", "second"}
    assert len(values) == int(capsys.readouterr().out.split()[0])


@pytest.mark.slow
def test_the_leaderboard_has_a_page_for_each_part_and_each_method(published, tmp_path, capsys):
    folder = tmp_path / "reference/tiny/first"
    manifest = entries_of(folder)
    manifest["methods"]["random"]["params"] = {"seed": 1}  # another method than this installation's
    write_entries(folder, manifest)
    others = entries_of(tmp_path / "reference/tiny/second")
    others["config"]["data"]["root"] = "photographs"  # which others own
    write_entries(tmp_path / "reference/tiny/second", others)
    assert main(["leaderboard", "--output", "board"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "leaderboard: board/index.html"
    assert {path.name for path in (tmp_path / "board").iterdir()} == {
        "index.html",
        *("tiny-first.html", "tiny-first-gallery.html", "tiny-second.html"),
        *(f"method-{name}.html" for name in ("grad_cam", "random", "uniform", "xgrad_cam")),
        *("metrics.html", "submit.html", "limits.html"),
    }
    cost = "pass, for an image and a layer of 512 channels"
    assert cost in (tmp_path / "board/method-grad_cam.html").read_text()
    assert cost not in (tmp_path / "board/method-random.html").read_text()
    gallery = (tmp_path / "board/tiny-first-gallery.html").read_text()
    pictures = json.loads(re.findall(r'id="gallery-data">(.*?)</script>', gallery)[0])
    assert {each["title"] for each in pictures["methods"]} == {"Grad-CAM", "Uniform", "XGrad-CAM"}
    assert 'href="tiny-first-gallery.html"' in (tmp_path / "board/tiny-first.html").read_text()
    assert list(tmp_path.glob("results/*/*gallery*")) == []
    (tmp_path / "file").touch()
    assert main(["leaderboard", "--output", "file"]) == 2
    assert "file is no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_submission_stands_beside_the_published_values(published, tmp_path, capsys):
    """As self-reported where images are read: few could compute its values again."""
    assert (
        main(
            [
                "submit",
                "halved.grad_cam",
                "--suite",
                "tiny",
                "--output",
                "sent",
                "--licence",
                "<MIT>",
            ]
        )
        == 0
    )
    owned = tmp_path / "reference/tiny/second"
    manifest = entries_of(owned)
    manifest["config"]["data"]["root"] = "photographs"
    write_entries(owned, manifest)
    assert main(["leaderboard", "sent", "--output", "board"]) == 0
    pages = {
        part: (tmp_path / f"board/tiny-{part}.html").read_text() for part in ("first", "second")
    }
    assert "my_grad_cam (submitted)" in pages["first"]
    assert "self-reported" not in pages["first"]
    assert "my_grad_cam (self-reported)" in pages["second"]
    assert (
        "Submitted: halved.grad_cam, licence: &lt;MIT&gt;."
        in (tmp_path / "board/method-my_grad_cam.html").read_text()
    )
    sent, own = (
        reading.read_manifest(tmp_path / name) for name in ("sent/first", "reference/tiny/first")
    )
    computed = f"of my_grad_cam {str(sent.git_commit)[:8]} ({sent.created[:10]})"
    assert f"commit {str(own.git_commit)[:8]}, {computed}, torch" in pages["first"]
    rows = re.findall(r'<th scope="row"[^>]*>(?:<[^>]*>)*([^<]*)', pages["first"])
    assert {"Grad-CAM", "my_grad_cam (submitted)"} <= {*rows}
    assert "Grad-CAM (submitted)" not in rows
    (tmp_path / "sent/halved.py").write_text("")
    assert main(["leaderboard", "sent", "--output", "other"]) == 2
    assert (
        "sent isn't what was submitted: halved.py isn't as it was submitted"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_report_of_a_run_beside_the_published_values(published, tmp_path, capsys):
    compute(["suite=tiny/second", "+method.mine._target_=halved.grad_cam", "method=[]", *QUICK])
    run = "results/suite/tiny-second"
    assert main(["report", run, "report.reference=tiny", "--output", "both"]) == 0
    rows = reading.read_records(tmp_path / "both", reading.read_manifest(tmp_path / "both"))
    assert {*rows["method"].astype(str)} == {"mine", "grad_cam", "random", "uniform", "xgrad_cam"}
    assert main(["report", run, "report.reference=other"]) == 2
    assert "no suite 'other'" in capsys.readouterr().err


def test_a_run_that_differs_or_is_of_no_suite_is_refused(published, tmp_path, capsys):
    compute(
        ["run=plain", "method=[cam]", "metric=[zeta]", "data.size=2", "model=scenes_vgg", *QUICK]
    )
    assert main(["report", "results/quick/plain", "report.reference=tiny"]) == 2
    assert "plain isn't a run of the suite tiny" in capsys.readouterr().err
    manifest = entries_of(tmp_path / "reference/tiny/second")
    manifest["models"]["planted_or"]["weights_sha256"] = "0" * 64
    write_entries(tmp_path / "reference/tiny/second", manifest)
    assert main(["report", "results/suite/tiny-second", "report.reference=tiny"]) == 2
    assert "The model planted_or has another weights_sha256" in capsys.readouterr().err


def test_a_suite_that_is_not_there_or_has_no_values(tiny_suite, capsys):
    for words, message in (
        (["rank", "xgrad_cam", "--suite", "tini"], "no suite 'tini'; did you mean 'tiny'"),
        (
            ["reference", "tiny"],
            "No values of the suite tiny are in this installation; axiom-bench suite=tiny comput",
        ),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err


def test_the_published_values_are_plain_parquet_with_the_columns_of_their_readme():
    folder = Path(__file__).parents[2] / "results/reference"
    columns = re.findall(
        r"^\| `(\w+)`", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert columns == list(RECORD_COLUMNS)
    for records in folder.glob("*/*/records"):
        file = next(records.iterdir())
        assert list(pd.read_parquet(file)) == columns
