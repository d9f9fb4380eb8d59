"""The answer of an audit: exit codes, text, page, Markdown, JSON and badge."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import axiom_bench as ab
from axiom_bench.auditing import audit as auditing
from axiom_bench.auditing.audit import Audit, cam_function, failure_notes, name_of
from axiom_bench.auditing.case import Finding
from axiom_bench.auditing.cases import cases
from axiom_bench.auditing.library_readings import with_library_readings
from axiom_bench.auditing.page import magnitude
from axiom_bench.auditing.pictures import Panels, panels_of, scene_case
from axiom_bench.auditing.result import Expectation
from axiom_bench.auditing.verdict import FormulaAnswer
from axiom_bench.errors import BenchError

pytestmark = pytest.mark.usefixtures("few_objects_to_collect")

EXACT = FormulaAnswer(
    "computes Grad-CAM to 2e-16", "known", "grad_cam", differences={"a ReLU head": 2e-16}
)
SOFTMAX = replace(
    EXACT,
    verdict="computes Grad-CAM (softmax score, min-max) to 3e-07",
    changes=("softmax score", "min-max"),
)
REVERSED = replace(EXACT, changes=("min-max, reversed",))
ALSO_CAM = replace(EXACT, equal=("CAM", "XGrad-CAM (min-max)"))
UNKNOWN = FormulaAnswer(
    "no known formula: nearest is XGrad-CAM, differing by 0.18 on networks with a ReLU head",
    "unknown",
    nearest="xgrad_cam",
    differences={"a ReLU head": 0.18},
)
FAR = FormulaAnswer("no known formula", "unknown", is_none_near=True)
CONSTANT = FormulaAnswer("gives only constant maps", "unknown")
HOSTILE = "<script>alert(1)</script>|`x`[y](z)"
FINDING = Finding("hooks_left", "The call leaves hooks on 2 modules.", "assert 1 < 2\nassert '&'")


def audit_of(answer, expect=None, **others):
    expected = None if expect is None else Expectation.of(expect)
    return Audit("team:cam", answer, expected=expected, **others)


@pytest.mark.parametrize(
    ("answer", "expect", "is_one_model", "code"),
    [
        (EXACT, None, False, 0),
        (UNKNOWN, None, False, 0),
        (EXACT, "grad_cam", False, 0),
        (EXACT, "Grad-CAM", False, 0),
        (EXACT, "grad_cam:", False, 0),
        (EXACT, "xgrad_cam", False, 1),
        (UNKNOWN, "xgrad_cam", False, 1),
        (FAR, "grad_cam", False, 1),
        (FAR, "grad_cam", True, 1),
        (SOFTMAX, "grad_cam", False, 0),
        (SOFTMAX, "grad_cam: min-max, softmax score", False, 0),
        (SOFTMAX, "grad_cam: softmax score", False, 1),
        (SOFTMAX, "grad_cam:", False, 1),
        (REVERSED, "grad_cam: min-max, reversed", False, 0),
        (REVERSED, "grad_cam: min-max", False, 1),
        (ALSO_CAM, "grad_cam", False, 0),
        (ALSO_CAM, "cam", False, 1),
        (ALSO_CAM, "xgrad_cam: min-max", False, 0),
        (ALSO_CAM, "grad_cam", True, 2),
        (ALSO_CAM, "cam", True, 2),
        (ALSO_CAM, "layer_cam", True, 1),
        (EXACT, "grad_cam", True, 0),
        (CONSTANT, "grad_cam", True, 2),
    ],
)
def test_exit_codes(answer, expect, is_one_model, code):
    audit = audit_of(answer, expect, is_one_model=is_one_model)
    assert audit.exit_code == code
    sentences = {0: "As expected", 1: "Not as expected", 2: "can't tell"}
    if expect is not None:
        assert sentences[code] in str(audit)


def test_an_unknown_expectation_names_the_nearest_method():
    with pytest.raises(BenchError, match=r"no method 'grad_cm'; did you mean .*'grad_cam'"):
        Expectation.of("grad_cm: min-max")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (EXACT, "Grad-CAM, exact"),
        (SOFTMAX, "Grad-CAM, softmax score, min-max"),
        (replace(SOFTMAX, changes=("a", "b", "c", "d")), "Grad-CAM, a, b and 2 more"),
        (UNKNOWN, "no known formula"),
    ],
)
def test_the_badge_says_the_formula(answer, text):
    root = ElementTree.fromstring(audit_of(answer).badge())
    assert root.attrib["aria-label"] == f"CAM: {text}"
    width = int(root.attrib["width"])
    last = root.findall(".//{http://www.w3.org/2000/svg}text")[-1]
    assert int(last.attrib["x"]) + int(last.attrib["textLength"]) < width


def test_the_badge_of_an_unmet_expectation_has_another_colour():
    assert audit_of(EXACT, "xgrad_cam").badge() != audit_of(EXACT, "grad_cam").badge()
    escaped = audit_of(replace(EXACT, changes=(HOSTILE,))).badge()
    assert HOSTILE in ElementTree.fromstring(escaped).attrib["aria-label"]


def panels():
    values = np.linspace(-1, 1, 12).reshape(3, 4)
    return Panels("a ReLU head", np.zeros((6, 8, 3), np.uint8), values, values / 2)


def test_without_a_formula_there_is_no_table_of_differences():
    audit = audit_of(FAR)
    assert "largest difference" not in audit.to_html().lower() + audit.to_markdown().lower()
    assert "no known formula" in audit.to_html()


def test_the_page_has_verdict_maps_findings_and_differences():
    audit = audit_of(SOFTMAX, "xgrad_cam", effects=(FINDING,), panels=panels(), notes=("A note.",))
    html = audit.to_html()
    assert html.index("computes Grad-CAM (softmax score, min-max)") < html.index("Findings</a>")
    assert html.count('<img src="data:image/png;base64,') == 4
    assert "Difference, at most 0.5" in html
    assert "assert 1 &lt; 2\nassert &#39;&amp;&#39;" in html
    assert "Not as expected: xgrad_cam." in html
    assert "A note." in html
    assert "Only on what it should" in html


@pytest.mark.parametrize("kind", ["to_html", "to_markdown", "badge"])
def test_hostile_names_stay_text(kind):
    finding = Finding("raises", f"The call raises {HOSTILE}.", HOSTILE)
    answer = replace(EXACT, differences={HOSTILE: 1.0}, changes=(HOSTILE,))
    audit = Audit(HOSTILE, answer, effects=(finding,), notes=(HOSTILE,), tried=(HOSTILE,))
    text = getattr(audit, kind)()
    lines = []
    for line in text.splitlines():
        if not line.startswith(("      ", "### ")):  # code, and a name as code
            lines.append(line)
    rest = "\n".join(lines)
    assert "<script>alert" not in rest
    assert "[y](z)" not in rest or kind != "to_markdown"


def test_code_in_markdown_is_a_block_that_no_line_ends():
    finding = replace(FINDING, code="```\n</details>\n# title")
    text = audit_of(EXACT, effects=(finding,)).to_markdown()
    assert "\n      ```\n      </details>\n      # title\n" in text


def test_json_has_the_answer():
    audit = audit_of(SOFTMAX, "grad_cam", effects=(FINDING,))
    content = json.loads(audit.to_json())
    assert (content["formula"], content["changes"]) == ("grad_cam", ["softmax score", "min-max"])
    assert (content["exit_code"], content["expected"]) == (0, "grad_cam")
    assert content["effects"][0]["key"] == "hooks_left"
    infinite = audit_of(replace(EXACT, differences={"a": float("inf")}))
    assert json.loads(infinite.to_json())["differences"] == {"a": None}
    assert content["nearest"] is None
    unknown = json.loads(audit_of(replace(UNKNOWN, nearest_changes=("min-max",))).to_json())
    assert unknown["nearest"] == {
        "formula": "xgrad_cam",
        "changes": ["min-max"],
        "differences": {"a ReLU head": 0.18},
    }


def test_save_writes_by_the_ending(tmp_path):
    audit = audit_of(EXACT)
    for name, start in {
        "a.html": "<!DOCTYPE",
        "a.md": "###",
        "a.json": "{",
        "a.svg": "<svg",
    }.items():
        audit.save(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    with pytest.raises(BenchError, match=r"ends in \.html, \.md, \.json or \.svg"):
        audit.save(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("value", "text"), [(3.14e-7, "3e-7"), (0.1834, "0.18"), (0.0, "0"), (float("inf"), "inf")]
)
def test_differences_have_few_digits(value, text):
    assert magnitude(value) == text


def test_a_method_of_this_project_is_audited_by_name_or_by_its_trace_function():
    case = cases()[0]
    maps = []
    for function in ("Grad-CAM", "axiom_bench.methods.grad_cam.grad_cam"):
        cam = cam_function(function, {}, None)
        maps.append(cam(case.model, case.layer_module, case.images, case.targets))
    assert maps[0].shape == (3, *case.images.shape[2:])
    assert maps[0].equal(maps[1])
    assert panels_of(cam, EXACT, [scene_case()]).implementation.shape == (96, 96)


def test_networks_that_were_run_in_float32_are_reported():
    answer = replace(
        EXACT, failures={"one": "E: a"}, float64_errors={"two": "E: b", "three": "E: b"}
    )
    assert failure_notes(answer) == [
        "On networks with one it raises E: a.",
        "2 networks were run in float32: in float64 it raises E: b.",
    ]


def test_options_are_in_the_name():
    assert name_of("team:cam", {"eps": 1}) == "team:cam with eps=1"
    assert name_of(audit_of, {}).endswith("test_audit:audit_of")


@pytest.mark.slow
@pytest.mark.parametrize(("expected", "status"), [(None, "known"), ("cam", "other_than_named")])
def test_a_formula_as_pytorch_grad_cam_computes_it_is_known(expected, status):
    """Eigen-CAM and FEM of that library differ from the papers by a sign and by rounding."""
    import axiom_bench.data.torchvision_import  # noqa: F401 - the library needs it

    library = pytest.importorskip("pytorch_grad_cam", reason="make peers")
    for name, key in (("EigenCAM", "eigen_cam"), ("FEM", "fem")):
        cam = cam_function(getattr(library, name), {}, None)
        answer = with_library_readings(UNKNOWN, cam, cases()[:3], expected)
        assert (answer.formula, answer.status) == (key, status)
        assert answer.changes == ("as pytorch-grad-cam computes it",)


@pytest.mark.slow
def test_other_maps_stay_unknown():
    cam = cam_function(lambda model, layer, images, targets: images.mean(1), {}, None)
    assert with_library_readings(UNKNOWN, cam, cases()[:1], None) is UNKNOWN


def in_train_mode(model, layer, images, targets):
    is_training = model.training
    model.train()
    model(images)
    model.train(is_training)
    return images.mean(1)


@pytest.mark.slow
def test_running_statistics_that_a_call_changes_are_found(monkeypatch):
    """Only one of the audit's networks has running statistics (MONAI issue 1728)."""
    monkeypatch.setattr(auditing, "find_formula", lambda *_: EXACT)
    effects = {finding.key: finding.sentence for finding in ab.audit(in_train_mode).effects}
    assert effects.keys() == {"buffers"}
    assert "3 buffers (after.0.running_mean, " in effects["buffers"]


def gives_no_map(model, layer, images, targets):
    raise ValueError("broken")


def test_a_function_that_always_fails_is_an_error():
    with pytest.raises(BenchError, match="broken"):
        ab.audit(gives_no_map)


def test_tensors_that_stay_from_a_first_call_are_suspected():
    """The hooks stay, and the list keeps the first activations.

    The code is like that of issue 10 of
    shinkyo0513/Towards-Visually-Explaining-Video-Understanding-Networks-With-Perturbation.
    """
    activations = []

    def cam(model, layer, images, targets):
        layer.register_forward_hook(lambda module, given, output: activations.append(output))
        logits = model(images)
        (gradients,) = torch.autograd.grad(
            logits.gather(1, targets[:, None]).sum(), activations[-1]
        )
        return (gradients.mean((2, 3), keepdim=True) * activations[0]).sum(1)

    with pytest.raises(BenchError, match="if it keeps tensors or hooks between calls, remove them"):
        ab.audit(cam)


def test_a_broken_implementation_has_no_picture():
    assert panels_of(gives_no_map, EXACT, cases()[:1]) is None
