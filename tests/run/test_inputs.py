"""Tests of runs of a user's own network on arrays from files, and on images with other inputs.

The other inputs are rows of a file. The values are the same as in Python.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cli.explain_images import Explainer
from axiom_bench.cli.main import main
from axiom_bench.errors import BenchError
from axiom_bench.models import other_inputs
from axiom_bench.models.load import load_model
from axiom_bench.models.user_code import import_function
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.spine import configuration
from axiom_bench.run.verification import recomputed

from .conftest import RUN, failure, write_module

NETWORK = """
import torch
from torch import nn

class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU())
        self.site = nn.Embedding(6, 2)
        self.fc = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, image, patient, site):
        return self.fc(torch.cat([self.features(image).mean((2, 3)), patient, self.site(site)], 1))

class JoinedDict(Joined):
    def forward(self, batch):
        return super().forward(batch["image"], batch["patient"], batch["site"])

class Optional(Joined):
    def forward(self, site=None, mask=None, patient=None, image=None):
        image = image if mask is None else image * mask
        return super().forward(image, patient, site)

def mine(trace):
    return trace.gradients
"""
METHODS = ["grad_cam", "xgrad_cam", "score_cam", "guided_xgrad_cam"]
METRICS = [
    "sensitivity_error",
    "conservation_error",
    "confidence_drop",
    "model_parameter_randomisation_efficient",
]
COLUMNS = ["image_id", "method", "metric"]
PHOTOGRAPHS = ("a/0.png", "a/1.png", "b/2.png", "b/3.png")
PATIENTS = [[0.5, 1], [0.3, 0], [0.9, 1], [0.1, 0]]
SITES = [5, 0, 3, 3]
LIST = """\
image,patient.age,patient.sex,site,ward
a/0.png,0.5,1,5,north
1.png,0.3,0,0,north
2,0.9,1,3,north
b/3.png,0.1,0,3,north
"""


@pytest.fixture
def words(tmp_path, monkeypatch):
    """The settings of a run on four photographs, without the network's other inputs."""
    write_module(tmp_path, "nets", NETWORK, monkeypatch)
    for number, name in enumerate(PHOTOGRAPHS):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number).integers(0, 256, (14, 14, 3), dtype=np.uint8)
        Image.fromarray(values).save(path)
    (tmp_path / "patients.csv").write_text(LIST, encoding="utf-8")
    np.savez(tmp_path / "patients.npz", patient=PATIENTS, site=SITES, other=PATIENTS)
    return (
        "model=user",
        "model.architecture=nets:Joined",
        "model.resize=12",
        "model.crop=12",
        "model.weights=null",
        "data=folder",
        f"data.root={tmp_path}/photos",
        "data.workers=0",
        "data.size=null",
        "shard_size=2",
        "target=predicted",
        f"metric={METRICS}",
        f"method={METHODS}",
        "runtime.repeats=1",
    )


