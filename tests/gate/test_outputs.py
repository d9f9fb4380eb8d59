"""The files that people and CI services read (Markdown, JUnit and JSON), and the command line.

They distinguish better from worse.
"""

import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from axiom_bench.cli.main import main
from axiom_bench.gate import GateOptions, gate, json_text, junit_xml, markdown, write_baseline
from axiom_bench.records import files, store
from axiom_bench.records.store import GALLERY
from tests.made_runs import write_entries

from .conftest import rows_of, shifted

pytestmark = pytest.mark.slow  # whole commands

BETTER = {"error": "lower", "iou": "higher", "drop": "none"}
METRICS = {
    name: {"title": name, "tolerance": "mean:0.01", "better": better}
    for name, better in BETTER.items()
}


@pytest.fixture
def runs(make_run, records, tmp_path):
    """A baseline, and a run in which three metrics moved.

    One is worse, one is better, and one has no direction.
    """
    baseline = write_baseline(make_run(records, metrics=METRICS), tmp_path / "b.csv")
    moved = shifted(records, 0.1, "error")
    moved = shifted(moved, 0.2, "iou")
    moved = shifted(moved, 0.3, "drop")
    return baseline, make_run(moved, metrics=METRICS)


def test_better_is_told_from_worse(runs):
    baseline, run = runs
    result = gate(run, baseline)
    verdicts = {finding.row[-1]: finding.verdict for finding in result.findings}
    assert verdicts == {"error": "worse", "iou": "better", "drop": "changed"}
    assert result.conclusion.startswith("Moved: 6 differences from")
    assert "2 worse, 2 better, 2 changed" in result.conclusion
    ends = ("which is worse.", "which is better.", "allowed 0.01).")
    assert all(line.endswith(ends) for line in result.lines[:-1])


@pytest.mark.parametrize(("step", "code"), [(0.2, 0), (-0.2, 1)])
def test_improvements_alone_may_be_allowed(make_run, records, tmp_path, step, code):
    baseline = write_baseline(make_run(records, metrics=METRICS), tmp_path / "b.csv")
    run = make_run(shifted(records, step), metrics=METRICS)
    assert gate(run, baseline).exit_code == 1, "two-sided unless allowed"
    assert gate(run, baseline, GateOptions(allow_improvements=True)).exit_code == code
    beginning = "An improvement that is not yet in" if code == 0 else "Moved"
    assert gate(run, baseline).conclusion.startswith(beginning)


def gallery(folder, ids, grey):
    """Write a gallery of one model and method in which every map has one grey."""

    def webp(mode, value):
        buffer = io.BytesIO()
        Image.new(mode, (8, 6), value).save(buffer, "WEBP", lossless=True)
        return buffer.getvalue()

    entry = dict.fromkeys(GALLERY.names)
    entry |= {
        "model": "one",
        "layer": "last",
        "data": "scenes",
        "target_class": 1,
        "width": 8,
        "height": 6,
        "picture": webp("RGB", (0, 0, 255)),
        "methods": ["xgrad_cam"],
        "maps": [webp("L", grey)],
        "boxes": [],
    }
    entries = [{**entry, "image_id": image} for image in ids]
    table = pa.Table.from_pylist(entries, GALLERY)
    store.write(folder / "gallery/a.parquet", table, schema=None)
    manifest = files.read_json(folder / "manifest.json")
    write_entries(folder, {**manifest, "gallery": ["gallery/a.parquet"]})


def test_the_images_that_moved_most_come_with_their_maps(make_run, records, tmp_path, monkeypatch):
    step_by_image = {"007": 0.9, "003": 0.8, "011": 0.7, "020": 0.6, "030": 0.5}
    steps = records["image_id"].map(step_by_image).fillna(0.0)
    is_changed = rows_of(records, metric="iou") & (records["model"] == "one")
    after = records.assign(value=records["value"] + steps * is_changed)
    before = make_run(records, metrics=METRICS)
    run = make_run(after, metrics=METRICS)
    gallery(before, ["003", "030"], 0)
    gallery(run, ["003", "030"], 255)
    baseline = write_baseline(before, tmp_path / "b.csv")
    page = tmp_path / "out dir/gate.md"

    arguments = [
        "gate",
        str(run),
        "--baseline",
        str(baseline),
        "--against",
        str(before),
        "--markdown",
        str(page),
    ]
    assert main(arguments) == 1

    text = page.read_text()
    assert re.findall(r"^\| `(\d+)` \|", text, re.MULTILINE) == ["007", "003", "011", "020", "030"]
    # For each of the two images in both galleries: the image, its map before and its map now.
    addresses = re.findall(r"!\[\]\(([^)]+)\)", text)
    assert len(addresses) == 6
    pictures = [np.asarray(Image.open(page.parent / address)) for address in addresses]
    assert {picture.shape for picture in pictures} == {(6, 8, 3)}
    # A map of 1 everywhere is bright, and one of 0 is dark.
    assert pictures[2].mean() > pictures[1].mean() + 50


