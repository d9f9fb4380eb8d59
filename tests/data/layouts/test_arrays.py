"""Arrays from files: each format, where channels are, labels, boxes and masks, and a sentence for each mistake."""

import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from scipy.io import wavfile

from axiom_bench.data.base import BadImage
from axiom_bench.data.layouts.classes import NetworkClasses
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError

NOISE = np.random.default_rng(0)


def load(root, network=None, **settings):
    return load_dataset({"kind": "arrays", "root": str(root), **settings}, network)


@pytest.fixture
def write(tmp_path):
    """Writes a sample in the format of its name: what stands in the file, and what the network is to get."""

    def write(name, shape=(3, 8), dtype="float64"):
        values, path = (9 * NOISE.normal(size=shape)).astype(dtype), tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".npy"):
            np.save(path, values)
        elif name.endswith(".wav"):
            wavfile.write(path, 8000, values)
            return values.T.reshape(-1, len(values)) / 32768
        elif name.endswith((".nii", ".nii.gz")):
            nibabel = pytest.importorskip("nibabel")
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
        else:
            path.mkdir()
            for number in (10, 9, 8):  # in no order of texts
                Image.fromarray(np.full((4, 6, 3), number, np.uint8)).save(path / f"{number}.png")
            return np.broadcast_to(np.array([8, 9, 10])[None, :, None, None], (3, 3, 4, 6))
        return values

    return write


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "channels", "arranged"),
    [
        ("a.npy", (3, 8), "float64", None, lambda x: x),
        ("a.npy", (8,), ">i2", None, lambda x: x[None]),
        ("a.npy", (4, 6), "uint16", "none", lambda x: x[None]),
        ("a.npy", (4, 6, 5), "bool", "last", lambda x: x.transpose(2, 0, 1)),
        ("a.npy", (2, 3, 4, 5), "float16", "first", lambda x: x),
        ("a.wav", (8,), "int16", None, lambda x: x),
        ("a.wav", (8, 2), "int16", None, lambda x: x),
        ("a.nii", (3, 4, 5), "float32", None, lambda x: x[None]),
        ("a.nii.gz", (3, 4, 5, 2), "float32", None, lambda x: np.moveaxis(x, -1, 0)),
        ("clip", (), "uint8", None, lambda x: x),
    ],
)
def test_each_format_gives_channels_and_space(write, tmp_path, name, shape, dtype, channels, arranged):
    stored = {of_class: arranged(write(f"{of_class}/{name}", shape, dtype)) for of_class in "ab"}
    data = load(tmp_path, channels=channels)
    assert data.shape == stored["a"].shape
    assert data.ids == (f"a/{name}", f"b/{name}")
    for index, values in enumerate(stored.values()):
        sample = data.read(index)
        assert np.allclose(sample.image, values.astype(float), atol=1e-6)
        assert sample.image.dtype.kind == np.dtype(dtype).kind.replace("b", "u") or name != "a.npy" or dtype == "uint16"
        assert (sample.label, sample.size, sample.problems) == (index, values.shape[1:], ())


def test_a_list_names_classes_and_boxes(write, tmp_path):
    for name in ("1.npy", "2.npy", "3.npy"):
        write(name, (2, 5, 6))
    (tmp_path / "labels.csv").write_text("file,label,x0,y0,x1,y1\n1.npy,1,0,1,3,9\n1.npy,1,4,0,6,2\n2.npy,0,7,0,9,1\n")
    data = load(tmp_path, network=lambda shape: NetworkClasses(None, shape[0]))
    assert [data.labels(index) for index in range(3)] == [(1,), (0,), ()]
    assert data.read(0).objects == ((1, (0, 1, 3, 5)), (1, (4, 0, 6, 2)))
    assert data.read(1).problems == ("2.npy has an empty box: [7.0, 0.0, 9.0, 1.0]",)
    assert "1 of 3 samples aren't in" in data.notes[0]


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_one_file_has_labels_masks_and_boxes(tmp_path, ending):
    tables = {
        "images": NOISE.normal(size=(3, 1, 9)).astype("float32"),
        "labels": np.array([1, 0, 1]),
        "masks": np.arange(27).reshape(3, 9) % 2 == 1,
        "boxes": np.array([[[0, 4.0], [np.nan, np.nan]], [[2, 20], [3, 5]], [[np.nan] * 2] * 2]),
    }
    path = tmp_path / f"a.{ending}"
    np.savez_compressed(path, **tables) if ending == "npz" else save_file(tables, path)
    data = load(path)
    samples = [data.read(index) for index in range(3)]
    assert np.array_equal([sample.image for sample in samples], tables["images"])
    assert [sample.objects for sample in samples] == [((1, (0, 4)),), ((0, (2, 9)), (0, (3, 5))), ()]
    assert np.array_equal(samples[1].mask, np.where(tables["masks"][1], 0, -1))


