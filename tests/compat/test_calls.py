"""Calls of pytorch-grad-cam's documentation and of its issues, made with `axiom_bench.compat`:
targets, modes, gradients, hooks, and a message for each mistake.
"""

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench import compat
from axiom_bench.compat import AblationCAM, FinerCAM, FullGrad, GradCAM, HiResCAM, XGradCAM
from axiom_bench.compat.utils.model_targets import (
    BinaryClassifierOutputTarget,
    ClassifierOutputReST,
    ClassifierOutputSoftmaxTarget,
    ClassifierOutputTarget,
    RawScoresOutputTarget,
    SemanticSegmentationTarget,
    Target,
)
from axiom_bench.testing import CASES
from axiom_bench.testing.cases import Case, assert_model_unchanged

pytestmark = pytest.mark.usefixtures("few_objects_to_collect")

CASE = CASES["dense"]
NAMES = [name for name in compat.__all__ if name != "BaseCAM"]
READINGS = ("papers", "grad-cam")
FLOAT32 = 1e-6  # maps in [0, 1]


def maps_of(targets: list[Target] | None, model: nn.Module | None = None) -> np.ndarray:
    """Return HiResCAM's maps of the case's images."""
    model = model or CASE.model()
    return HiResCAM(model, [model.get_submodule("features")])(CASE.images(), targets)


def test_the_readme_of_pytorch_grad_cam() -> None:
    model = CASE.model()
    targets = [ClassifierOutputTarget(2)] * CASE.rows
    with GradCAM(model=model, target_layers=[model.features[-1]]) as cam:
        maps = cam(
            input_tensor=CASE.images(), targets=targets, aug_smooth=False, eigen_smooth=False
        )
        outputs = cam.outputs
    assert maps.shape == (CASE.rows, *CASE.size)
    assert maps.max() == 1
    torch.testing.assert_close(outputs, model(CASE.images()))


@pytest.mark.slow
def test_the_example_of_the_page() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "from-grad-cam.md"
    example = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["maps"].shape == (2, 224, 224)
    assert names["maps"].any()


def test_no_targets_are_the_predicted_classes() -> None:
    predicted = CASE.model()(CASE.images()).argmax(1).tolist()
    expected = maps_of([ClassifierOutputTarget(category) for category in predicted])
    np.testing.assert_array_equal(maps_of(None), expected)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_behind(name: str, reading: Any) -> None:
    """A training loop keeps its mode, its accumulated gradients and its random draws."""
    model = CASE.model().train()
    model(CASE.images()).sum().backward()
    model.filters[0].requires_grad_(False)
    images = CASE.images()
    torch_state = torch.get_rng_state()
    numpy_state = str(np.random.get_state())
    with assert_model_unchanged(model):
        getattr(compat, name)(model, [model.features], reading=reading)(images)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.equal(images, CASE.images())
    if (name, reading) != ("RandomCAM", "grad-cam"):  # which draws as pytorch-grad-cam does
        assert str(np.random.get_state()) == numpy_state


@pytest.mark.parametrize("reading", READINGS)
def test_no_grad_and_frozen_weights(reading: Any) -> None:
    """Issues 80, 187 and 254: "element 0 of tensors does not require grad"."""
    model = CASE.model()
    cam = GradCAM(model, [model.features], reading=reading)
    expected = cam(CASE.images())
    model.requires_grad_(False)
    with torch.no_grad():
        np.testing.assert_array_equal(cam(CASE.images()), expected)
    with torch.inference_mode():
        np.testing.assert_array_equal(cam(CASE.images()), expected)


def test_weights_of_a_later_step() -> None:
    """One CAM object serves a whole training, also if the weights get new memory."""
    model = CASE.model()
    cam = GradCAM(model, [model.features])
    first = cam(CASE.images())
    with torch.no_grad():
        model.filters[0].neg_()
    second = cam(CASE.images())
    assert not np.allclose(first, second, atol=0.01)
    np.testing.assert_array_equal(second, GradCAM(model, [model.features])(CASE.images()))
    model.filters[0].data = -model.filters[0].data
    np.testing.assert_allclose(cam(CASE.images()), first, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("name", ["GradCAM", "ShapleyCAM", "FullGrad", "AblationCAM"])
def test_no_memory_is_kept(name: str) -> None:
    """Issues 132, 483 and 88: CAM objects made in a loop, without `with`, kept their models."""
    model = CASE.model()
    cam = getattr(compat, name)(model, [model.features])
    cam(CASE.images())
    reference = weakref.ref(model)
    del cam, model
    gc.collect()
    assert reference() is None


def test_other_sizes_of_images() -> None:
    model = Case("pooled").model()
    cam = GradCAM(model, [model.features])
    for size in ((8, 12), (10, 6), (8, 12)):
        images = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator())
        assert cam(images).shape == (2, *size)


def test_half_precision() -> None:
    model = CASE.model().bfloat16()
    with pytest.warns(UserWarning, match=r"give network\.float\(\)"):
        maps = GradCAM(model, [model.features])(CASE.images().bfloat16())
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()