def network_and_inputs(tmp_path):
    """Return the network of the run and its three inputs as tensors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = import_function("nets:Joined")().eval()
    mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    images = []
    for file in sorted((tmp_path / "photos").rglob("*.png")):
        photograph = Image.open(file).resize((12, 12), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)
        images.append((pixels / 255 - mean) / std)
    inputs = torch.stack(images), torch.tensor(PATIENTS), torch.tensor(SITES)
    return network, inputs


OWN = "+method.mine._target_=nets.mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "network", "more"),
    [
        ("csv", "Joined", ()),
        ("npz", "JoinedDict", ("model.explained=image",)),
        ("npz", "Joined", (OWN,)),
    ],
)
def test_the_values_are_those_of_python(run, rows, words, tmp_path, ending, network, more):
    settings = [
        *words,
        f"model.inputs={tmp_path}/patients.{ending}",
        f"model.architecture=nets:{network}",
        *more,
    ]
    (outcome,) = run(settings)

    run_values = rows([outcome]).query("method != 'mine'").reset_index(drop=True)
    network, inputs = network_and_inputs(tmp_path)
    python_values = ab.evaluate(network, "features.3", [(inputs, None)], METHODS, METRICS)
    assert len(run_values) == len(python_values) == 4 * len(METHODS) * len(METRICS)
    python_values["image_id"] = [PHOTOGRAPHS[int(index)] for index in python_values["image_id"]]
    text = dict.fromkeys(COLUMNS, str)
    both = run_values.astype(text).merge(
        python_values.astype(text), on=COLUMNS, suffixes=("_run", "_python")
    )
    assert both["status_run"].tolist() == both["status_python"].tolist()
    assert both.query("status_run == 'ok'")["metric"].nunique() == len(METRICS)
    assert np.allclose(
        both["value_run"], both["value_python"], rtol=1e-4, atol=1e-5, equal_nan=True
    )

    if OWN in more:
        both = rows([outcome]).merge(recomputed(outcome.settings, 0), on=COLUMNS)
        assert "mine" in set(both["method"])
        assert np.array_equal(both["value_x"], both["value_y"], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("id,age\n0,61.5\n1,50.5\n", "utf-8"),
        ("id;age\n0;61.5\n1;50.5\n", "utf-8-sig"),
        ("id;age\n0;61,5\n1;50,5\n", "utf-8"),
        ("id\tage\n0\t61.5\n1\t50.5\n", "utf-16"),
        ('"id";"age"\n"0";"61,5"\n"1";"50,5"\n', "utf-8"),
    ],
)
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path, text, encoding):
    (tmp_path / "patients.csv").write_text(text, encoding=encoding)
    ids, columns = other_inputs._read(tmp_path / "patients.csv")
    assert ids == ("0", "1")
    assert other_inputs._tensor("", columns).flatten().tolist() == [61.5, 50.5]


def test_a_decimal_comma_behind_tabs_may_be_of_thousands_and_is_refused(tmp_path):
    (tmp_path / "patients.csv").write_text("id\tage\n0\t1,234\n")
    _, columns = other_inputs._read(tmp_path / "patients.csv")
    sentence = r"'1,234' in its column 'age'; give a number for each image, such as 61\.5"
    with pytest.raises(BenchError, match=sentence):
        other_inputs._tensor("patients.csv", columns)


@pytest.mark.slow
def test_a_row_that_changes_is_computed_again(run, words, tmp_path):
    command = (*words, f"model.inputs={tmp_path}/patients.csv", "method=[grad_cam]")
    (outcome,) = run(command)
    assert outcome.computed.shards == 2
    (tmp_path / "patients.csv").write_text(LIST.replace("0.9,1,3", "0.8,1,3"), encoding="utf-8")
    (outcome,) = run(command)
    assert outcome.computed.shards == 1
    (outcome,) = run(command)
    assert outcome.computed.shards == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            LIST.replace("2,0.9", "7,0.9"),
            r"patients.csv has no row for 1 of 4 images, as 'b/2.png'; add rows, or leave",
        ),
        (
            LIST.replace("site", "place"),
            r"Joined.forward takes image and patient and site, and .* call its columns",
        ),
        (
            LIST.replace("0.9", ""),
            r"patients.csv has '' in its column 'patient.age'; give a number for each image",
        ),
        (
            LIST.replace("1.png", "a/0.png"),
            r"patients.csv has several rows for 'a/0.png'; keep one",
        ),
        (LIST.replace(",north", "", 1), r"patients.csv have different numbers of cells"),
        (
            LIST.replace(",5,", ",5.5,"),
            r"can't run on .* \(.*[Ii]nt.*gets patient, float32 \(B, 2\), "
            r"and site, float32 \(B, 1\), of",
        ),
        ("", r"patients.csv have different numbers of cells"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(run, words, tmp_path, content, message):
    (tmp_path / "patients.csv").write_text(content, encoding="utf-8")
    assert re.search(message, failure(run([*words, f"model.inputs={tmp_path}/patients.csv"])))


@pytest.mark.slow
def test_arguments_with_defaults_and_a_file_of_python_objects(run, words, tmp_path):
    """Check arguments with defaults, as in transformers: `model.explained` names the images."""
    ids = np.array([*"0123"])
    np.savez(tmp_path / "words.npz", site=SITES, patient=PATIENTS, ids=ids)
    command = [
        *words,
        "model.architecture=nets:Optional",
        "method=[grad_cam]",
        f"model.inputs={tmp_path}/words.npz",
    ]

    sentence = r"images are its argument 'mask' \(another: model.explained=NAME\), and it also"
    assert re.search(sentence, failure(run(command)))

    (outcome,) = run([*command, "model.explained=image"])
    assert outcome.failure is None

    np.savez(tmp_path / "words.npz", site=np.array([{}] * 4), patient=PATIENTS, ids=ids)
    sentence = (
        "words.npz can't be read: it is damaged, or holds Python objects, which are never loaded."
    )
    assert sentence in failure(run([*command, "model.explained=image"]))


@pytest.mark.slow
def test_explain_has_the_row_of_the_photograph_s_name(words, tmp_path, capsys):
    """Check that the maps of two classes of a photograph are those of Python.

    Either forward pass would fail without the row.
    """
    network = [word for word in words if word.startswith("model")]
    inputs = f"model.inputs={tmp_path}/patients.csv"
    config = configuration([*network, inputs])
    model = load_model(config["model"])
    explainer = Explainer(model, Settings.of(config), [methods.get("xgrad_cam")])
    path = tmp_path / "photos/b/2.png"

    explanation = explainer.explain(path, Image.open(path), [0, 1], 1)

    _, (images, patient, site) = network_and_inputs(tmp_path)
    rows = images[[2, 2]], patient[[2, 2]], site[[2, 2]]
    maps = ab.explain(explainer.model.module, "features.3", rows, ["xgrad_cam"], [0, 1])
    assert np.allclose(explanation.maps["xgrad_cam"], maps["xgrad_cam"], atol=1e-4)

    assert main(["explain", str(path), *network, f"model.inputs={tmp_path}/photos/b/2.png"]) == 2
    path.rename(tmp_path / "new.png")
    assert main(["explain", f"{tmp_path}/new.png", *network, inputs]) == 2
    assert "has no row for 1 of 1 image, as 'new.png'" in capsys.readouterr().err


@pytest.mark.slow
def test_mosaics_are_refused(run, words, tmp_path):
    words_without_data = [word for word in words if not word.startswith(("data", "target"))]
    settings = [
        *words_without_data,
        "data=mosaic",
        "data@data.of=folder",
        f"data.of.root={tmp_path}/photos",
        "data.of.size=null",
        f"model.inputs={tmp_path}/patients.csv",
    ]
    outcomes = run(settings)
    assert "A mosaic shows several images, and" in failure(outcomes)


ARRAY_NETWORK = """
from torch import nn