@pytest.mark.parametrize(("space", "shape"), [((8, 8), (1, 8, 8)), ((8, 8, 3), (3, 8, 8)), ((8, 8, 8), (1, 8, 8, 8))])
def test_medmnist(tmp_path, space, shape):
    parts = {split: NOISE.integers(0, 256, (4, *space), dtype=np.uint8) for split in ("train", "val", "test")}
    named = {f"{split}_images": images for split, images in parts.items()}
    np.savez(tmp_path / "a.npz", **named, **{f"{split}_labels": np.array([[0], [2], [1], [0]]) for split in parts})
    for split in (None, "val"):
        data = load(tmp_path / "a.npz", split=split)
        assert (data.shape, data.labels(1), len(data.classes)) == (shape, (2,), 3)
        assert data.read(1).image.dtype == np.uint8
        assert data.read(1).image.sum() == parts[split or "test"][1].sum()


IMAGES = np.zeros((3, 2, 8))
OBJECTS = np.array([{}, [], None], dtype=object)


@pytest.mark.parametrize(
    ("name", "tables", "settings", "sentence"),
    [
        ("a.npz", {"labels": np.arange(3)}, {}, "holds labels, and no images; call its arrays images, labels"),
        ("a.npz", {"test_images": IMAGES}, {"split": "val"}, "no val_images; set data.split to test"),
        ("a.npz", {"images": IMAGES, "labels": np.arange(2)}, {}, "give each of 3 samples one class"),
        ("a.npz", {"images": IMAGES, "labels": np.eye(3)}, {}, r"labels .* float64 of the shape \(3, 3\)"),
        (
            "a.npz",
            {"images": IMAGES, "labels": np.arange(3)},
            {"classes": ["a", "b"]},
            "class 2, .* classes are 0 to 1",
        ),
        ("a.npz", {"images": IMAGES, "masks": np.zeros((3, 7), bool)}, {}, r"masks .* give \(3, 8\)"),
        ("a.npz", {"images": IMAGES, "masks": np.zeros((3, 8), "uint8")}, {}, "masks as bool"),
        ("a.npz", {"images": IMAGES, "boxes": np.zeros((3, 4))}, {}, r"boxes .* give \(3, 2\)"),
        ("a.npz", {"images": np.zeros((3, 1, 2, 2, 2, 2))}, {}, r"isn't \(C, L\), .* set data.channels"),
        ("a.npz", {"images": np.zeros((0, 1, 2))}, {}, "holds no samples"),
        ("a.npz", {"images": np.array(["a", "b"])}, {}, "it holds <U1, not numbers"),
        ("a.npz", {"images": OBJECTS}, {}, "it holds Python objects, which are never loaded; save numbers"),
        ("a.safetensors", None, {}, "can't be read: "),
        ("absent.npz", None, {}, "can't be read: No such file"),
        ("", None, {}, "There are no images in .*; expected .*<sample>.npy"),
        ("absent", None, {}, "There is no folder .*absent; expected"),
        ("", None, {"channels": "lats"}, "no place of channels 'lats'; did you mean 'last'"),
        ("", None, {"split": "test"}, "data.split=test is of a file .npz"),
    ],
)
def test_what_concerns_all_samples_is_one_sentence(tmp_path, name, tables, settings, sentence):
    if tables is not None:
        np.savez(tmp_path / name, **tables)
    elif name == "a.safetensors":
        (tmp_path / name).write_bytes(b"no tensors")
    with pytest.raises(BenchError, match=sentence):
        load(tmp_path / name, **settings)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("b.npy", np.array([0, np.nan, np.inf]), "2 of 3 values are NaN or infinite"),
        ("b.npy", OBJECTS, "it holds Python objects, which are never loaded; save numbers"),
        ("b.npy", np.zeros((2, 8)), r"its shape is \(2, 8\), and that of the first sample \(1, 8\)"),
        ("b.npy", b"\x93NUMPY\x01", "can't be read"),
        ("b.wav", b"RIFF", "can't be read"),
        ("b.nii", b"", "can't be read"),
    ],
)
def test_what_concerns_one_sample_is_its_own(write, tmp_path, name, content, sentence):
    write("a.npy", (8,))
    if name.endswith(".nii"):
        pytest.importorskip("nibabel")
    (tmp_path / name).write_bytes(content) if isinstance(content, bytes) else np.save(tmp_path / name, content)
    data = load(tmp_path)
    assert data.read(0).image.shape == (1, 8)
    with pytest.raises(BadImage, match=sentence):
        data.read(1)


def test_a_mosaic_is_made_of_pictures(write, tmp_path):
    write("a/a.npy")
    with pytest.raises(BenchError, match="data=mosaic is made of pictures, and 'arrays' holds arrays"):
        load_dataset({"kind": "mosaic", "of": {"kind": "arrays", "root": str(tmp_path)}})


def test_nifti_without_nibabel(tmp_path, monkeypatch):
    (tmp_path / "a.nii").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(BenchError, match=r"need nibabel: pip install '\.\[nifti\]'"):
        _ = load(tmp_path).shape
