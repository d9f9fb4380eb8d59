"""Arrays from files: every format, the places of channels, labels, boxes, masks, and messages."""

import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from scipy.io import wavfile

from axiom_bench.data.base import BEYOND, OUTSIDE, BadImage
from axiom_bench.data.layouts.classes import NetworkClasses
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError

NOISE = np.random.default_rng(0)


def load(root, network=None, **settings):
    return load_dataset({"kind": "arrays", "root": str(root), **settings}, network)


def write(path, values):
    """Write values in the format of the name's ending.

    Bytes are written unchanged. Without an ending, the values are frames of a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(values, bytes):
        path.write_bytes(values)
    elif path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".wav":
        wavfile.write(path, 8000, values)
    elif path.suffix:
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    else:
        path.mkdir()
        for number, frame in enumerate(values, 9):  # 10 is before 9 as a text
            Image.fromarray(frame).save(path / f"{number}.png")


def unchanged(values):
    return values


def with_a_channel(values):
    return values[None]


def last_axis_first(values):
    return np.moveaxis(values, -1, 0)


def one_channel_of_int16(values):
    return values[None] / 32768


def stereo_of_uint8(values):
    return (values.T - 128.0) / 128


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "channels", "expected"),
    [
        ("a.npy", (3, 8), "float64", None, unchanged),
        ("a.npy", (8,), ">i2", None, with_a_channel),
        ("a.npy", (4, 6), "uint16", "none", with_a_channel),
        ("a.npy", (4, 6, 5), "bool", "last", last_axis_first),
        ("a.npy", (2, 3, 4, 5), "float16", "first", unchanged),
        ("a.wav", (8,), "int16", None, one_channel_of_int16),
        ("a.wav", (8, 2), "uint8", None, stereo_of_uint8),
        ("a.nii", (3, 4, 5), "float32", None, with_a_channel),
        ("a.nii.gz", (3, 4, 5, 2), "float32", None, last_axis_first),
        ("clip", (3, 4, 6, 3), "uint8", None, last_axis_first),
    ],
)
def test_each_format_gives_channels_and_space(tmp_path, name, shape, dtype, channels, expected):
    stored = [(50 * NOISE.random(shape)).astype(dtype) for _ in range(2)]
    for class_name, values in zip("ab", stored, strict=True):
        write(tmp_path / class_name / name, values)

    data = load(tmp_path, channels=channels)

    assert data.ids == (f"a/{name}", f"b/{name}")
    for index in range(2):
        values = expected(stored[index])
        sample = data.read(index)
        assert np.allclose(sample.image, values)
        assert sample.image.dtype.kind in (values.dtype.kind, "u" if dtype == "bool" else "i")
        assert sample.label == index
        assert sample.size == values.shape[1:]
        assert data.shape == values.shape


def test_a_list_names_classes_and_boxes(tmp_path):
    for name in ("1.npy", "2.npy", "3.npy"):
        write(tmp_path / name, np.zeros((2, 5, 6)))
    (tmp_path / "labels.csv").write_text(
        "file,label,x0,y0,x1,y1\n1.npy,1,0,1,3,9\n1.npy,1,4,0,6,2\n2.npy,0,7,0,9,1\n"
    )
    data = load(tmp_path, network=lambda shape: NetworkClasses(None, shape[0]))
    assert [data.labels(index) for index in range(3)] == [(1,), (0,), ()]
    assert data.read(0).objects == ((1, (0, 1, 3, 5)), (1, (4, 0, 6, 2)))
    assert data.read(0).problems == (f"1.npy: the box [0.0, 1.0, 3.0, 9.0] {BEYOND}",)
    assert data.read(1).problems == (f"2.npy: the box [7.0, 0.0, 9.0, 1.0] {OUTSIDE}",)
    assert "1 of 3 samples isn't in" in data.notes[0]


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_one_file_has_labels_masks_and_boxes(tmp_path, ending):
    masks = np.arange(27).reshape(3, 9) % 2 == 1
    boxes = np.full((3, 2, 2), np.nan)
    boxes[0, 0] = (0, 4)
    boxes[1] = ((2, 20), (3, 5))
    tables = {
        "images": NOISE.normal(size=(3, 1, 9)).astype("f4"),
        "labels": np.array([1, 0, 1]),
        "masks": masks,
        "boxes": boxes,
    }
    path = tmp_path / f"a.{ending}"
    if ending == "npz":
        np.savez_compressed(path, **tables)
    else:
        save_file(tables, path)

    samples = [load(path).read(index) for index in range(3)]

    assert np.array_equal([sample.image for sample in samples], tables["images"])
    assert samples[0].objects == ((1, (0, 4)),)
    assert samples[1].objects == ((0, (2, 9)), (0, (3, 5)))
    assert samples[2].objects == ()
    assert np.array_equal(samples[1].mask, np.where(masks[1], 0, -1))


def test_the_place_of_the_channels_decides_the_hash(tmp_path):
    write(tmp_path / "a.npy", NOISE.random((3, 4, 3)))
    hashes = {load(tmp_path, channels=channels).fingerprint(0) for channels in ("first", "last")}
    assert len(hashes) == 2


def test_a_mask_in_one_file_decides_the_hash_of_its_sample_alone(tmp_path):
    images = np.arange(27.0).reshape(3, 1, 9)
    masks = np.zeros((3, 9), bool)
    hashes = []
    for row in (0, 1):
        masks[1, 4] = row == 1
        path = tmp_path / f"{row}/a.npz"
        path.parent.mkdir()
        np.savez(path, images=images, labels=[0, 1, 0], masks=masks)
        data = load(path)
        hashes.append([data.fingerprint(index) for index in range(3)])

    is_same = [before == after for before, after in zip(*hashes, strict=True)]
    assert is_same == [True, False, True]


@pytest.mark.parametrize(
    ("space", "shape"), [((8, 8), (1, 8, 8)), ((8, 8, 3), (3, 8, 8)), ((8, 8, 8), (1, 8, 8, 8))]
)
def test_medmnist(tmp_path, space, shape):
    splits = ("train", "val", "test")
    images = {split: NOISE.integers(0, 256, (3, *space), dtype=np.uint8) for split in splits}
    tables = {f"{split}_images": images[split] for split in splits}
    tables |= {f"{split}_labels": np.array([[0], [2], [1]]) for split in splits}
    np.savez(tmp_path / "a.npz", **tables)

    for split in (None, "val"):
        data = load(tmp_path / "a.npz", split=split)
        assert data.shape == shape
        assert data.labels(1) == (2,)
        assert len(data.classes) == 3
        values = np.sort(data.read(1).image, None)
        assert np.array_equal(values, np.sort(images[split or "test"][1], None))


IMAGES = np.zeros((3, 2, 8))

OBJECTS = np.array([{}, [], None], dtype=object)
PICKLED = "it holds Python objects, which are never loaded; save numbers"
CLASSES = {"classes": ["a", "b"]}


@pytest.mark.parametrize(
    ("tables", "settings", "sentence"),
    [
        (
            {"labels": np.arange(3)},
            {},
            "holds labels, and no images; call its arrays images, labels",
        ),
        ({"test_images": IMAGES}, {"split": "val"}, "no val_images; set data.split to test"),
        ({"images": IMAGES, "labels": np.arange(2)}, {}, "give each of 3 samples one class"),
        ({"images": IMAGES, "labels": np.eye(3)}, {}, r"labels .* float64 of the shape \(3, 3\)"),
        (
            {"images": IMAGES, "labels": np.arange(3)},
            CLASSES,
            "names class 2, but there are 2 classes",
        ),
        (
            {"images": IMAGES, "labels": np.array(["a", "c", "b"])},
            CLASSES,
            "no class 'c' of the network, as .* names it; there are: a, b",
        ),
        (
            {"images": IMAGES, "masks": np.zeros((3, 7), bool)},
            {},
            r"masks .* give the shape \(3, 8\)",
        ),
        ({"images": IMAGES, "masks": np.zeros((3, 8), "uint8")}, {}, "A mask of bool marks"),
        ({"images": IMAGES, "boxes": np.zeros((3, 4))}, {}, r"boxes .* give the shape \(3, 2\)"),
        ({"images": np.zeros((3, 1, 2, 2, 2, 2))}, {}, r"isn't \(C, L\), .* set data.channels"),
        ({"images": np.zeros((0, 1, 2))}, {}, "holds no samples"),
        ({"images": np.array(["a", "b"])}, {}, "it holds <U1, not numbers"),
        ({"images": OBJECTS}, {}, PICKLED),
        (b"no tensors", {}, "can't be read: "),
        (None, {}, "There are no images in .*; expected .*<sample>.npy"),
        (None, {"root": "nowhere"}, "There is no folder nowhere; expected"),
        (None, {"root": "nowhere.npz"}, "nowhere.npz can't be read: No such file"),
        (None, {"channels": "lats"}, "no place of channels 'lats'; did you mean 'last'"),
        (None, {"split": "test"}, "data.split=test is of a file .npz"),
    ],
)
def test_what_concerns_all_samples_is_one_sentence(tmp_path, tables, settings, sentence):
    root = tmp_path
    if isinstance(tables, dict):
        root = tmp_path / "a.npz"
        np.savez(root, **tables)
    elif isinstance(tables, bytes):
        root = tmp_path / "a.safetensors"
        root.write_bytes(tables)

    settings = {"root": root} | settings
    with pytest.raises(BenchError, match=sentence):
        load(**settings)


def note_on_scales(root):
    """Return the one note about samples of several scales."""
    (note,) = [note for note in load(root).notes if "scales" in note]
    return note


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("b.npy", np.array([0, np.nan, np.inf]), "2 of 3 values are NaN or infinite"),
        ("b.npy", OBJECTS, PICKLED),
        (
            "b.npy",
            np.zeros((2, 8)),
            r"its shape is \(2, 8\), and that of the first sample \(1, 8\)",
        ),
        ("b.npy", b"\x93NUMPY\x01", "can't be read"),
        ("b.wav", b"RIFF", "can't be read"),
        ("b.nii", b"", "can't be read|need nibabel"),
    ],
)
def test_what_concerns_one_sample_is_its_own(tmp_path, name, content, sentence):
    write(tmp_path / "a.npy", np.arange(8))
    write(tmp_path / name, content)
    data = load(tmp_path)
    assert data.read(0).image.shape == (1, 8)
    with pytest.raises((BadImage, BenchError), match=sentence):
        data.read(1)


@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "u1"])
def test_recordings_of_several_sample_rates_are_counted(tmp_path, dtype):
    for name, rate in (("a/1.wav", 16_000), ("a/2.wav", 44_100), ("b/3.WAV", 16_000)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        wavfile.write(tmp_path / name, rate, np.zeros(100, dtype))

    note = note_on_scales(tmp_path)
    assert "2 of 16,000 Hz sample rate, 1 of 44,100 Hz sample rate" in note
    assert "resample the files" in note

    # A damaged file is reported when its sample is read.
    damaged = (tmp_path / "a/1.wav").read_bytes()[:30]
    (tmp_path / "a/2.wav").write_bytes(damaged)
    assert not any("scales" in note for note in load(tmp_path).notes)


def test_volumes_of_several_spacings_or_orientations_are_counted(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = np.zeros((4, 4, 4), "f4")
    spacings = {
        "1.nii": (1, 1, 1),
        "2.nii.gz": (1, 1, 2.5),
        "3.nii": (1.0001, 1, 1),  # rounded by a scanner
    }
    for name, spacing in spacings.items():
        affine = np.diag([*spacing, 1])
        nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / name)
    note = note_on_scales(tmp_path)
    assert "2 of 1 x 1 x 1 mm voxel spacing, axes RAS, 1 of 1 x 1 x 2.5 mm" in note

    turned = np.diag([-1, -1, 1, 1])
    nibabel.save(nibabel.Nifti1Image(volume, turned), tmp_path / "2.nii.gz")
    assert "axes LPS" in note_on_scales(tmp_path)


def test_nifti_needs_nibabel_and_a_mosaic_pictures(tmp_path, monkeypatch):
    write(tmp_path / "a.nii", b"")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(BenchError, match=r"need nibabel: pip install '\.\[nifti\]'"):
        _ = load(tmp_path).shape

    write(tmp_path / "b/a.npy", np.arange(8))
    arrays = {"kind": "arrays", "root": str(tmp_path / "b")}
    message = "data=mosaic is made of pictures, and 'arrays' holds arrays"
    with pytest.raises(BenchError, match=message):
        load_dataset({"kind": "mosaic", "of": arrays})
