"""Tests of the drawn QR codes: real codes, exact parts, and the same bytes on every machine."""

import hashlib
from itertools import product

import numpy as np
import pytest
import torch

import axiom_bench as ab
from axiom_bench.cli.main import main
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import networks, qr, scenes
from axiom_bench.errors import BenchError

# A hash of 40 images and masks, which other machines and library versions must also draw.
SAME_BYTES = "12056bc71f1d8d4a"


@pytest.fixture(scope="module")
def dataset():
    return load_dataset({"kind": "qr_codes", "size": 40, "seed": 3})


def codes(count):
    """Return the modules of `count` codes, drawn from other random numbers than the images'."""
    return [qr._code(np.random.default_rng(seed)) for seed in range(count)]


def test_images_are_the_same_bytes_on_every_machine(dataset):
    content = "".join(map(dataset.fingerprint, range(40)))
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == SAME_BYTES


def test_a_code_has_its_patterns_where_the_standard_has_them():
    """Check finder patterns, separators and timing patterns by the rules of ISO/IEC 18004."""
    finder = np.ones((7, 7))
    finder[1:6, 1:6] = 0
    finder[2:5, 2:5] = 1
    sides = set()
    for code in codes(12):
        side = len(code.darkness)
        sides.add(side)
        parts = np.full((side, side), qr.OTHER_MODULES)
        for top, left in ((0, 0), (0, side - 7), (side - 7, 0)):
            corner = np.s_[top : top + 7, left : left + 7]
            assert (code.darkness[corner] == finder).all()
            parts[corner] = qr.FINDERS
        parts[6, 8 : side - 8] = qr.TIMING
        parts[8 : side - 8, 6] = qr.TIMING
        assert (code.parts == parts).all()
        alternating = np.arange(8, side - 8) % 2 == 0
        assert (code.darkness[6, 8 : side - 8] == alternating).all()
        assert (code.darkness[8 : side - 8, 6] == alternating).all()
        assert (code.darkness[7, :8] == 0).all()
        assert (code.darkness[:8, 7] == 0).all()
    assert sides == {21, 25}


