"""Tests of `axiom-bench rank`, `reference` and `leaderboard`: places among published values."""

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
def cached_folder(tmp_path_factory):
    """The folder with the values that `published` computes once for all tests."""
    return tmp_path_factory.mktemp("published")


@pytest.fixture
def published(tiny_suite, cached_folder, tmp_path, monkeypatch):
    """A suite of 12 images with published values of four methods.

    The current folder contains a module with a user's own methods.
    """
    metrics = {"confidence_drop", "sensitivity_error"}
    parts = {}
    for name, part in TINY["parts"].items():
        settings = [setting for setting in part if "metric" not in setting]
        parts[name] = [*settings, "metric=[confidence_drop,sensitivity_error]"]
    tiny_suite(shared=["data.size=12", "data.target=label", "shard_size=12"], parts=parts)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "halved.py").write_text(HALF)
    if not list(cached_folder.iterdir()):
        for part in TINY["parts"]:
            methods = "method=[grad_cam,random,uniform,xgrad_cam]"
            _, _, folder = compute([f"suite=tiny/{part}", methods, *QUICK])
            publish(folder, cached_folder / f"reference/tiny/{part}", metrics)
        shutil.copytree("results", cached_folder / "results")
    shutil.copytree(cached_folder, tmp_path, dirs_exist_ok=True)


def printed_text(capsys):
    """Return the text on stdout and stderr with plain spaces."""
    return "".join(capsys.readouterr()).replace("\N{NO-BREAK SPACE}", " ")


def row_values(title, text):
    """Return the numbers, ranges and `<1e-6` in the line that follows `title`."""
    line = re.search(rf"{title}(.*)", text)[1]
    return re.findall(r"(?:[\d.]+|<1e-6)(?: to [\d.]+)?", line)


@pytest.mark.slow
def test_one_part_is_ranked(published, tmp_path, capsys):
    """Check the ranking on one part.

    A suite with real weights takes half an hour, one of its parts a few minutes.
    """
    assert main(["rank", "halved.grad_cam", "--suite", "tiny/second", "--json", "places.json"]) == 0
    printed = capsys.readouterr().out
    assert "my_grad_cam on tiny/second" in printed
    assert "tiny/first" not in printed
    standings = json.loads((tmp_path / "places.json").read_text())
    assert [*standings["parts"]] == ["second"]
    assert (tmp_path / "results/suite/rank-tiny-second-my_grad_cam.html").is_file()
    assert main(["rank", "halved.grad_cam", "--suite", "tiny/secnod"]) == 2
    sentence = "There is no part 'secnod' of the suite tiny; did you mean 'second'?"
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_a_method_stands_where_its_values_do(published, tmp_path, capsys):
    """Check the place of a method whose weights are half of Grad-CAM's.

    It has Grad-CAM's heatmap, so that no confidence drop distinguishes the two, and other axiom
    errors.
    """
    options = ["--suite", "tiny", "--json", "places.json", "--latex", "places.tex"]
    assert main(["rank", "halved.grad_cam", *options]) == 0
    printed = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    (page,) = (tmp_path / "results/suite").glob("rank-tiny-my_grad_cam.html")
    details = page.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    latex = (tmp_path / "places.tex").read_text()
    parts = json.loads((tmp_path / "places.json").read_text())["parts"]

    assert len(printed.splitlines()) <= 40
    assert max(len(line) for line in printed.splitlines()) <= 100
    assert f"details: {page.relative_to(tmp_path)}" in printed
    assert "Sensitivity error" in latex
    assert latex.count(r"\begin{table") == 2

    drops_by_part = {
        part: metrics["confidence_drop"]["networks"] for part, metrics in parts.items()
    }
    networks = {}
    for part, standings in drops_by_part.items():
        networks[part] = [standing["network"] for standing in standings]
        for standing in standings:
            assert "grad_cam" in standing["tied"]
            assert 1 <= standing["place_low"] <= standing["place_high"]
            assert standing["place_high"] <= standing["groups"] <= 4
            assert standing["low"] <= standing["value"] <= standing["high"]
            assert {*standing["best"]}.isdisjoint(standing["worst"])
    assert networks == {"first": ["scenes_vgg", "scenes_resnet"], "second": ["planted_or"]}

    standings = parts["first"]["sensitivity_error"]["networks"]
    error_by_network = {standing["network"]: standing["value"] for standing in standings}
    # Grad-CAM's error is 0 on scenes_resnet, so that half of its weights miss half of each drop.
    assert error_by_network["scenes_resnet"] == pytest.approx(0.5, abs=0.01)
    assert "my_grad_cam on tiny/first" in printed
    assert re.search(r"Accuracy: scenes_vgg \d+ of \d+ \(.*\), scenes_resnet ", details)

    frame = ab.rank("halved.grad_cam", "tiny", ["confidence_drop"])
    assert not "".join(capsys.readouterr())
    for standing in drops_by_part["first"]:
        row = frame.loc[("first", "confidence_drop", standing["network"])]
        assert row["place_low"] == standing["place_low"]
        assert row["place_high"] == standing["place_high"]

    assert re.search(r"values by network +my_grad_cam +Grad-CAM +XGrad-CAM +places", printed)
    drop, drop_of_grad_cam, *_ = row_values("Confidence drop ↑", printed)
    assert drop == drop_of_grad_cam
    error, error_of_grad_cam, *_ = row_values("Sensitivity error ↓", printed)
    assert error != error_of_grad_cam
    assert re.search(r"^cost: [\d.]+ to [\d.]+ forward passes' time", printed, re.MULTILINE)
    assert re.search(r"!\[tiny/first sensitivity_error: (places|differs from) ", details)
    place = r"(places_\d_to_\d_of_\d|differs_from_\d_of_\d_methods)"
    badge = rf"sensitivity__error-{place}_\(2_of_2_networks,_24_of_24_images\)-blue"
    assert re.search(badge, details)


