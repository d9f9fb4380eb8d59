"""Tests of bad input.

A bad image is a row with a status. A bad configuration stops a run before any computation.
"""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.cli.finish import finish
from axiom_bench.data.base import Sample
from axiom_bench.data.embedded import Scenes
from axiom_bench.data.formats import files
from axiom_bench.embedded import networks, scenes
from axiom_bench.errors import BenchError

from .conftest import failure, tiny_overrides, write_images, write_module

GOOD = ["0/good.jpg", "1/grey.png", "2/cmyk.jpg", "3/rgba.png", "4/narrow.png", "5/wide.png"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A user's folder with pictures of the ten classes: six good ones and three bad ones."""
    root = tmp_path / "pictures"
    for digit in range(10):
        (root / str(digit)).mkdir(parents=True)
    picture = Image.fromarray(scenes.draw("evaluation", 0, 0).image)
    pictures = [
        picture,
        picture.convert("L"),
        picture.convert("CMYK"),
        picture.convert("RGBA"),
        picture.resize((1, 96)),
        picture.resize((10_000, 4)),
    ]
    for name, image in zip(GOOD, pictures, strict=True):
        image.save(root / name)
    (root / "6" / "truncated.jpg").write_bytes((root / GOOD[0]).read_bytes()[:700])
    (root / "7" / "text.png").write_text("no picture")
    (root / "8" / "empty.png").write_bytes(b"")
    return root


@pytest.fixture
def folder_data(folder) -> tuple[str, ...]:
    """The settings of a run on the images in `folder`."""
    return (
        "data=folder",
        f"data.root={folder}",
        "data.classes=null",
        "data.size=null",
        "data.workers=0",
    )


@pytest.mark.slow
def test_bad_images_are_rows_and_are_counted(
    run, rows, folder_data, results, monkeypatch, unreported
):
    (outcome,) = run(folder_data)
    assert outcome.failure is None
    table = rows([outcome])
    assert len(table) == 9 * 5  # every image x (two methods x two metrics, and the layer's)
    is_bad = table["status"] == "bad_image"
    bad = table[is_bad]
    good_classes = table[~is_bad].groupby("image_id")["target_class"].first()
    assert set(bad["image_id"]) == {"6/truncated.jpg", "7/text.png", "8/empty.png"}
    assert bad["value"].isna().all()
    assert (bad[["target_class", "predicted_class"]] == -1).all(axis=None)
    assert good_classes.to_dict() == {name: digit for digit, name in enumerate(GOOD)}

    monkeypatch.setattr("axiom_bench.report.headline", lambda _run, _width: ["one number"])
    _, lines = finish(outcome.settings, [outcome])
    assert not any(line.startswith(("values: ", "together ")) for line in lines)

    code, lines = finish(outcome.settings, [outcome], verbose=True)
    assert code == 0
    assert "images left out: 3 (6/truncated.jpg, 7/text.png, 8/empty.png)" in lines
    assert any(line.startswith("values: ") and "15 bad_image" in line for line in lines)
    assert lines[-2:] == ["one number", f"report: {results}/quick/default/report.html"]


@pytest.mark.slow
def test_names_and_files_that_are_odd(run, rows, folder_data, folder):
    """Check that the ids are stored as text, and that nothing waits for the pipe.

    The same command finds all values again.
    """
    (folder / GOOD[0]).rename(folder / "0" / os.fsdecode(b"caf\xe9.jpg"))
    os.mkfifo(folder / "9" / "pipe.jpg")
    overrides = (*folder_data, "data.workers=1", "pictures.rows=2", "pictures.gallery=null")
    (outcome,) = run(overrides)
    assert outcome.failure is None
    statuses = rows([outcome]).groupby("image_id")["status"].agg(set)
    assert "bad_image" not in statuses[r"0/caf\xe9.jpg"]
    assert statuses["9/pipe.jpg"] == {"bad_image"}
    sentence = "4 images can't be read, the first: 6/truncated.jpg: can't be decoded"
    assert sentence in " ".join(outcome.lines)

    (repeated,) = run(overrides)
    assert repeated.failure is None
    assert repeated.computed.shards == 0
    assert repeated.files["records"] == outcome.files["records"]


@pytest.mark.slow
def test_an_image_that_may_be_read_again_is_computed(run, rows, folder_data, monkeypatch):
    open_regular = files.open_regular

    def deny_grey_image(path: Path) -> BinaryIO:
        if path.name == "grey.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_regular(path)

    with monkeypatch.context() as patch:
        patch.setattr("axiom_bench.data.formats.decoding.open_regular", deny_grey_image)
        table = rows(run(folder_data))
        assert set(table[table["image_id"] == "1/grey.png"]["status"]) == {"bad_image"}
    table = rows(run(folder_data))
    assert "bad_image" not in set(table[table["image_id"] == "1/grey.png"]["status"])


@pytest.mark.slow
def test_only_bad_images(run, rows, folder_data, folder, results, monkeypatch, unreported):
    for path in folder.glob("[0-5]/*"):
        path.unlink()
    (outcome,) = run([*folder_data, "runtime.repeats=1", "pictures.rows=2"])
    assert outcome.failure is None
    assert set(rows([outcome])["status"]) == {"bad_image"}
    monkeypatch.setattr("axiom_bench.report.headline", lambda _run, _width: [])
    code, lines = finish(outcome.settings, [outcome])
    assert code == 2
    last_lines = " ".join(lines[-2:])
    assert last_lines.startswith("No metric has a value: 15 bad_image (image can't be read). ")
    assert outcome.files["runtime"] == outcome.files["pictures"] == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("model.layer=featurs.13", "features.13"),
        ("model.layer=classifier.0", "maps"),
        ("model.output=sys:exit", "The output function exit fails"),
    ],
)
def test_a_job_that_can_not_be(run, overrides, sentence):
    assert sentence in failure(run(overrides.split()))