def test_without_maps_the_values_are_still_there(runs, make_run, records, tmp_path, monkeypatch):
    """Check a page without a gallery, with a damaged one, and the summary of a job on GitHub.

    The summary has no pictures.
    """
    baseline, run = runs
    earlier = GateOptions(against=make_run(records, metrics=METRICS))

    text = markdown(gate(run, baseline, earlier), {})
    assert "### Images that moved most" in text
    assert "![](" not in text
    assert "**worse**" in text
    assert text.index("**worse**") < text.index("| better |"), "the worst first"

    gallery(run, ["003"], 1)
    (run / "gallery/a.parquet").write_bytes(b"no parquet")
    assert gate(run, baseline, earlier).exit_code == 1

    summary = tmp_path / "summary"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    main(["gate", str(run), "--baseline", str(baseline), "--markdown", str(tmp_path / "gate.md")])
    assert summary.read_text().startswith("before\n## The gate fails: values moved\n")
    assert "![](" not in summary.read_text()


def test_json_has_every_finding_and_is_strict(runs, make_run, records):
    baseline, _ = runs
    records.loc[rows_of(records, metric="iou"), ["value", "status"]] = [np.nan, "zero_map"]
    result = gate(make_run(records, metrics=METRICS), baseline)

    def refuse_constant(name):
        pytest.fail(f"{name} is no JSON")

    content = json.loads(json_text(result), parse_constant=refuse_constant)

    expected = {"format": 1, "exit_code": 1, "verdict": "moved", "rows_compared": 20}
    assert {key: content[key] for key in expected} == expected
    findings = content["findings"]
    sentences = [finding["sentence"] for finding in findings]
    assert sentences == [finding.line for finding in result.findings]
    findings_of_model = [finding for finding in findings if finding["model"] == "one"]
    (mean,) = [finding for finding in findings_of_model if finding["what"] == "mean"]
    assert mean["method"] == "xgrad_cam"
    assert mean["metric"] == "iou"
    assert mean["after"] is None


SUITE = {"name", "package", "id", "tests", "failures", "errors", "time", "hostname", "timestamp"}


def check_junit(result):
    """Check what the schema of Ant's JUnit task requires, and return the root element.

    It requires attributes, an order of elements, and counts that are true.
    """
    root = ElementTree.fromstring(junit_xml(result))
    assert root.tag == "testsuites"
    for suite in root:
        assert set(suite.attrib) == SUITE
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        tags = [child.tag for child in suite]
        cases = suite.findall("testcase")
        assert tags == ["properties", *["testcase"] * len(cases), "system-out", "system-err"]
        assert all(set(case.attrib) == {"name", "classname", "time"} for case in cases)
        assert all(child.tag in ("failure", "error") for case in cases for child in case)
        counts = [len(suite.findall(f"testcase{kind}")) for kind in ("", "/failure", "/error")]
        assert counts == [int(suite.attrib[name]) for name in ("tests", "failures", "errors")]
    return root


def test_junit_has_a_test_for_each_row(runs, make_run, records):
    baseline, run = runs
    path = "testsuite/testcase"

    root = check_junit(gate(run, baseline))
    cases = root.findall(path)
    assert len(cases) == 20
    failed = [case for case in cases if case.find("failure") is not None]
    assert sorted({case.attrib["name"] for case in failed}) == ["drop", "error", "iou"]

    root = check_junit(gate(make_run(records, metrics=METRICS), baseline))
    assert not root.findall(f"{path}/failure")

    root = check_junit(gate(run, baseline.with_name("none.csv")))
    (error,) = root.findall(f"{path}/error")
    assert error.attrib["message"].startswith("Can't compare: there is no baseline")

    without_uniform = records[records["method"] != "uniform"]
    root = check_junit(gate(make_run(without_uniform, metrics=METRICS), baseline))
    assert "method uniform" in [case.attrib["name"] for case in root.findall(path)]


HOSTILE = (
    "a|b<script>x</script>\x07",
    "]]>&\"'",
    "::error::x",
    "[x](http://evil) @all `c`",
    "\ud800 lone",
    "\u202eright",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_of_a_run_are_escaped(make_run, records, tmp_path, name):
    """Check that names reach the terminal, XML and Markdown as text.

    A run folder may be a stranger's.
    """
    name = name.encode("utf-8", "replace").decode()
    baseline = write_baseline(make_run(records, metrics=METRICS), tmp_path / "b.csv")
    renamed = records.replace({"method": {"uniform": name}})

    result = gate(make_run(renamed, metrics=METRICS), baseline)

    assert result.exit_code == 1
    for line in result.lines:
        assert line.isprintable()
        assert not line.startswith(("::", "##["))
    check_junit(result)
    json.loads(json_text(result))
    text = markdown(result, {})
    outside_code = re.sub(r"`[^`\n]*`", "", text)
    assert not re.search(r"<|(?<!\\)\]\(|@(?!\u200b)|(?<![\\:])://", outside_code)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
    assert cells == {9}, "no name ends a cell"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--reason", "x"], "add --write"),
        (["--write", "--json", "x"], "--write compares nothing"),
    ],
)
def test_arguments_that_do_not_go_together(runs, arguments, sentence, capsys):
    baseline, run = runs
    assert main(["gate", str(run), "--baseline", str(baseline), *arguments]) == 2
    assert sentence in capsys.readouterr().err