DROP = ("--metrics", "confidence_drop")
# The arguments of `rank`, the exit code, a pattern in its output, and how often it occurs at least.
ANSWERS = {
    ("xgrad_cam", *DROP): (0, "Confidence drop ↑", 2),
    ("halved.broken", *DROP): (0, "no value", 2),
    ("halved.raising",): (2, r"division by zero, raised by 'my_raising' .* at .*halved.py:10\n", 1),
    ("halved.absent",): (2, "absent", 1),
    ("xgrad_can",): (2, "did you mean 'xgrad_cam'", 1),
    ("xgrad_cam", "--metrics", "box_iuo"): (2, "no metric 'box_iuo' in the suite tiny", 1),
    ("xgrad_cam", "data.size=2"): (2, "The suite tiny fixes data.size", 1),
}


@pytest.mark.slow
def test_what_rank_says_of_methods_and_of_mistakes(published, tmp_path, capsys):
    for (method, *options), (code, pattern, count) in ANSWERS.items():
        assert main(["rank", method, "--suite", "tiny", *options]) == code
        printed = printed_text(capsys)
        assert len(re.findall(pattern, printed)) >= count, printed
        assert "manifest.json" not in printed
        if "confidence_drop" in options:
            assert "Sensitivity" not in printed

    options = ["results=elsewhere", "--metrics", "sensitivity_error"]
    assert main(["rank", "grad_cam", "--suite", "tiny", *options]) == 0
    names = ["rank-tiny-grad_cam.html", "tiny-first", "tiny-second"]
    assert [path.name for path in sorted((tmp_path / "elsewhere/suite").iterdir())] == names