@pytest.mark.slow
def test_a_photograph_is_turned_as_explain_turns_it_and_told(run, rows, job, tmp_path, results):
    """Check a photograph that is stored both upright and on its side.

    The orientation is part of the key of the turned photograph only.
    """
    photos = write_images(tmp_path / "photos", "a.png")
    (fingerprint,) = job(photos).contents.values()
    content = (tmp_path / "photos/a.png").read_bytes()
    content_hash = hashlib.sha256(b"%d:" % len(content) + content).hexdigest()
    assert fingerprint == f"a.png {content_hash} ()"

    image = Image.open(tmp_path / "photos/a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photos/b.png", exif=exif)
    cached = (*photos, f"data.cache={tmp_path / 'cache'}")
    note = "1 image is turned upright, as its EXIF orientation says, the first: b.png"
    for data in (photos, cached, cached):  # the last run decodes nothing
        shutil.rmtree(results, ignore_errors=True)
        (outcome,) = run(data)
        assert note in outcome.notes
        table = rows([outcome]).set_index(["metric", "method", "image_id"])["value"].unstack()
        pd.testing.assert_series_equal(table["a.png"], table["b.png"], check_names=False)

    (repeated,) = run(cached)
    assert repeated.computed.shards == 0
    assert note in repeated.notes
    assert repeated.facts.data["folder"].notes == outcome.facts.data["folder"].notes
    assert repeated.facts.data["folder"].notes[-1] == note


@pytest.mark.slow
def test_classes_of_the_data_and_of_the_model(run, folder):
    (folder / "99").mkdir()
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(folder / "99" / "a.png")
    words = (
        "data=folder",
        f"data.root={folder}",
        "data.size=null",
        "data.workers=0",
        "target=label",
    )
    digits = [str(digit) for digit in range(10)]

    message = failure(run([*words, f"data.classes={[*digits, '99']}"]))
    assert "'99/a.png' with class 10, but the model has only the classes 0 to 9" in message

    message = failure(run(words))
    assert "have no labels ('99' is no class of the network); set target=predicted" in message

    message = failure(run([*words, f"data.classes={digits[:9]}"]))
    assert "has 10 classes and the data set folder 9" in message


@pytest.mark.slow
def test_weights_and_activations_that_are_not_finite(run, rows, tmp_path):
    """Check also finite weights, which can overflow during the forward pass."""
    state = networks.scenes_vgg().state_dict()
    state["features.0.weight"][0, 0, 0, 0] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    assert "NaN" in failure(run([f"model.weights={tmp_path}/nan.pth"]))

    for name, weights in state.items():
        if name.startswith("features"):
            weights.fill_(1e20)
    torch.save(state, tmp_path / "huge.pth")
    table = rows(run([f"model.weights={tmp_path}/huge.pth"]))
    assert set(table["status"]) == {"not_finite"}
    assert table["value"].isna().all()


@pytest.mark.slow
def test_a_job_that_fails_leaves_the_others_alone(run, tmp_path):
    good, bad = run(["model=scenes_vgg", "model.layer=features.13,layer4"])
    assert good.failure is None
    assert "layer4" in failure([bad])

    # The values of two models with one name would be pooled.
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "twin.yaml").write_text("defaults:\n  - scenes_vgg\nseed: 1\n")
    first, second = run([f"hydra.searchpath=['{tmp_path}/conf']", "model=scenes_vgg,twin"])
    assert first.failure is None
    assert "the same model name, layer and data name" in failure([second])


@pytest.mark.slow
def test_a_run_may_be_a_number_and_a_layer_that_is_named_twice_is_one_job(run, results):
    """Check two names of one layer: the default layer of scenes_vgg is features.13."""
    (outcome,) = run(["run=3", "model.layer=default,features.13"])
    assert outcome.failure is None
    assert (results / "quick" / "3" / "records").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["method", "metric"])