def build(axes, channels):
    convolution = getattr(nn, f"Conv{axes}d")
    pool = getattr(nn, f"AdaptiveAvgPool{axes}d")
    return nn.Sequential(
        convolution(channels, 4, 3),
        nn.ReLU(),
        convolution(4, 6, 3),
        nn.ReLU(),
        pool(2),
        nn.Flatten(),
        nn.Linear(6 * 2**axes, 5),
        nn.ReLU(),
        nn.Linear(5, 2),
    )

def mine(trace):
    return trace.gradients

mine.dimensions = [1]
"""
SIGNAL = (1, 24)
BANDS = (5, 9, 10)
VOLUME = (2, 7, 8, 9)
ARRAY_METHODS = ["grad_cam", "xgrad_cam", "hires_cam"]
ARRAY_METRICS = ["sensitivity_error", "conservation_error", "confidence_drop", "box_iou"]


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A function that writes four samples of a shape into a file.

    It returns the settings of a run on the file, and the samples as a batch.
    """
    write_module(tmp_path, "nets", ARRAY_NETWORK, monkeypatch)

    def write_samples(shape):
        axes = len(shape) - 1
        images = np.random.default_rng(0).normal(2, 3, (4, *shape)).astype(np.float32)
        labels = torch.tensor([0, 1, 1, 0])
        box = [1.0] * axes + [6.0] * axes
        np.savez(tmp_path / "a.npz", images=images, labels=labels, boxes=np.tile(box, (4, 1)))
        ids = tuple(f"a.npz/{number:09d}" for number in range(4))
        annotations = tuple(ab.Annotation(label[None], torch.tensor([box])) for label in labels)
        batch = ab.Batch(torch.from_numpy(images), ids, labels, annotations)
        words = (
            "model=user",
            "model.architecture=nets:build",
            f"model.kwargs={{axes: {axes}, channels: {shape[0]}}}",
            "data=arrays",
            f"data.root={tmp_path}/a.npz",
            "data.workers=0",
            "data.size=null",
            f"metric={ARRAY_METRICS}",
            f"method={ARRAY_METHODS}",
        )
        return words, batch

    return write_samples


