"""The values of `axiom_bench.compat`: those of the project's methods, and with `reading="grad-cam"`
those of pytorch-grad-cam.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, resnet18, squeezenet1_1

import axiom_bench as ab
from axiom_bench import compat, methods
from axiom_bench.compat.utils.model_targets import ClassifierOutputTarget
from axiom_bench.evaluation import plugins
from axiom_bench.testing import CASES
from axiom_bench.testing.cases import OTHER_CASES, Case

NAMES = [name for name in compat.__all__ if name != "BaseCAM"]
SUITE = {name: CASES[name] for name in ("pooled", "dense")}
SAME = 1e-6  # of maps in [0, 1], which pytorch-grad-cam resizes in float32
ROUNDED = 4e-6  # float32: sums over 512 channels in another order; 1.1e-6 measured


def classes(count: int) -> list[ClassifierOutputTarget]:
    return [ClassifierOutputTarget(index % 3) for index in range(count)]


def library_maps(
    name: str, model: nn.Module, layers: list[nn.Module], images: Any, targets: Any, **call: Any
) -> np.ndarray:
    """Return the maps of pytorch-grad-cam, with draws from seed 0."""
    library = pytest.importorskip("pytorch_grad_cam", reason="make peers")
    options = {"reshape_transform": call.pop("reshape_transform", None)}
    np.random.seed(0)
    cam = getattr(library, name)(model, layers, **options)
    if name == "FinerCAM":  # with targets it is Grad-CAM, and a target_idx is for all images
        maps = []
        for image, target in zip(images.split(1), targets, strict=True):
            maps.append(cam(image, target_idx=target.category))
        return np.concatenate(maps)
    return cam(images, targets, **call)


def our_maps(
    name: str, model: nn.Module, layers: list[nn.Module], images: Any, targets: Any, **call: Any
) -> np.ndarray:
    """Return the maps of `reading="grad-cam"`, with draws from seed 0."""
    transform = call.pop("reshape_transform", None)
    np.random.seed(0)
    cam = getattr(compat, name)(model, layers, transform, reading="grad-cam")
    return cam(images, targets, **call)


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_those_of_the_method(name: str) -> None:
    case = CASES["dense"]
    model = case.model()
    cam_class = getattr(compat, name)
    maps = cam_class(model, [model.features])(case.images(), classes(case.rows))
    method = methods.get(plugins.matching("method", cam_class.method))
    expected = ab.explain(model, "features", case.images(), [method], targets=[0, 1, 2])
    assert maps.dtype == np.float32
    assert maps.shape == (case.rows, *case.size)
    np.testing.assert_allclose(maps, next(iter(expected.values())), rtol=0, atol=1e-6)  # float32


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", SUITE.values(), ids=SUITE)
@pytest.mark.parametrize("name", NAMES)
def test_grad_cam_reading_on_the_suites_networks(name: str, case: Case) -> None:
    model = case.model()
    targets = classes(case.rows)
    values = our_maps(name, model, [model.features], case.images(), targets)
    expected = library_maps(name, model, [model.features], case.images(), targets)
    assert expected.std() > 0.1
    np.testing.assert_allclose(values, expected, rtol=0, atol=SAME)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["XGradCAM", "GradCAMPlusPlus", "ScoreCAM", "FullGrad"])
def test_a_dead_channel_is_silent(name: str) -> None:
    """Without pytorch-grad-cam's epsilons, 0 / 0 would make the map NaN."""
    case = CASES["dense"]
    model = case.model()
    with torch.no_grad():
        model.filters[1][0] = -100
    targets = classes(case.rows)
    values = our_maps(name, model, [model.features], case.images(), targets)
    expected = library_maps(name, model, [model.features], case.images(), targets)
    np.testing.assert_allclose(values, expected, rtol=0, atol=SAME)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("FEM", {"k": deviations}) for deviations in (0.4, 0.8, 1, 1.3)),
        ("KPCA_CAM", {"kernel": "rbf", "gamma": 0.5}),
        ("KPCA_CAM", {"kernel": "linear"}),
    ],
)
def test_further_arguments(name: str, options: dict[str, Any]) -> None:
    library = pytest.importorskip("pytorch_grad_cam", reason="make peers")
    case = Case("pooled", size=(30, 40))
    model = case.model()
    targets = classes(case.rows)
    cam = getattr(compat, name)(model, [model.features], reading="grad-cam", **options)
    other = getattr(library, name)(model, [model.features], **options)
    values = cam(case.images(), targets)
    np.testing.assert_allclose(values, other(case.images(), targets), rtol=0, atol=SAME)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", [{"aug_smooth": True}, {"eigen_smooth": True}], ids=str)