class Branching(nn.Module):
    """A network whose path depends on values, so that torch.fx can't follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = CASE.model()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.inner.features(images)
        if float(maps.sum()) > 0:
            maps = 2 * maps
        return self.inner.head(maps)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cam_class", [GradCAM, AblationCAM])
def test_network_that_fx_cant_follow(cam_class: type[compat.BaseCAM]) -> None:
    model = Branching().eval()
    maps = cam_class(model, [model.inner.features])(CASE.images())
    assert maps.shape == (CASE.rows, *CASE.size)
    assert maps.any()


@pytest.mark.parametrize(
    ("target", "output"),
    [(ClassifierOutputSoftmaxTarget(1), "probability"), (ClassifierOutputReST(1), "rest")],
    ids=["softmax", "rest"],
)
def test_targets_of_probabilities(target: Target, output: str) -> None:
    model = CASE.model()
    expected = ab.explain(
        model, "features", CASE.images(), ["hires_cam"], targets=1, output=output
    )["hires_cam"]
    np.testing.assert_allclose(maps_of([target] * CASE.rows), expected, rtol=0, atol=FLOAT32)
    # the same score as a function of the user, which reads one image's output
    written = maps_of([lambda output: target(output)] * CASE.rows)
    np.testing.assert_allclose(written, expected, rtol=0, atol=FLOAT32)


def test_a_network_that_ends_in_a_softmax_is_explained_as_it_is() -> None:
    model = CASE.model()
    model.head.append(nn.Softmax(1))
    values = maps_of([ClassifierOutputTarget(1)] * CASE.rows, model)
    expected = maps_of([ClassifierOutputSoftmaxTarget(1)] * CASE.rows)
    np.testing.assert_allclose(values, expected, rtol=0, atol=FLOAT32)


class Binary(nn.Module):
    """A network with one output, (B, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = CASE.model().features
        self.head = CASE.model().head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))[:, :1]


def test_targets_of_one_output() -> None:
    model = Binary().eval()
    first = maps_of([ClassifierOutputTarget(0)] * CASE.rows)
    raw = [RawScoresOutputTarget()] * CASE.rows
    positive = [BinaryClassifierOutputTarget(1)] * CASE.rows
    negative = [BinaryClassifierOutputTarget(0)] * CASE.rows
    for targets in (raw, positive, None):
        np.testing.assert_allclose(maps_of(targets, model), first, rtol=0, atol=FLOAT32)
    opposite = maps_of([lambda output: -output[0]] * CASE.rows)
    np.testing.assert_allclose(maps_of(negative, model), opposite, rtol=0, atol=FLOAT32)
    assert not np.allclose(first, opposite, atol=0.01)


def test_each_image_has_its_own_function() -> None:
    """Two functions of the user in one batch, and a class of this package."""
    targets: list[Target] = [lambda z: z[0] - z[1], lambda z: z[2], ClassifierOutputTarget(1)]
    maps = maps_of(targets)
    for row, target in enumerate(targets):
        single = maps_of([target] * CASE.rows)[row]
        np.testing.assert_allclose(maps[row], single, rtol=0, atol=FLOAT32)


def test_targets_imported_from_pytorch_grad_cam() -> None:
    library = pytest.importorskip("pytorch_grad_cam", reason="make peers")
    targets = library.utils.model_targets
    for ours in (ClassifierOutputTarget(1), ClassifierOutputSoftmaxTarget(1)):
        theirs = getattr(targets, type(ours).__name__)(1)
        values = maps_of([theirs] * CASE.rows)
        np.testing.assert_array_equal(values, maps_of([ours] * CASE.rows))


