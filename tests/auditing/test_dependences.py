"""Each dependence that an audit reports: an implementation that has it, and a clean one that
doesn't. The code of every finding reproduces it.
"""

import pytest
import torch

from axiom_bench.auditing.dependences import DEPENDENCES, find_dependences
from axiom_bench.isolation.global_state import restored_global_state
from tests.auditing.implementations import activations_and_logits, grad_cam, seeded_case
from tests.auditing.test_effects import run

pytestmark = pytest.mark.usefixtures("few_objects_to_collect")


def normalised_over_the_batch(model, layer, images, targets):
    maps = grad_cam(model, layer, images, targets)
    return maps / maps.max()


def of_the_first_image(model, layer, images, targets):
    maps = grad_cam(model, layer, images, targets)
    return maps + maps[:1]


def of_the_predicted_class(model, layer, images, targets):
    with torch.no_grad():
        predicted = model(images).argmax(1)
    return grad_cam(model, layer, images, predicted)


def of_the_image_only(model, layer, images, targets):
    return images.sum(1)


def of_the_weights_only(model, layer, images, targets):
    return grad_cam(model, layer, torch.ones_like(images), targets)


def constant(model, layer, images, targets):
    return grad_cam(model, layer, images, targets).mean((1, 2), keepdim=True).expand(-1, 12, 12)


def drawn(model, layer, images, targets):
    maps = grad_cam(model, layer, images, targets)
    return maps + 0.1 * maps.abs().max() * torch.rand_like(maps)


def in_the_callers_mode(model, layer, images, targets):
    F, logits = activations_and_logits(model, layer, images)
    (gradients,) = torch.autograd.grad(logits[torch.arange(len(images)), targets].sum(), F)
    return (gradients.mean((2, 3), keepdim=True) * F).sum(1).detach()


def in_half_precision_only_zeros(model, layer, images, targets):
    maps = grad_cam(model, layer, images, targets)
    return maps * 0 if maps.dtype == torch.bfloat16 else maps


def without_half_precision(model, layer, images, targets):
    maps = grad_cam(model, layer, images, targets)
    return torch.from_numpy(maps.numpy())


def for_contiguous_images(model, layer, images, targets):
    images.view(len(images), -1)
    return grad_cam(model, layer, images, targets)


def removing_hooks(model, layer, images, targets):
    layer._forward_hooks.clear()
    return grad_cam(model, layer, images, targets)


def refusing_hooks(model, layer, images, targets):
    if layer._forward_hooks:
        raise RuntimeError("the layer has hooks")
    return grad_cam(model, layer, images, targets)


EXAMPLES = [
    (normalised_over_the_batch, "batch_mates", "If each image is explained alone, the maps change"),
    (of_the_first_image, "order", "If the images are in another order, the maps change"),
    (of_the_predicted_class, "class", "The maps ignore the class"),
    (of_the_image_only, "weights", "The maps ignore the weights"),
    (of_the_weights_only, "image", "The maps ignore the image"),
    (constant, "constant_map", "Every map is constant"),
    (drawn, "draws", "If the call is repeated with another seed, the maps change"),
    (in_the_callers_mode, "train_mode", "in train mode and has dropout, the maps change"),
    (in_the_callers_mode, "no_grad", "Inside torch.no_grad(), the call raises RuntimeError"),
    (in_the_callers_mode, "inference_mode", "Inside torch.inference_mode(), the call raises"),
    (without_half_precision, "half_precision", "In bfloat16, the call raises TypeError"),
    (in_half_precision_only_zeros, "half_precision", "In bfloat16, the maps change by up to 100 %"),
    (for_contiguous_images, "channels_last", "In the memory format channels_last, the call raises"),
    (removing_hooks, "other_hooks", "If the layer has other hooks, the call removes them."),
    (refusing_hooks, "other_hooks", "If the layer has other hooks, the call raises RuntimeError"),
]
WITHOUT_EXAMPLE = {"device"}  # needs a GPU


@pytest.mark.parametrize(
    ("cam", "key", "text"), EXAMPLES, ids=[f"{cam.__name__}-{key}" for cam, key, _ in EXAMPLES]
)
def test_dependence_is_found_and_its_code_reproduces_it(cam, key, text):
    findings = {finding.key: finding for finding in find_dependences(cam, seeded_case())}
    assert key in findings
    assert text in findings[key].sentence
    with restored_global_state(), pytest.raises((AssertionError, RuntimeError, TypeError)):
        run(findings[key].code, cam)
    with restored_global_state():
        run(findings[key].code, grad_cam)


def test_every_dependence_has_an_example():
    keys = {key for _, key, _ in EXAMPLES}
    listed = {dependence.key for dependence in DEPENDENCES}
    assert listed | {"constant_map"} == keys | WITHOUT_EXAMPLE


def test_a_clean_implementation_depends_on_nothing_else():
    assert find_dependences(grad_cam, seeded_case()) == []


def test_maps_of_zeros_prove_nothing_about_class_weights_and_image():
    def zeros(model, layer, images, targets):
        return torch.zeros_like(images[:, 0])

    (finding,) = find_dependences(zeros, seeded_case())
    assert finding.key == "constant_map"


def test_an_implementation_that_fails_on_the_case_has_no_dependences():
    def cam(model, layer, images, targets):
        raise ValueError("no maps")

    assert find_dependences(cam, seeded_case()) == []