@pytest.mark.parametrize("name", ["GradCAM", "HiResCAM", "XGradCAM", "LayerCAM"])
def test_smoothing_is_pytorch_grad_cams(name: str, call: dict[str, bool]) -> None:
    case = CASES["dense"]
    model = case.model()
    targets = classes(case.rows)
    values = our_maps(name, model, [model.features], case.images(), targets, **call)
    expected = library_maps(name, model, [model.features], case.images(), targets, **call)
    np.testing.assert_allclose(values, expected, rtol=0, atol=SAME)


def test_eigen_smooth_has_the_sign_of_the_map() -> None:
    """A principal component has no sign. pytorch-grad-cam takes LAPACK's."""
    case = CASES["dense"]
    model = case.model()
    cam = compat.HiResCAM(model, [model.features])
    maps = cam(case.images(), classes(case.rows))
    smooth = cam(case.images(), classes(case.rows), eigen_smooth=True)
    for plain, component in zip(maps, smooth, strict=True):
        assert (plain * component).sum() > 0
        assert not np.allclose(plain, component, atol=0.01)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["GradCAM", "EigenCAM", "XGradCAM"])
def test_several_layers(name: str) -> None:
    case = CASES["dense"]
    model = case.model()
    layers: list[nn.Module] = [model.features[1], model.features]
    targets = classes(case.rows)
    values = our_maps(name, model, layers, case.images(), targets)
    expected = library_maps(name, model, layers, case.images(), targets)
    np.testing.assert_allclose(values, expected, rtol=0, atol=SAME)

    cam_class = getattr(compat, name)
    singly = [cam_class(model, [layer])(case.images(), targets) for layer in layers]
    mean = torch.from_numpy(np.mean(singly, axis=0))
    together = cam_class(model, layers)(case.images(), targets)
    np.testing.assert_allclose(together, ab.heatmap(mean, case.size), rtol=0, atol=1e-6)  # float32


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("aug_smooth", [False, True], ids=["plain", "aug_smooth"])
@pytest.mark.parametrize("name", ["GradCAM", "GradCAMPlusPlus", "XGradCAM", "FEM"])
def test_volumes(name: str, aug_smooth: bool) -> None:
    case = OTHER_CASES["volumes"]
    model = case.model()
    layers: list[nn.Module] = [model.features[3]]
    images = case.images()
    targets = classes(case.rows)
    values = our_maps(name, model, layers, images, targets, aug_smooth=aug_smooth)
    expected = library_maps(name, model, layers, images, targets, aug_smooth=aug_smooth)
    assert values.shape == (case.rows, *case.size)
    np.testing.assert_allclose(values, expected, rtol=0, atol=SAME)


def test_signals_which_pytorch_grad_cam_refuses() -> None:
    case = OTHER_CASES["signals"]
    model = case.model()
    maps = compat.GradCAM(model, [model.features])(case.images(), aug_smooth=True)
    assert maps.shape == (case.rows, *case.size)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["GradCAM", "HiResCAM", "XGradCAM", "LayerCAM", "EigenCAM", "FEM"])
@pytest.mark.parametrize("build", [squeezenet1_1, resnet18], ids=lambda build: build.__name__)
def test_networks_of_torchvision(build: Any, name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(num_classes=10).eval()
        images = torch.randn(2, 3, 96, 64)
    layer = model.features[-1] if build is squeezenet1_1 else model.layer4[-1]
    targets = classes(2)
    values = our_maps(name, model, [layer], images, targets)
    expected = library_maps(name, model, [layer], images, targets)
    np.testing.assert_allclose(values, expected, rtol=0, atol=ROUNDED)


def token_maps(tokens: torch.Tensor) -> torch.Tensor:
    """Return the maps of a transformer's tokens, as pytorch-grad-cam's documentation does."""
    grid = tokens[:, 1:, :].reshape(tokens.size(0), 3, 3, tokens.size(2))
    return grid.transpose(2, 3).transpose(1, 2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["GradCAM", "LayerCAM", "GradCAMPlusPlus"])
def test_transformer_with_reshape_transform(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionTransformer(24, 8, 2, 2, 8, 16, num_classes=3).double().eval()
        nn.init.normal_(model.heads[0].weight)
        images = torch.randn(2, 3, 24, 24, dtype=torch.float64)
    layer = model.encoder.layers[-1].ln_1
    targets = classes(2)
    values = our_maps(name, model, [layer], images, targets, reshape_transform=token_maps)
    expected = library_maps(name, model, [layer], images, targets, reshape_transform=token_maps)
    np.testing.assert_allclose(values, expected, rtol=0, atol=SAME)
    papers = getattr(compat, name)(model, [layer], token_maps)(images, targets)
    method = methods.get(plugins.matching("method", getattr(compat, name).method))
    maps = ab.explain(
        model,
        "encoder.layers.encoder_layer_1.ln_1",
        images,
        [method],
        targets=[0, 1],
        reshape="tokens",
    )
    np.testing.assert_allclose(papers, next(iter(maps.values())), rtol=0, atol=1e-6)  # float32