class Segmenter(nn.Module):
    """A network that returns maps of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = CASE.model().features
        self.classes = nn.Conv2d(4, 3, 1, dtype=torch.float64)
        nn.init.constant_(self.classes.weight, 0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classes(self.features(images))


@pytest.mark.parametrize("reading", READINGS)
def test_every_image_of_a_segmenters_batch_has_a_map(reading: Any) -> None:
    """Issue 264: only the first image of a batch had one."""
    model = Segmenter().eval()
    mask = np.zeros((4, 6), dtype=np.float32)
    mask[:2] = 1
    targets = [SemanticSegmentationTarget(0, mask), SemanticSegmentationTarget(1, 1 - mask)]
    maps = HiResCAM(model, [model.features], reading=reading)(CASE.images()[:2], targets)
    assert maps[0, :3].any()
    assert not maps[0, 5:].any()
    assert maps[1, 5:].any()
    assert not maps[1, :3].any()
    with pytest.raises(ab.BenchError, match="returns maps, so there is no predicted class"):
        HiResCAM(model, [model.features], reading=reading)(CASE.images())


def test_ablation_is_exact() -> None:
    """Against a loop in float64 that sets one channel at a time to 0."""
    model = CASE.model()
    features = model.features(CASE.images()).detach()
    rows = torch.arange(CASE.rows)
    with torch.no_grad():
        scores = model.head(features)[rows, 1]
        drops = torch.zeros(CASE.rows, 4, dtype=torch.float64)
        for channel in range(4):
            ablated = features.clone()
            ablated[:, channel] = 0
            drops[:, channel] = scores - model.head(ablated)[rows, 1]
    raw = torch.einsum("bk,bkhw->bhw", drops / scores[:, None], features)
    maps = AblationCAM(model, [model.features], None, object(), 8)(
        CASE.images(), [ClassifierOutputTarget(1)] * CASE.rows
    )
    np.testing.assert_allclose(maps, ab.heatmap(raw, CASE.size), rtol=0, atol=FLOAT32)


def test_arguments_of_finer_cam() -> None:
    model = CASE.model()
    cam = FinerCAM(model, [model.features])
    plain = cam(CASE.images(), target_idx=1, alpha=0)
    targets = [ClassifierOutputTarget(1)] * CASE.rows
    expected = GradCAM(model, [model.features])(CASE.images(), targets)
    np.testing.assert_allclose(plain, expected, rtol=0, atol=FLOAT32)
    compared = cam(CASE.images(), target_idx=1, comparison_categories=[1])
    assert not np.allclose(compared, expected, atol=0.01)


def test_full_grad_needs_no_layer() -> None:
    model = CASE.model()
    assert FullGrad(model, [])(CASE.images()).any()


def call(*, images: Any = None, layers: Any = None, targets: Any = None, **options: Any) -> None:
    """Call XGradCAM with one of its arguments wrong."""
    model = CASE.model()
    layers = [model.features] if layers is None else layers
    images = CASE.images() if images is None else images
    XGradCAM(model, layers, **options)(images, targets)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"layers": CASE.model().features}, r"target_layers is a .*Sequential, not a list"),
        ({"layers": []}, r"target_layers is an empty list; give a list"),
        ({"layers": [nn.ReLU()]}, r"target_layers has a .*ReLU that isn't a module of this model"),
        ({"targets": [ClassifierOutputTarget(0)]}, r"1 target for 3 images; .* \* 3"),
        (
            {"targets": ClassifierOutputTarget(0)},
            r"targets is a.*Target, not a list",
        ),
        ({"targets": torch.tensor([0, 1, 2])}, r"targets is a torch.Tensor, not a list"),
        ({"targets": [0, 1, 2]}, r"The target 0 isn't a function; give ClassifierOutputTarget"),
        ({"targets": [ClassifierOutputTarget(9)] * 3}, r"Invalid target 9; .* classes are 0 to 2"),
        ({"targets": [RawScoresOutputTarget()] * 3}, r"gives the shape \(3,\) for an image"),
        ({"targets": [lambda output: output.x] * 3}, r"output function target fails on the output"),
        ({"images": CASE.images()[0]}, r"Invalid images: .* give images\[None\]"),
    ],
    ids=[
        "layers aren't a list",
        "no layer",
        "layer of another model",
        "too few targets",
        "one target",
        "labels",
        "numbers",
        "class out of range",
        "several scores",
        "target that fails",
        "no batch axis",
    ],
)
def test_one_message_for_a_mistake(mistake: dict[str, Any], message: str, reading: Any) -> None:
    with pytest.raises(ab.BenchError, match=message) as error:
        call(**mistake, reading=reading)
    assert "\n" not in str(error.value)


def test_messages_of_the_constructor() -> None:
    with pytest.raises(ab.BenchError, match="no reading 'gradcam'; did you mean 'grad-cam'"):
        call(reading="gradcam")
    model = CASE.model()
    with pytest.raises(ab.BenchError, match="leave out ratio_channels_to_ablate"):
        AblationCAM(model, [model.features], ratio_channels_to_ablate=0.1)
    with pytest.raises(ab.BenchError, match="leave out base_method"):
        FinerCAM(model, [model.features], base_method=HiResCAM)
    with pytest.raises(ab.BenchError, match=r"give comparison_categories=\(1, 2, 3\)"):
        FinerCAM(model, [model.features])(CASE.images(), comparison_categories=[2])
    with pytest.raises(ab.BenchError, match="only moves values"):
        GradCAM(model, [model.features], lambda maps: 2 * maps)(CASE.images())


def test_values_that_cannot_be_those_of_pytorch_grad_cam() -> None:
    model = CASE.model()
    with pytest.raises(ab.BenchError, match=r"operation in place follows the layer 'features\.2'"):
        GradCAM(model, [model.features[2]], reading="grad-cam")(CASE.images())
    model.features[3] = nn.ReLU()
    cam = AblationCAM(model, [model.features[2]], reading="grad-cam")
    with pytest.raises(ab.BenchError, match="its map depends on its batch size"):
        cam(CASE.images())
    model.features[1] = nn.ReLU6()
    with pytest.raises(ab.BenchError, match="leaves out biases of ReLU6"):
        FullGrad(model, [], reading="grad-cam")(CASE.images())


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("SegEigenCAM", "did you mean 'EigenCAM'"),
        ("DeepFeatureFactorization", "isn't included. It gives several maps per image"),
    ],
)
def test_importing_a_missing_class_says_what_there_is(name, answer):
    with pytest.raises(ImportError, match=rf"axiom_bench\.compat has no {name}\. .*{answer}"):
        getattr(compat, name)
