"""The kit: what it holds, and the reading of the maps that a tool made."""

import json
import os
import re
import runpy
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from axiom_bench.auditing import kit
from axiom_bench.auditing.audit import audit_maps, method_maps
from axiom_bench.auditing.keras_networks import write_keras
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins

pytestmark = pytest.mark.usefixtures("few_objects_to_collect")

CASES = 2  # of the kit's networks that the tests of reading use


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit") / "kit"
    kit.export_kit(folder)
    return folder


@pytest.fixture(scope="module")
def cases():
    return kit.kit_cases()[:CASES]


@pytest.fixture(scope="module")
def maps(cases):
    """Our Grad-CAM of each of the cases' images, by the name of its file."""
    method = plugins.load("method", "grad_cam")
    by_name = {}
    for case in cases:
        heatmaps = method_maps(method, case.model, case.layer_module, case.images, case.targets)
        by_name.update(zip(kit.map_names(case), heatmaps.detach().numpy(), strict=True))
    return by_name


def write_maps(folder, maps):
    for name, values in maps.items():
        np.save(folder / f"{name}.npy", values)


def read(folder, cases):
    return kit.stored_maps(folder, cases, [kit.map_names(case) for case in cases])


def test_the_python_file_of_the_kit_builds_the_networks_of_the_audit(folder):
    load = runpy.run_path(str(folder / "network.py"))["load"]
    listed = json.loads((folder / "cases.json").read_text())["cases"]
    all_cases = kit.kit_cases()
    assert len(listed) == len(all_cases)
    for entry, case in zip(listed, all_cases, strict=True):
        images = []
        for name in entry["maps"]:
            image = np.load(folder / "images" / f"{name}.npy")
            picture = np.asarray(Image.open(folder / "images" / f"{name}.png"))
            np.testing.assert_array_equal(picture.transpose(2, 0, 1) / 32 - 4, image)
            images.append(torch.from_numpy(image))
        assert torch.equal(load(entry["name"])(torch.stack(images)), case.model(case.images))
        assert entry["classes"] == case.targets.tolist()
    source = (folder / "network.py").read_text()
    imported = {
        line.split()[1] for line in source.splitlines() if line.startswith(("import", "from"))
    }
    assert imported <= {
        "__future__",
        "dataclasses",
        "math",
        "pathlib",
        "torch",
        "safetensors.torch",
    }


def test_onnx_files_give_the_logits_and_the_layers_maps(cases, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="pip install onnx onnxscript onnxruntime")
    case = cases[0]
    assert case.images.dtype == torch.float64
    kit.write_onnx(tmp_path / "network.onnx", case)
    session = runtime.InferenceSession(tmp_path / "network.onnx")
    assert [output.name for output in session.get_outputs()] == ["logits", case.layer]
    logits, maps = session.run(None, {"images": case.images[:1].float().numpy()})
    hooked = []
    handle = case.layer_module.register_forward_hook(lambda module, given, out: hooked.append(out))
    expected = case.model(case.images[:1])
    handle.remove()
    # float32 on another kernel
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(maps, hooked[0].detach().numpy(), rtol=1e-5, atol=1e-5)


def test_keras_files_give_the_logits_and_the_layers_maps(tmp_path, monkeypatch):
    if find_spec("keras") is None:
        pytest.skip("pip install keras")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    for case in kit.kit_cases():
        write_keras(tmp_path / "network.keras", case)
        import keras  # after the kit's import, which chose torch as its backend

        model = keras.models.load_model(tmp_path / "network.keras")
        with_layer = keras.Model(model.input, [model.output, model.get_layer(case.layer).output])
        answers = with_layer(case.images.permute(0, 2, 3, 1).float().numpy())
        logits, maps = map(keras.ops.convert_to_numpy, answers)
        hooked = []
        handle = case.layer_module.register_forward_hook(
            lambda *call, into=hooked: into.extend(call)
        )
        expected = case.model(case.images)
        handle.remove()
        # float32 on another kernel
        np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
        expected_maps = hooked[-1].detach().permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(maps, expected_maps, rtol=1e-5, atol=1e-5)
    assert "KERAS_BACKEND" not in os.environ


@pytest.mark.parametrize("title", ["ONNX", "Keras"])
def test_a_library_that_is_not_installed_is_left_out_with_what_to_install(
    title, tmp_path, monkeypatch
):
    monkeypatch.setattr(kit, "find_spec", lambda package: None)
    lines = kit.export_kit(tmp_path / "kit")
    (line,) = [line for line in lines if line.startswith(title)]
    assert re.fullmatch(rf"{title} is left out; pip install [a-z ]+, then export again\.", line)


def test_a_library_that_cannot_be_imported_is_left_out(tmp_path, monkeypatch):
    def broken(path, case):
        raise ImportError("No module named 'tensorflow'")

    converters = {".keras": kit.Converter("Keras", ("json",), broken)}
    monkeypatch.setattr(kit, "CONVERTERS", converters)
    lines = kit.export_kit(tmp_path / "kit")
    assert "Keras is left out, since it can't be imported: No module named 'tensorflow'." in lines
    assert (tmp_path / "kit/maps").is_dir()