@pytest.mark.slow
def test_a_network_of_four_bands_refuses_photographs_and_the_advice_works(
    run, tmp_path, monkeypatch
):
    write_module(tmp_path, "nets", ARRAY_NETWORK, monkeypatch)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "bands").mkdir()
    np.save(tmp_path / "bands/a.npy", np.random.default_rng(0).random((4, 32, 32), np.float32))
    words = (
        "model=user",
        "model.architecture=nets:build",
        "model.kwargs={axes: 2, channels: 4}",
        "data.workers=0",
        "model.resize=[32,32]",
        "model.mean=[0,0,0]",
        "model.std=[1,1,1]",
        "model.weights=as_built",
        "method=[grad_cam]",
        "metric=[sensitivity_error]",
        "data.size=null",
    )

    message = failure(run([*words, "data=folder", f"data.root={tmp_path}"]))
    assert "takes images of 4 channels, and pictures have 3" in message

    advice = re.search(r"set (data=arrays .*=null)\.", message)[1]
    settings = advice.replace("FOLDER", str(tmp_path / "bands")).split()
    (outcome,) = run([*words, *settings])
    assert outcome.failure is None
    assert outcome.computed.images == 1

    with pytest.raises(ab.BenchError, match=r"data=arrays data\.root=FOLDER"):
        run([*words, "data=folder", f"data.root={tmp_path}", "model.mean=[0,0,0,0]"])


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "mean"), [(SIGNAL, 0), (BANDS, 2), (VOLUME, 0)])
def test_the_values_of_arrays_are_those_of_python(run, rows, stored, results, shape, mean):
    """Check a run with data.cache and pictures; a second command computes nothing."""
    words, batch = stored(shape)
    words += ("pictures.rows=2", "pictures.gallery=2", f"data.cache={results}/cache")
    if mean:
        words += (f"model.mean=[{mean}]", "model.std=[3]")
        batch = replace(batch, images=(batch.images - mean) / 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = import_function("nets:build")(len(shape) - 1, shape[0]).eval()

    (outcome,) = run(words)
    python_values = ab.evaluate(network, "3", [batch], ARRAY_METHODS, ARRAY_METRICS)

    python_values = python_values.astype(dict.fromkeys(COLUMNS, str))
    both = rows([outcome]).merge(python_values, on=COLUMNS, suffixes=("_run", "_python"))
    assert len(both) == len(python_values) == 4 * len(ARRAY_METHODS) * len(ARRAY_METRICS)
    assert both["status_run"].tolist() == both["status_python"].tolist()
    assert np.allclose(
        both["value_run"], both["value_python"], rtol=1e-4, atol=1e-6, equal_nan=True
    )
    if not mean:
        (outcome,) = run(words)
        assert outcome.computed.shards == 0
    assert len(list((results / RUN / "gallery").iterdir())) == 1


@pytest.mark.slow
def test_a_method_in_a_process_of_its_own_has_the_same_values(run, rows, stored):
    words, _ = stored(SIGNAL)
    (outcome,) = run([*words, "+method.mine._target_=nets.mine"])
    values = recomputed(outcome.settings, 0)
    both = rows([outcome]).merge(values, on=COLUMNS, suffixes=("_run", "_recomputed"))
    assert len(both) == len(values)
    assert {*ARRAY_METRICS} == {*values[values["method"] == "mine"]["metric"]}
    assert {*both[both["method"] == "mine"]["status_recomputed"]} == {"ok"}
    assert np.array_equal(both["value_run"], both["value_recomputed"], equal_nan=True)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("model.resize=8", "model.resize=8 is for pictures, but these samples are arrays"),
        (
            "model.mean=[1,2] model.std=[1,1]",
            "have 5 channels, and there are 2 means and 2 standard deviations",
        ),
        (
            "data.channels=last",
            r"can't run on a sample of the shape \(10, 5, 9\), .*; set data.channels to the axis",
        ),
    ],
)
def test_a_setting_that_does_not_fit_arrays_is_one_sentence(run, stored, overrides, sentence):
    words, _ = stored(BANDS)
    assert re.search(sentence, failure(run([*words, *overrides.split()])))