def test_an_exception_or_exit_in_a_user_s_function_names_it(run, tmp_path, monkeypatch, kind):
    """Check that the message contains the line, and that the user can fix the error."""
    for name, body, error in (
        (f"raising_{kind}", "1 / 0", "ZeroDivisionError: division by zero"),
        (f"exits_{kind}", "sys.exit(3)", "RuntimeError: sys.exit(3)"),
    ):
        write_module(tmp_path, name, f"import sys\ndef mine(given):\n    {body}\n", monkeypatch)
        message = failure(run([f"+{kind}.mine._target_={name}.mine"]))
        assert message == f"{error}, raised by 'mine' ({name}.mine) at {tmp_path}/{name}.py:3"
    name = f"exits_at_import_{kind}"
    write_module(tmp_path, name, "import sys\nsys.exit(3)\n", monkeypatch)
    sentence = rf"The {kind} 'mine' names '{name}.mine'.*\(SystemExit: 3\)"
    with pytest.raises(BenchError, match=sentence):
        run([f"+{kind}.mine._target_={name}.mine"])


@pytest.mark.parametrize("body", ["sys.exit(3)", "raise KeyError('x')"])
def test_a_network_that_exits_is_named(run, tmp_path, body):
    network = user_network(tmp_path, f"import sys\ndef build():\n    {body}\n")
    assert "net.py:build can't be built" in failure(run(network))


def user_network(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "net.py").write_text(text)
    return ("model=user", f"model.architecture={folder}/net.py:build", "model.weights=null")


@pytest.mark.slow
def test_an_image_too_small_for_the_network(run, folder_data, tmp_path):
    """Check a network without model.resize, which takes images in their own size."""
    layers = "nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)"
    code = f"from torch import nn\ndef build():\n    return nn.Sequential({layers})\n"
    network = user_network(tmp_path, code)
    assert "on an image of 3 x 96 x 1" in failure(run([*network, *folder_data]))


@pytest.mark.slow
def test_a_user_s_method_of_nan(run, rows, tmp_path, monkeypatch):
    code = "def mine(trace):\n    return trace.gradients * float('nan')\n"
    write_module(tmp_path, "all_nan", code, monkeypatch)
    table = rows(run(["+method.mine._target_=all_nan.mine", "+method.mine.on_score_scale=true"]))
    is_mine = table["method"] == "mine"
    assert set(table.loc[is_mine, "status"]) == {"not_finite"}
    assert "not_finite" not in set(table.loc[~is_mine, "status"])


@pytest.mark.slow
def test_a_defect_is_no_mistake_of_the_user(monkeypatch, results):
    monkeypatch.setattr("axiom_bench.run.shards.missing", lambda *_: 1 / 0)
    code, lines = finish(*run_jobs([*tiny_overrides(()), f"results={results}"]))
    assert code == 1
    assert lines[0] == "failed: scenes_vgg: ZeroDivisionError: division by zero"
    assert "please report it" in lines[1]
    assert "test_bad_input.py" in lines[1]  # the file of the defect


@pytest.mark.slow
def test_no_permission_stops_before_anything(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("axiom_bench.run.spine.run_job", lambda *_: pytest.fail("a job began"))
    with pytest.raises(BenchError, match=f"Can't write results to {tmp_path}/file"):
        run_jobs([f"results={tmp_path}/file"])


@pytest.mark.slow
def test_an_image_that_kills_the_process_that_reads_it_is_named_and_left_out(
    run, rows, monkeypatch
):
    """Check the first image, which a run reads before all others to count the costs."""
    read = Scenes.read
    parent = os.getpid()

    def die_at_first_image(dataset: Scenes, index: int) -> Sample:
        if index == 0 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        assert index != 0, "this process would have died"
        return read(dataset, index)

    monkeypatch.setattr(Scenes, "read", die_at_first_image)
    words = (
        "data.workers=1",
        "data.size=3",
        "shard_size=3",
        "pictures.rows=1",
        "pictures.gallery=2",
    )
    setting = "data.leave_out=['evaluation-0-000000']"
    message = failure(run(words))
    assert "'evaluation-0-000000' ended by SIGKILL" in message
    assert setting in message
    (outcome,) = run([*words, setting])
    image_ids = set(rows([outcome])["image_id"]) - {"*"}
    assert image_ids == {"evaluation-0-000001", "evaluation-0-000002"}


MODULE = """
import torchvision

def my_cam(trace):
    assert torchvision.__version__
    return trace.gradients.mean((2, 3), keepdim=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "own", ["+method.mine._target_=my_module.my_cam", "peers=[grad_cam@pytorch_grad_cam]"]
)
def test_a_users_module_or_another_library_may_import_torchvision(own, tmp_path):
    """Check a new process, in which a CPU-only torch may not load torchvision's operators."""
    if own.startswith("peers=") and find_spec("pytorch_grad_cam") is None:
        pytest.skip("pytorch_grad_cam isn't installed: make peers")
    (tmp_path / "my_module.py").write_text(MODULE)
    overrides = [
        own,
        "model=scenes_vgg",
        "method=[grad_cam]",
        "metric=[zeta]",
        "data.size=1",
        "runtime.repeats=0",
        "pictures.rows=0",
        f"results={tmp_path}",
    ]
    code = (
        f"from axiom_bench.cli.benchmark import run_jobs; _, (outcome,) = run_jobs({overrides}); "
        "print(outcome.failure)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.stdout.strip().endswith("None"), process.stdout + process.stderr
