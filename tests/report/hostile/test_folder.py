"""Attacks by the files of a stranger's run folder.

Names and links that lead out of the folder, damaged manifests, and texts that a terminal obeys.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from axiom_bench import report
from axiom_bench.cli.main import main
from axiom_bench.cli.terminal import printable
from axiom_bench.errors import BenchError
from axiom_bench.gate import write_baseline
from axiom_bench.records import files, reading
from axiom_bench.records.files import safe_name
from axiom_bench.report import summary
from tests.made_runs import RECORD, write_entries

LAYERS = {"scenes_fc": ("features.9",)}


@pytest.fixture
def plain_run(undrawn: None, make_run, make_records) -> Path:
    records = make_records(4, layers=LAYERS, methods={"grad_cam": {}, "random": {}})
    return make_run(records[records["metric"] == "box_iou"], layers=LAYERS, pictures=False)


@pytest.mark.parametrize("name", ["tables", "figures", "report", "paper", "running"])
def test_nothing_is_written_or_removed_through_a_link(plain_run, tmp_path, name):
    """Check a link and a summary that together would delete a user's own file.

    A report first removes the files that the previous report's summary lists.
    """
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.tex").write_text("mine")
    (plain_run / name).symlink_to(own)
    files.write_json(plain_run / summary.FILE, {"files": [f"{name}/thesis.tex"]})
    run = str(plain_run)
    assert main(["report", run]) == 2
    assert main(["judge", run]) == 2
    assert main(["gate", run, "--baseline", "quick"]) == 2
    assert [path.name for path in own.iterdir()] == ["thesis.tex"]
    with pytest.raises(BenchError, match=rf"run/{name} leads out of the run folder"):
        report.write(plain_run)


@pytest.mark.parametrize("name", [RECORD, "records", "manifest.json", "report.json"])
def test_nothing_is_read_through_a_link(plain_run, tmp_path, name):
    (plain_run / "report.json").write_text("{}")
    (plain_run / name).rename(tmp_path / "elsewhere")
    (plain_run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BenchError, match="leads out of the run folder"):
        reading.read_manifest(plain_run)


def test_a_link_inside_the_folder_and_to_the_folder_may_be(plain_run, tmp_path):
    (plain_run / "records").rename(plain_run / "kept")
    (plain_run / "records").symlink_to("kept")
    link = tmp_path / "link"
    link.symlink_to(plain_run)
    assert len(reading.read_records(link, reading.read_manifest(link))) == 8


@pytest.mark.slow
def test_a_terminal_has_nothing_to_obey(hostile_run, capsys):
    """Check that no command prints a run's escapes, bells and changes of direction."""
    run = str(hostile_run)
    assert main(["judge", run]) == 0
    assert main(["gate", run, "--baseline", "quick"]) == 2
    assert main(["report", run, "report.compare=x"]) == 2
    printed = "".join(capsys.readouterr())
    assert "attacked" in printed
    assert all(letter == "\n" or printable(letter) == letter for letter in printed)
    assert printable("a\x1b[31mb\r\u202e\x9b\udce9c d\u2009e é\n") == "a?[31mb????c d\u2009e é\n"


@pytest.mark.parametrize(
    "name", ["x/../../escaped", "../../evil", "..", ".", "", "a\\b", "a\0b", ".hidden", "m" * 300]
)
def test_a_name_stays_in_its_folder(name, tmp_path):
    safe = safe_name(name)
    assert (tmp_path / f"{safe}.png").resolve().parent == tmp_path.resolve()
    assert not safe.startswith(".")
    assert len(safe) < 120
    (tmp_path / f"{safe}.png").write_bytes(b"")


def test_two_names_never_share_a_file_and_a_plain_one_is_its_own():
    names = ("a/b", "a\\b", "a_b", "a b", "m" * 300, "m" * 301)
    assert len({safe_name(name) for name in names}) == 6
    for name in ("box_iou", "grad_cam@torchcam", "resnet18-layer4.1", "a=b"):
        assert safe_name(name) == name


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"methods": {"grad_cam": 3}}, "'methods.grad_cam' must be a mapping, not 3"),
        ({"records": {"a": 1}}, "'records' must be a list"),
        ({"jobs": [{"images": 3}]}, "it has no 'jobs.0.job'"),
        (
            {"jobs": [{"job": "a", "config": {"model": "net"}}]},
            "'jobs.0.config.model' must be a mapping, not \"net\"",
        ),
        (
            {"jobs": [{"job": "a", "records": ["../a.parquet"]}]},
            '"../a.parquet", which is no file of a run folder',
        ),
        ({"pictures": ["/etc/passwd"]}, "which is no file of a run folder"),
        ({"runtime": [None]}, "'runtime.0' must be text, not null"),
        (
            {"models": {"net": {"random_weights": 1}}},
            "'models.net.random_weights' must be true or false, not 1",
        ),
        (
            {"seconds": {"net": {"values": "fast"}}},
            "'seconds.net.values' must be a number, not \"fast\"",
        ),
    ],
)
def test_a_manifest_that_does_not_hold_what_it_must(tmp_path, entry, sentence):
    write_entries(tmp_path, {"experiment": "quick", "run": "default", **entry})
    with pytest.raises(BenchError, match="is damaged") as error:
        reading.read_manifest(tmp_path)
    assert sentence in str(error.value)


COMMAND = """
import sys
from axiom_bench.cli.main import main
code = main(sys.argv[1:])
print("torch" in sys.modules, "torchvision" in sys.modules, "matplotlib" in sys.modules)
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "draws"),
    [
        pytest.param(["report"], True, marks=pytest.mark.slow),
        (["gate", "--baseline", "baseline.csv"], False),
    ],
)
def test_the_commands_import_no_torch(make_run, make_records, tmp_path, command, draws):
    records = make_records(4)
    folder = make_run(records[records["metric"] == "box_iou"], pictures=False)
    write_baseline(folder, tmp_path / "baseline.csv")
    name, *options = command
    process = subprocess.run(
        [sys.executable, "-c", COMMAND, name, str(folder), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == f"False False {draws}"