def test_a_scanner_reads_the_codes():
    """OpenCV reads the modules at eight pixels each, with their quiet zone."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with pytorch-grad-cam")
    texts = []
    for code in codes(12):
        dark = np.pad(code.darkness, qr.QUIET)
        picture = np.kron(255 * (1 - dark), np.ones((8, 8))).astype(np.uint8)
        text, *_ = cv2.QRCodeDetector().detectAndDecode(picture)
        texts.append(text)
    read = [text for text in texts if text]
    assert len(read) >= 10
    for text in read:
        assert 6 <= len(text) <= 16
        assert set(text) <= set(qr.CHARACTERS)


@pytest.mark.slow
def test_a_scanner_reads_most_of_the_images():
    """The turn, the perspective and the noise leave the codes readable, if enlarged."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with pytorch-grad-cam")
    images = [qr.draw("evaluation", 0, number) for number in range(40)]
    texts = []
    for image in images:
        if image.label == qr.CODE:
            enlarged = cv2.resize(image.image, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
            text, *_ = cv2.QRCodeDetector().detectAndDecode(enlarged)
            texts.append(text)
    assert sum(map(bool, texts)) > len(texts) / 2


def test_boxes_and_masks_are_those_of_the_modules(dataset):
    labels = []
    for index in range(40):
        sample = dataset.read(index)
        ((label, box),) = sample.objects
        assert sample.size == sample.mask.shape == (96, 96)
        assert set(np.unique(sample.mask)) == {-1, label}
        where = np.argwhere(sample.mask == label)[:, ::-1]
        assert box == (*where.min(0), *(where.max(0) + 1))
        # The quiet zone around the modules is ground.
        assert 0.15 < (sample.mask == label).mean() < 0.5
        assert dataset.labels(index) == (sample.label,) == (label,)
        labels.append(label)
    assert 10 <= sum(labels) <= 30  # about half of the images show a code


@pytest.mark.slow
def test_an_image_without_a_part_or_on_another_ground_is_the_same_elsewhere(dataset):
    names = {0: ["pattern"], 1: ["finder patterns", "timing patterns", "other modules"]}
    for index in range(20):
        sample = dataset.read(index)
        image = np.asarray(sample.image)
        *parts, ground = dataset.interventions(index)
        assert [part.name for part in parts] == names[sample.label]
        assert ground.name == "ground"
        assert (sum(part.mask.astype(int) for part in (*parts, ground)) == 1).all()
        for part in parts:
            assert part.label == sample.label
            without = np.asarray(part.images[0])
            assert (without[~part.mask] == image[~part.mask]).all()
            # All its modules are light: they have the colour of the quiet zone, but for the noise.
            assert (without[part.mask].std(0) < 20).all()
            assert (without[part.mask] != image[part.mask]).any(1).mean() > 0.1
        assert len(ground.images) == len(ground.bare) == scenes.GROUNDS
        for other, bare in zip(ground.images, ground.bare, strict=True):
            other, bare = np.asarray(other), np.asarray(bare)
            assert (other[~ground.mask] == image[~ground.mask]).all()
            assert (other[ground.mask] == bare[ground.mask]).all()
            assert (other != image)[ground.mask].any(1).mean() > 0.2
            assert (bare[~ground.mask].std(0) < 20).all()


@pytest.mark.slow
def test_no_split_or_seed_draws_an_image_of_another():
    images = {qr.draw(*key).image.tobytes() for key in product(scenes.SPLITS, range(3), range(3))}
    assert len(images) == 4 * 3 * 3


def test_an_unknown_split_is_refused():
    with pytest.raises(BenchError, match="'evaluation'"):
        load_dataset({"kind": "qr_codes", "size": 4, "split": "evaluatoin"})


def test_weights_are_stored_in_half_precision():
    assert networks.weights_file("qr_cnn").stat().st_size < 250_000


@pytest.mark.slow
def test_the_network_needs_the_finder_patterns_and_hardly_the_rest():
    """Without the finder patterns the score of the code turns negative."""
    dataset = load_dataset({"kind": "qr_codes", "size": 24, "seed": 99})
    preprocessing = Preprocessing(None, None, networks.MEAN, networks.STD)
    cut_model = ab.cut(networks.load("qr_cnn"), networks.LAYERS["qr_cnn"])
    shares = []
    for batch in batches(dataset, range(24), preprocessing, "label", 12, extras={"interventions"}):
        trace = cut_model.trace(batch.images, batch.targets, interventions=batch.interventions)
        for score, effects in zip(trace.scores, trace.part_effects, strict=True):
            if len(effects) == 4:
                shares.append(effects / score)
    finders, timing, other_modules, ground = torch.stack(shares).mean(0).tolist()
    assert finders > 1
    assert max(map(abs, (timing, other_modules, ground))) < 0.3


@pytest.mark.slow
def test_a_run_has_the_parts_of_codes_and_says_why_other_patterns_have_no_value(tmp_path):
    chosen = [
        "method=[grad_cam,xgrad_cam]",
        "metric=[qr_structure,mst_c,object_effects]",
        "runtime.repeats=0",
    ]
    command = ["model=qr_cnn", "data.size=8", *chosen, f"results={tmp_path}"]
    assert main(command) == 0
    values = ab.read_run(tmp_path / "quick" / "qr_cnn")
    assert {*values["data"]} == {"qr_codes"}
    of_codes = values[values["metric"] == "finder_mass"]
    is_code = of_codes["target_class"] == qr.CODE
    assert is_code.any()
    assert not is_code.all()
    assert {*of_codes.loc[is_code, "status"]} <= {"ok", "zero_map"}
    assert {*of_codes.loc[~is_code, "status"]} <= {"no_structure", "zero_map"}
    effects = values[values["metric"] == "object_effects"]
    assert {*effects["status"]} == {"ok"}
