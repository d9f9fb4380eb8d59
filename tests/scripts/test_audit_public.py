"""Tests of scripts/audit_public.py, which audits CAMs of PyPI and writes the page about them."""

import json
import re
from pathlib import Path

import audit_public
import pytest
from audit_public import Implementation, Package, Row

from axiom_bench.auditing import dependences, effects
from axiom_bench.evaluation import plugins

GUIDE = Path(__file__).parents[2] / "docs" / "audit.md"
RESULT = {
    "implementation": "library:CAM",
    "verdict": "library:CAM computes Grad-CAM (absolute gradients) exactly",
    "formula": "grad_cam",
    "changes": ["absolute gradients"],
    "equal": [],
    "effects": [{"key": "gradients"}, {"key": "random_states"}, {"key": "random_states"}],
    "dependences": [{"key": "no_grad"}],
}
UNKNOWN = {**RESULT, "formula": None, "changes": []}
LIBRARY_CAM = Implementation("library:CAM --with use_relu=False", "CAM", "grad_cam")


def test_the_table_has_a_line_per_implementation_and_skipped_package():
    rows = [
        Row("library", "1.0", "CAM", "library:CAM", "computes CAM (|x|)", "same", ".grad", "GPU"),
        Row("other", "", "", "", "skipped: ERROR: No matching distribution found for other"),
    ]
    lines = audit_public.table(rows).splitlines()[2:]
    assert lines == [
        "| library 1.0 | `library:CAM` | computes CAM (\\|x\\|) | .grad | GPU |",
        "| other |  | skipped: ERROR: No matching distribution found for other |  |  |",
    ]


def test_the_summary_counts_implementations_by_answer():
    kinds = [audit_public.SAME, audit_public.READING, audit_public.READING, audit_public.UNKNOWN]
    rows = [
        Row("library", "1.0", f"CAM{number}", "", "", kind) for number, kind in enumerate(kinds)
    ]
    rows.append(Row("other", "2.0", "CAM4", "", "", audit_public.READING))
    rows.append(Row("skipped", "", "", "", "skipped: no CAM"))
    first, *lines = audit_public.summary(rows).splitlines()
    assert (
        "5 implementations in 2 packages, **1 compute the formula of their name** and 3 a" in first
    )
    assert lines[3:] == [
        "| computes the formula of its name | 1 | **library** CAM0 |",
        "| computes a reading of it | 3 | **library** CAM1, CAM2; **other** CAM4 |",
        f"| {audit_public.UNKNOWN} | 1 | **library** CAM3 |",
    ]


@pytest.mark.parametrize(
    ("result", "method", "kind"),
    [
        (RESULT, "grad_cam", audit_public.READING),
        (RESULT, "xgrad_cam", audit_public.OTHER),
        ({**RESULT, "changes": []}, "grad_cam", audit_public.SAME),
        (
            {**RESULT, "changes": ["min-max", "epsilon 1e-08 in the normalisation"]},
            "grad_cam",
            audit_public.SAME,
        ),
        (
            {**RESULT, "changes": ["epsilon 1e-08 in the sum of a channel"]},
            "grad_cam",
            audit_public.READING,
        ),
        ({**RESULT, "equal": ["XGrad-CAM"]}, "xgrad_cam", audit_public.SAME),
        ({**RESULT, "equal": ["XGrad-CAM (min-max)"]}, "xgrad_cam", audit_public.SAME),
        ({**RESULT, "equal": ["XGrad-CAM (no ReLU)"]}, "xgrad_cam", audit_public.READING),
        (UNKNOWN, "grad_cam", audit_public.UNKNOWN),
        ({**UNKNOWN, "dependences": [{"key": "draws"}]}, "ss_cam", audit_public.INCOMPARABLE),
        (UNKNOWN, "opti_cam", audit_public.INCOMPARABLE),  # 200 passes for each image
    ],
)
def test_the_kind_of_an_answer_follows_from_the_formula_of_the_name(result, method, kind):
    assert audit_public.kind_of(result, method) == kind


@pytest.mark.parametrize(
    ("nearest", "answer"),
    [
        ("Grad-CAM (min-max), differing by 0.2", None),
        ("Grad-CAM, equal on 4 of 11 networks", None),
        ("Grad-CAM++, differing by 1", "no known formula"),
        ("KPCA-CAM (min-max), differing by 1", "no known formula"),
    ],
)
def test_the_nearest_formula_is_shown_only_if_it_is_that_of_the_name(nearest, answer):
    verdict = f"no known formula: nearest is {nearest}"
    result = {**UNKNOWN, "verdict": f"library:CAM {verdict}"}
    assert audit_public.answer_of(result, "grad_cam") == (answer or verdict)


def test_a_package_that_does_not_install_is_skipped_with_the_last_line_of_pip(
    tmp_path, monkeypatch
):
    def fail(package, environment):
        raise RuntimeError("ModuleNotFoundError: No module named 'tensorflow'")

    monkeypatch.setattr(audit_public, "install", fail)
    rows = audit_public.rows_of(Package("library", "library", (LIBRARY_CAM,)), tmp_path)
    assert rows == [
        Row("library", "", "", "", "skipped: ModuleNotFoundError: No module named 'tensorflow'")
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
    rows = audit_public.rows_of(Package("library", "library", (LIBRARY_CAM,)), tmp_path)
    assert rows == [
        Row(
            package="library",
            version="1.0",
            title="CAM",
            audit="library:CAM --with use_relu=False",
            answer="computes Grad-CAM (absolute gradients) exactly",
            kind=audit_public.READING,
            effects=".grad, random state",
            dependences="no_grad",
        )
    ]


def test_a_package_without_a_cam_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_public, "install", lambda package, environment: "2.0")
    rows = audit_public.rows_of(Package("library", "library", without_cam="no CAM"), tmp_path)
    assert rows == [Row("library", "2.0", "", "", "skipped: no CAM")]


def test_packages_are_sorted_and_their_names_say_methods_of_this_project():
    names = [package.name for package in audit_public.PACKAGES]
    assert names == sorted(names)
    known = plugins.names_of_all("method")
    for package in audit_public.PACKAGES:
        methods = {implementation.method for implementation in package.implementations}
        assert methods <= set(known), package.name


def test_every_finding_has_words_that_the_guide_explains():
    effect_keys = {effect.key for effect in effects.EFFECTS}
    assert effect_keys <= set(audit_public.EFFECT_WORDS)
    dependence_keys = {dependence.key for dependence in dependences.DEPENDENCES}
    assert dependence_keys | {"constant_map"} == set(audit_public.DEPENDENCE_WORDS)
    explained = re.findall(r"^\| ([^|]+) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    words = [*audit_public.EFFECT_WORDS.values(), *audit_public.DEPENDENCE_WORDS.values()]
    assert set(words) <= set(explained)


def test_a_part_of_a_page_is_replaced_between_its_marks():
    text = "before\n<start>\nold\n<end>\nafter\n"
    replaced = audit_public.with_part(text, "<start>", "<end>", "new")
    assert replaced == "before\n<start>\n\nnew\n\n<end>\nafter\n"