def test_the_readme_is_short_and_names_what_exists(folder):
    text = (folder / "README.md").read_text()
    assert len(text.split()) <= 150
    for name in ("cases.json", "network.py", "models", "images", "maps"):
        assert name in text
        assert (folder / name).exists()


def test_a_folder_with_files_is_not_overwritten(folder):
    with pytest.raises(BenchError, match="isn't an empty folder; give --export another one"):
        kit.export_kit(folder)


@pytest.mark.slow
def test_maps_of_numbers_are_audited(cases, maps, tmp_path):
    write_maps(tmp_path, {name: values.astype(np.float32) for name, values in maps.items()})
    audit = audit_maps(read(tmp_path, cases), "maps", expect="grad_cam")
    assert audit.sentence.startswith("maps computes Grad-CAM")
    assert (audit.exit_code, audit.notes, audit.is_approximate) == (0, (), False)


@pytest.mark.slow
@pytest.mark.parametrize("colours", ["viridis", "opencv"])
def test_drawn_maps_are_audited_approximately(colours, cases, maps, tmp_path):
    for name, values in maps.items():
        if colours == "opencv":
            table = kit_jet()
            pixels = table[(255 * values).astype(np.uint8)]
        else:
            pixels = colormaps[colours](values, bytes=True)[..., :3]
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    audit = audit_maps(read(tmp_path, cases), "maps", expect="grad_cam")
    assert audit.answer.formula == "grad_cam"
    assert audit.exit_code == 0
    assert any("The answer is approximate" in note for note in audit.notes)
    assert audit.badge_text.startswith("Grad-CAM, approximate")


def kit_jet():
    from axiom_bench.auditing.drawn_maps import OPENCV_JET, colour_table

    return colour_table(OPENCV_JET).astype(np.uint8)


def damage(folder, cases, maps, change):
    write_maps(folder, maps)
    change(folder / f"{kit.map_names(cases[0])[0]}.npy")
    return read(folder, cases)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), r"^Maps are missing in .*: \S+-0.npy\.$"),
        (lambda path: np.save(path, np.zeros((3, 5))), "has 3 x 5 numbers; the layer has 6 x 9"),
        (lambda path: np.save(path, np.full((6, 9), np.nan)), "has 54 NaN or infinite values"),
        (lambda path: np.save(path, np.zeros((6, 9))), "have different sizes; save all in one"),
        (lambda path: path.write_bytes(b"x"), "can't be read"),
        (
            lambda path: Image.new("L", (17, 12)).save(path.with_suffix(".png")),
            "are of one map; keep one of them",
        ),
    ],
)
def test_damage_is_one_message_and_the_rest_is_audited(change, message, cases, maps, tmp_path):
    stored = damage(tmp_path, cases, maps, change)
    assert stored.cases == cases[1:]
    (problem,) = stored.problems
    assert re.search(message, problem)


def test_an_empty_folder_of_maps_is_refused(cases, tmp_path):
    with pytest.raises(BenchError, match=r"^Maps are missing in .* and 3 more"):
        read(tmp_path, cases)


def test_files_of_other_names_are_listed(cases, maps, tmp_path):
    write_maps(tmp_path, {**maps, "mine": np.zeros((2, 2))})
    (problem,) = read(tmp_path, cases).problems
    assert problem == "Files with other names than the kit's aren't read: mine."


def test_a_kit_of_another_version_is_refused(folder, tmp_path):
    content = json.loads((folder / "cases.json").read_text())
    (tmp_path / "cases.json").write_text(json.dumps({**content, "networks": "other"}))
    (tmp_path / "maps").mkdir()
    with pytest.raises(BenchError, match="another version of axiom-bench; write a new kit"):
        kit.read_kit_maps(tmp_path)
    (tmp_path / "cases.json").write_text("{")
    with pytest.raises(BenchError, match=r"can't be used: .*; write a new kit"):
        kit.read_kit_maps(tmp_path / "maps")


@pytest.mark.slow
def test_the_answer_of_one_model_lists_what_it_cannot_tell(cases, maps, tmp_path):
    """At a linear head, many formulas draw one map."""
    case = next(case for case in kit.kit_cases() if case.name == "a linear head")
    method = plugins.load("method", "grad_cam")
    heatmaps = method_maps(method, case.model, case.layer_module, case.images, case.targets)
    write_maps(tmp_path, dict(zip(["a", "b", "c"], heatmaps.detach().numpy(), strict=True)))
    own = replace(case, name="your model")
    stored = kit.stored_maps(tmp_path, [own], [["a", "b", "c"]])
    audit = audit_maps(stored, "maps", expect="hires_cam", is_one_model=True)
    assert audit.answer.equal
    assert audit.exit_code == 2
    assert "Only one model was searched" in audit.notes[0]
    assert "can't tell whether it is hires_cam" in audit.expectation_sentence
