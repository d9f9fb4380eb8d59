"""The audit over releases: what two releases' files differ by, the page of it, and a release that is measured."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

import numpy as np
import pytest
import torch
from audit.releases import install, page
from audit.releases.comparison import changes, counts, result
from audit.releases.earlier import bridged
from audit.releases.measure import main as measure
from audit.releases.release import Release, first_line, installed_in, stored, write_json
from audit.releases.values import VALUES, baseline_of, described

FORMULA = torch.tensor([[[1.0, 0.0], [0.5, 0.0]], [[0.0, 1.0], [0.0, 0.5]]])
MOVED = FORMULA * torch.tensor([[1.0, 1.0], [1.5, 1.0]])
OLD = '''"""torchcam as it was called until 0.2.0, of one image, here of Grad-CAM alone."""
import torch

class _CAM:
    def __init__(self, model, target_layer):
        layer = dict(model.named_modules())[target_layer]
        self.handle = layer.register_forward_hook(self.keep)

    def keep(self, module, inputs, output):
        self.layer = output
        output.retain_grad()

    def clear_hooks(self):
        self.handle.remove()

    def __call__(self, class_idx: int, scores=None, normalized=True):
        assert len(scores) == 1 and isinstance(class_idx, int)
        scores[0, class_idx].backward()
        maps = (self.layer.grad.mean((2, 3), keepdim=True) * self.layer).sum(1)[0].relu()
        return (maps - maps.min()) / (maps.max() - maps.min()) if normalized else maps

class GradCAM(_CAM):
    pass

class CAM(_CAM):
    def __init__(self, model, target_layer, fc_layer):
        super().__init__(model, target_layer)
'''


def release(folder: Path, version: str, maps: dict[str, torch.Tensor | str], **kept: object) -> Release:
    """A release of torchcam with the maps of its methods, or a status, as `measure` leaves it."""
    made = Release(
        "torchcam", version, folder / "torchcam" / version, folder / "none", date=f"2031-01-{version[-1]:>02}"
    )
    made.write()
    records = []
    for method, own in maps.items():
        values = torch.full((3, 2), float("nan"))
        if isinstance(own, torch.Tensor):
            values = described(own, FORMULA if own.shape == FORMULA.shape else own)
        for name, row in zip(VALUES, values, strict=True):
            for image, value in enumerate(row.tolist()):
                status = own if isinstance(own, str) else "ok" if np.isfinite(value) else "not_finite"
                records.append({"model": "tiny", "layer": "1", "data": "images", "image_id": str(image),
                                "target_class": 0, "predicted_class": -1, "method": f"{method}@torchcam",
                                "metric": name, "value": value, "status": status})  # fmt: skip
    baseline_of(records, "torchcam", version).write(made.baseline)
    arrays = {f"tiny, {name}@torchcam": own.numpy() for name, own in maps.items() if isinstance(own, torch.Tensor)}
    np.savez_compressed(made.maps, **arrays)
    versions = {"torch": "2.13.0", "numpy": "2.4.6"}
    write_json(made.result, {"failure": "", "failures": {}, "earlier": [], "versions": versions, "photographs": 0,
                             "cases": {}, **kept})  # fmt: skip
    return made


def test_a_method_that_moved_is_found_with_how_far_and_where_from_the_formula(tmp_path: Path) -> None:
    before = release(tmp_path, "0.1", {"grad_cam": FORMULA, "cam": FORMULA})
    after = release(tmp_path, "0.2", {"grad_cam": MOVED, "cam": FORMULA})
    (change,) = changes(before, after)
    assert change.method == "grad_cam@torchcam"
    assert change.moved == 0.25
    assert change.to_formula == (0, 0.125)  # the mean of two images, of which one moved
    (mended,) = changes(after, before)
    verdicts = {finding.place[-1]: finding.verdict for finding in mended.findings}
    assert verdicts == {VALUES[0]: "better", VALUES[1]: "changed", VALUES[2]: "changed"}
    assert page.sentence(mended) == "`grad_cam` by 2.5e-01 (to the formula 1.2e-01, now 0.0e+00)"


def test_rounding_is_no_change(tmp_path: Path) -> None:
    before = release(tmp_path, "0.1", {"grad_cam": FORMULA})
    assert list(changes(before, release(tmp_path, "0.2", {"grad_cam": FORMULA * (1 + 1e-6)}))) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("absent", FORMULA, "`cam` is new"),
        (FORMULA, "absent", "`cam` is gone"),
        (FORMULA, "failed", "`cam` fails"),
        ("failed", FORMULA, "`cam` runs again"),
        (FORMULA, FORMULA.repeat(1, 2, 1), "`cam` has maps of another size"),
        (FORMULA, FORMULA / FORMULA, "`cam` has NaN in other maps"),
        (FORMULA.flip(0), FORMULA, "`cam` by 1.0e+00 (to the formula 1.0e+00, now 0.0e+00)"),
    ],
)
def test_a_method_that_comes_goes_or_fails_is_said(
    before: torch.Tensor | str, after: torch.Tensor | str, expected: str, tmp_path: Path
) -> None:
    sides = [release(tmp_path, version, {"cam": own}) for version, own in (("0.1", before), ("0.2", after))]
    (change,) = changes(*sides)
    assert page.sentence(change) == expected


def test_maps_on_other_images_are_not_compared(tmp_path: Path) -> None:
    before, after = (release(tmp_path, version, {"cam": FORMULA}) for version in ("0.1", "0.2"))
    after.baseline.write_text(after.baseline.read_text().replace("# images: 2", "# images: 9"))
    with pytest.raises(SystemExit, match="values of other images"):
        list(changes(before, after))


def test_page_names_changes_failures_and_the_cases_that_are_still_there(tmp_path: Path) -> None:
    reproduced = {"torchcam_noise": {"reproduced": True}, "torchcam_cam_hooks": {"reproduced": True}}
    mended = {"torchcam_noise": {"reproduced": True}, "torchcam_cam_hooks": {"reproduced": False}}
    fails = {"cam@torchcam": "TypeError: no", "score_cam@torchcam": "TypeError: no"}
    release(tmp_path, "0.9", {"grad_cam": FORMULA, "cam": "failed"}, failures=fails, earlier=["no `with`"])
    release(tmp_path, "0.10", {"grad_cam": MOVED, "cam": FORMULA}, cases=reproduced)
    Release("torchcam", "0.11", tmp_path / "torchcam/0.11", tmp_path, failure="error: a | b").write()
    release(tmp_path, "0.12", {"grad_cam": MOVED, "cam": FORMULA}, cases=mended)
    text = page.page_of(stored(tmp_path)).text
    lines = [line for line in text.splitlines() if line.startswith("| 0.")]
    assert [line.split(" | ")[0] for line in lines] == ["| 0.12", "| 0.11", "| 0.10", "| 0.9"]
    assert "| 2 of 2 | nothing |" in lines[0]
    assert "can't be installed: `error: a / b`" in lines[1]
    assert "| 2 of 2 | `cam` runs again; `grad_cam` by 2.5e-01 (to the formula 0.0e+00, now 1.2e-01) |" in lines[2]
    assert lines[3].endswith("| 1 of 2 |  | no `with` | `cam`, `score_cam`: `TypeError: no` |")
    assert "| `torchcam_noise` | other reading | still there | 0.10 to 0.12 |  | 0.9 |" in text
    assert "| `torchcam_cam_hooks` | defect | mended in 0.12 | 0.10 | 0.12 | 0.9 |" in text
    assert "grad-cam" not in text.partition("## torchcam")[2].partition("## captum")[0]


def test_a_case_that_went_and_came_back(tmp_path: Path) -> None:
    outcomes = [("1", page.REPRODUCED), ("2", page.NOT), ("3", page.FAILS), ("4", page.REPRODUCED)]
    assert page.standing(outcomes) == "still there, since 4"
    assert page.standing(outcomes[:3]) == "doesn't run"
    assert page.standing(outcomes[:2]) == "mended in 2"
    assert page.standing(outcomes[1:2]) == "not reproduced"
    assert page.ranges(outcomes, page.REPRODUCED) == "1, 4"


@pytest.mark.slow
def test_a_release_that_a_user_has_is_measured_once_with_its_own_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed, folder, file = tmp_path / "installed", tmp_path / "results", tmp_path / "studies/peers-over-releases.md"
    (installed / "torchcam/cams").mkdir(parents=True)
    (installed / "torchcam/__init__.py").write_text("from torchcam import cams\n")
    (installed / "torchcam/cams/__init__.py").write_text(OLD)
    (installed / "torchcam-0.2.0.dist-info").mkdir()
    (installed / "torchcam-0.2.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchcam\nVersion: 0.2.0\n"
    )
    page.write(folder, None, [installed], 0, tmp_path)
    assert "torchcam 0.2.0: measured" in capsys.readouterr().out
    (made,) = stored(folder)
    content = result(made)
    assert content["failure"] == ""
    assert content["versions"]["torchcam"] == "0.2.0"
    assert content["earlier"] == ["`torchcam.cams`", "names of layers", "no `with`", "one image"]
    assert "fc_layer" in content["failures"]["cam@torchcam"]
    assert counts(made) == (1, 2)  # Grad-CAM; CAM wants the name of a layer
    with np.load(made.maps) as maps:
        np.testing.assert_allclose(maps["tiny, grad_cam@torchcam"][0].max(), 1, rtol=1e-6)
    assert "| 0.2.0 | - | 1 of 2 |" in file.read_text()
    monkeypatch.setattr(page.subprocess, "run", None)  # a second command runs nothing
    page.write(folder, None, [installed], 0, tmp_path)


def test_a_process_that_dies_is_its_release_s_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Release("torchcam", "0.1", tmp_path / "torchcam/0.1", tmp_path)
    done = CompletedProcess([], 1, "", "Traceback\nMemoryError: all of it\n")
    monkeypatch.setattr(page.subprocess, "run", lambda *_, **__: done)
    page.measure(made, 0)
    assert result(made)["failure"] == "MemoryError: all of it"
    assert "all: `MemoryError: all of it`" in page.page_of(stored(tmp_path)).text


def test_an_error_of_our_own_code_is_no_release_s_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Release("torchcam", "0.1", tmp_path / "torchcam/0.1", tmp_path)
    done = CompletedProcess([], 1, "", "ImportError: cannot import name 'a' from 'axiom_bench.kinds'\n")
    monkeypatch.setattr(page.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(SystemExit, match=r"torchcam 0\.1 isn't measured: ImportError"):
        page.measure(made, 0)
    assert not made.result.exists()


def test_another_folder_s_library_is_never_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "torchcam", ModuleType("torchcam"))
    with pytest.raises(SystemExit, match="no module torchcam"):
        measure(str(tmp_path / "results"), "torchcam", "0.1", str(tmp_path), "0")


def test_the_same_version_of_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine/torchcam-0.1.dist-info").mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: torchcam\nVersion: 0.1\n"
    (tmp_path / "mine/torchcam-0.1.dist-info/METADATA").write_text(metadata)
    release(tmp_path / "results", "0.1", {"cam": FORMULA})
    with pytest.raises(SystemExit, match="add --folder"):
        page.write(tmp_path / "results", None, [tmp_path / "mine"], 0, tmp_path)


def test_folder_without_a_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no release"):
        installed_in(tmp_path, tmp_path)


def test_grad_cam_of_one_layer_and_of_numbers_of_classes_is_bridged(monkeypatch: pytest.MonkeyPatch) -> None:
    class BaseCAM:
        def __init__(self, model: object, target_layer: object) -> None:
            self.layer = target_layer

    class GradCAM(BaseCAM):
        pass

    library = ModuleType("pytorch_grad_cam")
    library.GradCAM = GradCAM  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, library.__name__, library)
    targets = "pytorch_grad_cam.utils.model_targets"
    monkeypatch.setitem(sys.modules, targets, None)  # whose import fails; put back at the end
    assert bridged("pytorch_grad_cam") == ["one layer", "numbers of classes"]
    assert sys.modules[targets].ClassifierOutputTarget(3) == 3
    assert GradCAM(None, ["layer"]).layer == "layer"
    assert bridged("captum") == []


def test_versions_dates_and_reasons_of_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = CompletedProcess([], 0, "torchcam (0.2)\nAvailable versions: 0.2, 0.10, 0.1\n", "")
    monkeypatch.setattr(install, "_pip", lambda *_: listing)
    assert install.listed("torchcam") == ["0.1", "0.10", "0.2"]
    build = "  error: subprocess-exited-with-error\n   FileNotFoundError: [Errno 2] requirements.txt\n"
    monkeypatch.setattr(install, "_pip", lambda *_: CompletedProcess([], 1, "", build))
    failed = install.install("torchcam", "0.1", tmp_path)
    assert failed.failure == "FileNotFoundError: [Errno 2] requirements.txt"
    with pytest.raises(SystemExit, match="pip lists no versions"):
        install.listed("torchcam")


def test_date_is_that_of_the_newest_file(tmp_path: Path) -> None:
    for name, year in (("dated.whl", 2031), ("none.whl", 1980)):
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr(zipfile.ZipInfo("old", (1980, 1, 1, 0, 0, 0)), "")
            wheel.writestr(zipfile.ZipInfo("new", (year, 1, 1, 0, 0, 0)), "")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as sdist:
        member = tarfile.TarInfo("setup.py")
        member.mtime = 86400
        sdist.addfile(member)
    names = ("dated.whl", "none.whl", "a.tar.gz")
    assert [install.newest(tmp_path / name) for name in names] == ["2031-01-01", "", "1970-01-02"]


def test_errors_name_no_folder_of_this_machine() -> None:
    error = ImportError("cannot import name 'methods' from 'torchcam' (/home/me/torchcam/__init__.py)\nmore")
    assert first_line(error) == "ImportError: cannot import name 'methods' from 'torchcam'"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("long " * 100))) == 160
