"""Arrays from files: each format, where channels are, labels, boxes and masks, and a sentence for
each mistake.
"""

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
    """In the format of the name: bytes as they are, frames where it has no ending."""
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


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "channels", "expected"),
    [
        ("a.npy", (3, 8), "float64", None, lambda x: x),
        ("a.npy", (8,), ">i2", None, lambda x: x[None]),
        ("a.npy", (4, 6), "uint16", "none", lambda x: x[None]),
        ("a.npy", (4, 6, 5), "bool", "last", lambda x: x.transpose(2, 0, 1)),
        ("a.npy", (2, 3, 4, 5), "float16", "first", lambda x: x),
        ("a.wav", (8,), "int16", None, lambda x: x[None] / 32768),
        ("a.wav", (8, 2), "uint8", None, lambda x: (x.T - 128.0) / 128),
        ("a.nii", (3, 4, 5), "float32", None, lambda x: x[None]),
        ("a.nii.gz", (3, 4, 5, 2), "float32", None, lambda x: np.moveaxis(x, -1, 0)),
        ("clip", (3, 4, 6, 3), "uint8", None, lambda x: np.moveaxis(x, -1, 0)),
    ],
)
def test_each_format_gives_channels_and_space(tmp_path, name, shape, dtype, channels, expected):
    stored = [(50 * NOISE.random(shape)).astype(dtype) for _ in "ab"]
    for of_class, values in zip("ab", stored, strict=True):
        write(tmp_path / of_class / name, values)
    data = load(tmp_path, channels=channels)
    assert data.ids == (f"a/{name}", f"b/{name}")
    for index, values in enumerate(map(expected, stored)):
        sample = data.read(index)
        assert np.allclose(sample.image, values)
        assert sample.image.dtype.kind in (values.dtype.kind, "u" if dtype == "bool" else "i")
        assert (sample.label, sample.size, data.shape) == (index, values.shape[1:], values.shape)


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
    assert "1 of 3 samples aren't in" in data.notes[0]


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_one_file_has_labels_masks_and_boxes(tmp_path, ending):
    masks, boxes = np.arange(27).reshape(3, 9) % 2 == 1, np.full((3, 2, 2), np.nan)
    boxes[0, 0], boxes[1] = (0, 4), ((2, 20), (3, 5))
    tables = {"images": NOISE.normal(size=(3, 1, 9)).astype("f4"), "labels": np.array([1, 0, 1])}
    tables |= {"masks": masks, "boxes": boxes}
    path = tmp_path / f"a.{ending}"
    np.savez_compressed(path, **tables) if ending == "npz" else save_file(tables, path)
    samples = [load(path).read(index) for index in range(3)]
    assert np.array_equal([sample.image for sample in samples], tables["images"])
    assert [sample.objects for sample in samples] == [
        ((1, (0, 4)),),
        ((0, (2, 9)), (0, (3, 5))),
        (),
    ]
    assert np.array_equal(samples[1].mask, np.where(masks[1], 0, -1))


def test_the_place_of_the_channels_decides_the_hash(tmp_path):
    write(tmp_path / "a.npy", NOISE.random((3, 4, 3)))
    hashes = {load(tmp_path, channels=channels).fingerprint(0) for channels in ("first", "last")}
    assert len(hashes) == 2


def test_a_mask_in_one_file_decides_the_hash_of_its_sample_alone(tmp_path):
    masks = np.zeros((3, 9), bool)
    hashes = []
    for row in (0, 1):
        masks[1, 4] = row == 1
        path = tmp_path / f"{row}/a.npz"
        path.parent.mkdir()
        np.savez(path, images=np.arange(27.0).reshape(3, 1, 9), labels=[0, 1, 0], masks=masks)
        data = load(path)
        hashes.append([data.fingerprint(index) for index in range(3)])
    assert np.equal(*map(np.array, hashes)).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("space", "shape"), [((8, 8), (1, 8, 8)), ((8, 8, 3), (3, 8, 8)), ((8, 8, 8), (1, 8, 8, 8))]
)
def test_medmnist(tmp_path, space, shape):
    parts = {
        split: NOISE.integers(0, 256, (3, *space), dtype=np.uint8)
        for split in ("train", "val", "test")
    }
    labels = {f"{split}_labels": np.array([[0], [2], [1]]) for split in parts}
    np.savez(
        tmp_path / "a.npz",
        **{f"{split}_images": images for split, images in parts.items()},
        **labels,
    )
    for split in (None, "val"):
        data = load(tmp_path / "a.npz", split=split)
        assert (data.shape, data.labels(1), len(data.classes)) == (shape, (2,), 3)
        assert np.array_equal(
            np.sort(data.read(1).image, None), np.sort(parts[split or "test"][1], None)
        )


IMAGES, OBJECTS = np.zeros((3, 2, 8)), np.array([{}, [], None], dtype=object)
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
            "no class, .* 'c'; .* a, b",
        ),
        ({"images": IMAGES, "masks": np.zeros((3, 7), bool)}, {}, r"masks .* give \(3, 8\)"),
        ({"images": IMAGES, "masks": np.zeros((3, 8), "uint8")}, {}, "masks as bool"),
        ({"images": IMAGES, "boxes": np.zeros((3, 4))}, {}, r"boxes .* give \(3, 2\)"),
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
    root = tmp_path / {dict: "a.npz", bytes: "a.safetensors"}.get(type(tables), "")
    np.savez(root, **tables) if isinstance(tables, dict) else tables and root.write_bytes(tables)
    with pytest.raises(BenchError, match=sentence):
        load(**{"root": root, **settings})


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
    (note,) = [note for note in load(tmp_path).notes if "scales" in note]
    assert "2 of 16,000 Hz sample rate, 1 of 44,100 Hz sample rate" in note
    assert "resample the files" in note
    # damaged: told where it is read
    (tmp_path / "a/2.wav").write_bytes((tmp_path / "a/1.wav").read_bytes()[:30])
    assert not any("scales" in note for note in load(tmp_path).notes)


def test_volumes_of_several_spacings_or_orientations_are_counted(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    # rounded by a scanner
    sides = {
        "1.nii": (1, 1, 1),
        "2.nii.gz": (1, 1, 2.5),
        "3.nii": (1.0001, 1, 1),
    }
    for name, spacing in sides.items():
        nibabel.save(
            nibabel.Nifti1Image(np.zeros((4, 4, 4), "f4"), np.diag([*spacing, 1])), tmp_path / name
        )
    (note,) = [note for note in load(tmp_path).notes if "scales" in note]
    assert "2 of 1 x 1 x 1 mm voxel spacing, axes RAS, 1 of 1 x 1 x 2.5 mm" in note
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((4, 4, 4), "f4"), np.diag([-1, -1, 1, 1])),
        tmp_path / "2.nii.gz",
    )
    (note,) = [note for note in load(tmp_path).notes if "scales" in note]
    assert "axes LPS" in note


def test_nifti_needs_nibabel_and_a_mosaic_pictures(tmp_path, monkeypatch):
    write(tmp_path / "a.nii", b"")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(BenchError, match=r"need nibabel: pip install '\.\[nifti\]'"):
        _ = load(tmp_path).shape
    write(tmp_path / "b/a.npy", np.arange(8))
    with pytest.raises(
        BenchError, match="data=mosaic is made of pictures, and 'arrays' holds arrays"
    ):
        load_dataset({"kind": "mosaic", "of": {"kind": "arrays", "root": str(tmp_path / "b")}})
