"""Tests of scripts/public_cams.py, which calls public CAM classes of unusual forms."""

import public_cams
import pytest
import torch

from axiom_bench.auditing.cases import DESIGNS, build


@pytest.fixture(scope="module")
def case():
    return build(DESIGNS[0])  # float64


def test_an_image_at_a_time_gets_its_own_class(case):
    def explain(image, target):
        assert image.shape == (1, 3, *case.images.shape[2:])
        return (image[:, :1] + target).requires_grad_()

    maps = public_cams.maps_one_by_one(explain, case.images, case.targets)
    assert not maps.requires_grad
    torch.testing.assert_close(maps, case.images[:, 0] + case.targets[:, None, None])


def test_only_a_model_of_float64_is_copied_to_float32(case):
    layer = case.layer_module
    model, copied_layer, images = public_cams.as_float32(case.model, layer, case.images)
    assert model is not case.model
    assert copied_layer is model.get_submodule(case.layer)
    assert images.dtype == next(copied_layer.parameters()).dtype == torch.float32
    assert next(case.model.parameters()).dtype == torch.float64
    # an audit sees what a call does to a model that isn't copied
    for kind in (torch.float32, torch.bfloat16):
        others = public_cams.as_float32(case.model, layer, case.images.to(kind))
        assert others[0] is case.model
        assert others[2].dtype == kind


@pytest.mark.slow  # imports the library
def test_finer_cam_explains_the_difference_from_other_classes(case):
    library = pytest.importorskip("pytorch_grad_cam", reason="make peers")
    targets = [library.utils.model_targets.ClassifierOutputTarget(int(c)) for c in case.targets]
    maps = public_cams.finer_cam(case.model, case.layer_module, case.images, case.targets)
    assert maps.shape == (len(case.images), *case.images.shape[2:])
    with library.GradCAM(case.model, [case.layer_module]) as cam:
        grad_cam = torch.as_tensor(cam(case.images, targets=targets))
    assert not torch.allclose(maps, grad_cam, atol=0.01)


@pytest.mark.slow  # imports the library
def test_captum_enlarges_the_map_of_its_grad_cam(case):
    library = pytest.importorskip("captum.attr", reason="make peers")
    layer = case.layer_module
    maps = public_cams.captum_interpolated(case.model, layer, case.images, case.targets)
    small = library.LayerGradCam(case.model, layer).attribute(case.images, target=case.targets)
    assert maps.shape[2:] == case.images.shape[2:]
    assert set(maps.flatten().tolist()) <= set(small.flatten().tolist())  # nearest neighbours