@pytest.mark.slow
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
    first = tmp_path / "reference/tiny/first"
    manifest = entries_of(first)
    manifest["methods"]["random"]["params"] = {"seed": 1}  # another method than this installation's
    write_entries(first, manifest)
    second = tmp_path / "reference/tiny/second"
    manifest = entries_of(second)
    manifest["config"]["data"]["root"] = "photographs"  # images that mustn't be published
    write_entries(second, manifest)

    assert main(["leaderboard", "--output", "board"]) == 0

    # notes on the few images of the galleries aren't printed
    assert capsys.readouterr().out == "leaderboard: board/index.html\n"
    board = tmp_path / "board"
    assert {path.name for path in board.iterdir()} == {
        "index.html",
        "tiny-first.html",
        "tiny-first-gallery.html",
        "tiny-second.html",
        "method-grad_cam.html",
        "method-random.html",
        "method-uniform.html",
        "method-xgrad_cam.html",
        "metrics.html",
        "submit.html",
        "limits.html",
    }
    cost = "pass, for an image and a layer of 512 channels"
    assert cost in (board / "method-grad_cam.html").read_text()
    assert cost not in (board / "method-random.html").read_text()
    gallery = (board / "tiny-first-gallery.html").read_text()
    pictures = json.loads(re.findall(r'id="gallery-data">(.*?)</script>', gallery)[0])
    titles = {method["title"] for method in pictures["methods"]}
    assert titles == {"Grad-CAM", "Uniform", "XGrad-CAM"}
    assert 'href="tiny-first-gallery.html"' in (board / "tiny-first.html").read_text()
    assert list(tmp_path.glob("results/*/*gallery*")) == []

    (tmp_path / "file").touch()
    assert main(["leaderboard", "--output", "file"]) == 2
    assert "file is no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_submission_stands_beside_the_published_values(published, tmp_path, capsys):
    """Check the page of a submission.

    If a part reads images from files, its values are marked as self-reported, since few users could
    compute them again.
    """
    submit = ["submit", "halved.grad_cam", "--suite", "tiny"]
    assert main([*submit, "--output", "sent", "--licence", "<MIT>"]) == 0
    second = tmp_path / "reference/tiny/second"
    manifest = entries_of(second)
    manifest["config"]["data"]["root"] = "photographs"
    write_entries(second, manifest)

    assert main(["leaderboard", "sent", "--output", "board"]) == 0

    first_page = (tmp_path / "board/tiny-first.html").read_text()
    second_page = (tmp_path / "board/tiny-second.html").read_text()
    method_page = (tmp_path / "board/method-my_grad_cam.html").read_text()
    assert "my_grad_cam (submitted)" in first_page
    assert "self-reported" not in first_page
    assert "my_grad_cam (self-reported)" in second_page
    assert "Submitted: halved.grad_cam, licence: &lt;MIT&gt;." in method_page
    submitted = reading.read_manifest(tmp_path / "sent/first")
    reference = reading.read_manifest(tmp_path / "reference/tiny/first")
    computed = f"of my_grad_cam {str(submitted.git_commit)[:8]} ({submitted.created[:10]})"
    assert f"commit {str(reference.git_commit)[:8]}, {computed}, torch" in first_page
    rows = re.findall(r'<th scope="row"[^>]*>(?:<[^>]*>)*([^<]*)', first_page)
    assert {"Grad-CAM", "my_grad_cam (submitted)"} <= {*rows}
    assert "Grad-CAM (submitted)" not in rows

    (tmp_path / "sent/halved.py").write_text("")
    assert main(["leaderboard", "sent", "--output", "other"]) == 2
    sentence = "sent isn't what was submitted: halved.py isn't as it was submitted"
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_a_report_of_a_run_beside_the_published_values(published, tmp_path, capsys):
    compute(["suite=tiny/second", "+method.mine._target_=halved.grad_cam", "method=[]", *QUICK])
    run = "results/suite/tiny-second"

    assert main(["report", run, "report.reference=tiny", "--output", "both"]) == 0
    rows = reading.read_records(tmp_path / "both", reading.read_manifest(tmp_path / "both"))
    assert {*rows["method"].astype(str)} == {"mine", "grad_cam", "random", "uniform", "xgrad_cam"}

    assert main(["report", run, "report.reference=other"]) == 2
    assert "no suite 'other'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_differs_or_is_of_no_suite_is_refused(published, tmp_path, capsys):
    run = ["run=plain", "method=[cam]", "metric=[zeta]", "data.size=2", "model=scenes_vgg"]
    compute([*run, *QUICK])
    assert main(["report", "results/quick/plain", "report.reference=tiny"]) == 2
    assert "plain isn't a run of the suite tiny" in capsys.readouterr().err

    second = tmp_path / "reference/tiny/second"
    manifest = entries_of(second)
    manifest["models"]["planted_or"]["weights_sha256"] = "0" * 64
    write_entries(second, manifest)
    assert main(["report", "results/suite/tiny-second", "report.reference=tiny"]) == 2
    assert "The model planted_or has another weights_sha256" in capsys.readouterr().err


def test_a_suite_that_is_not_there_or_has_no_values(tiny_suite, capsys):
    assert main(["rank", "xgrad_cam", "--suite", "tini"]) == 2
    assert "no suite 'tini'; did you mean 'tiny'" in capsys.readouterr().err
    assert main(["reference", "tiny"]) == 2
    sentence = "No values of the suite tiny are in this installation; axiom-bench suite=tiny comput"
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_the_published_values_are_plain_parquet_with_the_columns_of_their_readme():
    folder = Path(__file__).parents[2] / "results/reference"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    columns = re.findall(r"^\| `(\w+)`", readme, re.MULTILINE)
    assert columns == list(RECORD_COLUMNS)
    for records in folder.glob("*/*/records"):
        file = next(records.iterdir())
        assert list(pd.read_parquet(file)) == columns
