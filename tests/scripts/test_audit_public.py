"""Tests of scripts/audit_public.py, which audits CAMs of PyPI and writes the table."""

import json

import audit_public
import pytest
from audit_public import Package, Row

RESULT = {
    "implementation": "library:CAM",
    "verdict": "library:CAM computes Grad-CAM (|gradients|) exactly",
    "effects": [{"key": "gradients"}],
    "dependences": [{"key": "no_grad"}],
}


def test_the_table_has_a_line_per_implementation_and_skipped_package():
    rows = [
        Row("library", "1.0", "library:CAM", "computes Grad-CAM (|gradients|)", "gradients"),
        Row("other", "", "", "skipped: ERROR: No matching distribution found for other"),
    ]
    lines = audit_public.table(rows).splitlines()[2:]
    assert lines == [
        "| library | 1.0 | `library:CAM` | computes Grad-CAM (\\|gradients\\|) | gradients |",
        "| other |  |  | skipped: ERROR: No matching distribution found for other |  |",
    ]


def test_a_package_that_does_not_install_is_skipped_with_the_last_line_of_pip(
    tmp_path, monkeypatch
):
    def fail(package, environment):
        raise RuntimeError("ModuleNotFoundError: No module named 'tensorflow'")

    monkeypatch.setattr(audit_public, "install", fail)
    rows = audit_public.rows_of(Package("library", "library", ("library:CAM",)), tmp_path)
    assert rows == [
        Row("library", "", "", "skipped: ModuleNotFoundError: No module named 'tensorflow'")
    ]


def test_a_command_that_fails_gives_the_last_line_of_its_errors():
    with pytest.raises(RuntimeError, match=r"^no space left$"):
        audit_public.run(["sh", "-c", "echo wait >&2; echo no space left >&2; exit 1"], 10)


def test_a_stopped_command_continues_with_the_answers_that_it_has(tmp_path, monkeypatch):
    def fail(command, seconds):
        raise AssertionError("an audit with an answer ran again")

    monkeypatch.setattr(audit_public, "install", lambda package, environment: "1.0")
    monkeypatch.setattr(audit_public, "run", fail)
    answer = tmp_path / "library-library-CAM-with-use_relu-False.json"
    answer.write_text(json.dumps(RESULT))
    audit = "library:CAM --with use_relu=False"
    rows = audit_public.rows_of(Package("library", "library", (audit,)), tmp_path)
    expected = "computes Grad-CAM (|gradients|) exactly"
    assert rows == [Row("library", "1.0", audit, expected, "gradients, no_grad")]


def test_a_package_without_a_cam_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_public, "install", lambda package, environment: "2.0")
    rows = audit_public.rows_of(Package("library", "library", without_cam="no CAM"), tmp_path)
    assert rows == [Row("library", "2.0", "", "skipped: no CAM")]
