"""CAM implementations of many forms, called as one function: libraries' classes, odd signatures and
answers, options, paths, and mistakes with their messages.
"""

import numpy as np
import pytest
import torch
from torch import nn

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.cam_forms import FORMS, is_cam
from axiom_bench.evaluation.cam_function import TinyNetwork, as_cam_function
from axiom_bench.isolation.global_state import read_global_state

IMAGES = torch.randn(3, 3, 10, 14, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 3, 1])


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return TinyNetwork().eval()


def grad_cam(model, layer, images, targets):
    """Return Grad-CAM's raw maps."""
    outputs = []
    handle = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    logits = model(images)
    handle.remove()
    (gradients,) = torch.autograd.grad(logits[range(len(images)), targets].sum(), outputs[0])
    return (gradients.mean((2, 3), keepdim=True) * outputs[0]).sum(1).detach()


# Odd forms: the order and names of parameters, the layer, the classes, the images and the answer.


def by_name(net, x, layer_name, class_idx):
    """Take one image and the layer's name, and return an array without an axis of images."""
    (image,) = x
    layer = dict(net.named_modules())[layer_name]
    return grad_cam(net, layer, image[None], [int(class_idx)])[0].numpy()


def of_unnamed(first, second, third, fourth):
    return grad_cam(first, second, third, fourth)[:, None]


def of_list(model, target_layers, input_tensor, targets):
    return [row.numpy() for row in grad_cam(model, target_layers[0], input_tensor, targets)]


def of_image(model, target_layer, image, target):
    """Take one image (3, H, W) and an integer, and return a dict."""
    if image.ndim != 3:
        raise ValueError("one image (3, H, W), please")
    maps = grad_cam(model, target_layer, image[None], [target])
    return {"class": target, "cam": maps[0, ..., None].numpy()}


def of_class_sum(model, layer, images, class_index):
    """Explain the sum of the classes that it gets for every image: right for one integer only."""
    outputs = []
    handle = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    score = model(images)[:, class_index].sum()
    handle.remove()
    (gradients,) = torch.autograd.grad(score, outputs[0])
    return (gradients.mean((2, 3), keepdim=True) * outputs[0]).sum(1).detach()


class WithScores:
    """Return the maps and the logits, as the first public implementations do."""

    def __init__(self, model, target_layer):
        self.model = model
        self.layer = target_layer

    def __call__(self, input, class_idx=None):
        maps = grad_cam(self.model, self.layer, input, [class_idx])
        return maps[:, None], self.model(input)


class Generating:
    """Compute in a method, with contributions per channel as the answer."""

    def __init__(self, network, layer_name):
        self.network = network
        self.layer = network.get_submodule(layer_name)

    def generate(self, images, labels):
        maps = grad_cam(self.network, self.layer, images, labels)
        return torch.stack([maps / 4, maps * 3 / 4], 1)


class Calling:
    """An object, not a class."""

    def __call__(self, model, layer, images, targets):
        return grad_cam(model, layer, images, targets).tolist()


def of_keywords(*, images, targets, model, layer, scale=1.0):
    return grad_cam(model, layer, images, targets) * scale


def of_any_arguments(*args, **kwargs):
    return grad_cam(*args, **kwargs)


def of_any_keywords(**kwargs):
    return grad_cam(**kwargs)


class OfAnyArguments:
    """A decorated class: it says nothing about its arguments."""

    def __init__(self, *args, **kwargs):
        self.arguments = args

    def __call__(self, *args, **kwargs):
        return grad_cam(*self.arguments, *args, **kwargs)


ODD_FORMS = [
    (of_any_arguments, "model_layer_images_targets"),
    (of_any_keywords, "model_layer_images_targets"),
    (OfAnyArguments, "class"),
    (by_name, "model_layer_images_targets"),
    (of_unnamed, "model_layer_images_targets"),
    (of_list, "model_layer_images_targets"),
    (of_image, "model_layer_images_targets"),
    (of_class_sum, "model_layer_images_targets"),
    (WithScores, "class"),
    (Generating, "class"),
    (Calling(), "model_layer_images_targets"),
    (of_keywords, "model_layer_images_targets"),
]


@pytest.mark.parametrize(("implementation", "form"), ODD_FORMS)
def test_odd_forms_give_the_maps(implementation, form, model):
    cam = as_cam_function(implementation)
    assert cam.form.name == form
    layer = model.activation
    expected = grad_cam(model, layer, IMAGES, TARGETS)
    actual = cam(model, layer, IMAGES, TARGETS).float()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-7)
    one = cam(model, layer, IMAGES[:1], TARGETS[:1]).float()
    torch.testing.assert_close(one, expected[:1], rtol=1e-4, atol=1e-7)


def test_implementation_that_knows_its_layer(model):
    def cam(model, images):
        return grad_cam(model, model.pool_of_this_network_only, images, model(images).argmax(1))

    model.pool_of_this_network_only = model.activation
    cam_function = as_cam_function(cam)
    assert cam_function.form.name == "model_images"
    assert not cam_function.form.parameter_of("layer")
    predicted = model(IMAGES).argmax(1)
    actual = cam_function(model, model.activation, IMAGES, TARGETS)
    torch.testing.assert_close(actual, grad_cam(model, model.activation, IMAGES, predicted))
    del model.pool_of_this_network_only


def test_the_form_of_variadic_parameters_is_found_by_trying(model):
    def cam(*args):
        network, images = args
        return grad_cam(network, network.activation, images, network(images).argmax(1))

    cam_function = as_cam_function(cam)
    assert cam_function.form.name == "model_images"
    predicted = model(IMAGES).argmax(1)
    actual = cam_function(model, model.activation, IMAGES, TARGETS)
    torch.testing.assert_close(actual, grad_cam(model, model.activation, IMAGES, predicted))


def library_class(library, name):
    import axiom_bench.data.torchvision_import  # noqa: F401 - the libraries need it

    return getattr(pytest.importorskip(library, reason="make peers"), name)


def normalised(maps):
    """Return the maps after ReLU and min-max scaling."""
    maps = maps.relu()
    maps = maps - maps.amin((1, 2), keepdim=True)
    return (maps / maps.amax((1, 2), keepdim=True)).nan_to_num()


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("pytorch_grad_cam", "GradCAM"),
        ("torchcam.methods", "GradCAM"),
        ("captum.attr", "LayerGradCam"),
    ],
)
def test_classes_of_the_three_libraries(library, name, model):
    cam = as_cam_function(library_class(library, name))
    assert cam.form.name == "class"
    actual = cam(model, model.activation, IMAGES, TARGETS).detach()
    expected = grad_cam(model, model.activation, IMAGES, TARGETS)
    if library == "captum.attr":  # signed and unscaled
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-7)
        return
    # grad-cam and torchcam add 1e-7 and 1e-8 to divisors
    torch.testing.assert_close(actual.float(), normalised(expected), rtol=0, atol=1e-2)


def test_library_form_can_be_given(model):
    cam = as_cam_function(library_class("captum.attr", "LayerGradCam"), form="class")
    assert cam(model, model.activation, IMAGES, TARGETS).shape == (3, 10, 14)


def test_options_go_to_the_class_or_the_call(model):
    library = library_class("captum.attr", "LayerGradCam")
    relu = as_cam_function(library, {"relu_attributions": True})
    maps = relu(model, model.activation, IMAGES, TARGETS)
    expected = grad_cam(model, model.activation, IMAGES, TARGETS).relu()
    torch.testing.assert_close(maps.detach(), expected, rtol=1e-4, atol=1e-7)

    scaled = as_cam_function(of_keywords, {"scale": 2.0})
    maps = scaled(model, model.activation, IMAGES, TARGETS)
    expected = 2 * grad_cam(model, model.activation, IMAGES, TARGETS)
    torch.testing.assert_close(maps, expected)


def test_paths(tmp_path, monkeypatch, model):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "team_forms.py").write_text(
        "def cam(model, layer, images, targets):\n    return images.mean(1)\n"
    )
    file = f"{tmp_path / 'team_forms.py'}:cam"
    for path in ("team_forms:cam", "team_forms.cam", file):
        maps = as_cam_function(path)(model, model.activation, IMAGES, TARGETS)
        assert torch.equal(maps, IMAGES.mean(1))


def test_a_trial_leaves_no_trace(capsys):
    def cam(model, layer, images, targets):
        print("hello")
        torch.rand(1)
        np.random.rand()
        torch.set_default_dtype(torch.float64)
        return images.sum(1)

    before = read_global_state()
    as_cam_function(cam)
    after = read_global_state()
    assert torch.equal(after["torch_random_state"], before["torch_random_state"])
    assert after["default_dtype"] == torch.float32
    assert capsys.readouterr().out == ""


# Reports about other wrappers: a batch with one class object explained only the first image
# (pytorch-grad-cam 264 and 420), a layer was taken by its name only (torch-cam 81), and the names
# of parameters changed between versions (pytorch-grad-cam 158 and 244).


def test_every_image_of_a_batch_is_explained(model):
    cam = as_cam_function(library_class("pytorch_grad_cam", "GradCAM"))
    maps = cam(model, model.activation, IMAGES, TARGETS)
    expected = grad_cam(model, model.activation, IMAGES, TARGETS).flatten(1).amax(1) > 0
    assert expected.sum() == 2
    assert torch.equal(maps.flatten(1).amax(1) > 0, expected)


def test_layer_by_its_name_inside_another_module(model):
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, images):
            return self.inner(images)

    cam = as_cam_function(Generating)
    maps = cam(Wrapper(), model.activation, IMAGES, TARGETS)
    expected = grad_cam(model, model.activation, IMAGES, TARGETS)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-7)


def test_names_of_an_older_version(model):
    class Older:
        def __init__(self, model, target_layer, use_cuda=False):
            self.model = model
            self.layer = target_layer

        def __call__(self, input_tensor, target_category=None, eigen_smooth=False):
            if not isinstance(target_category, list):
                target_category = [target_category] * len(input_tensor)
            maps = grad_cam(self.model, self.layer, input_tensor, target_category)
            return maps.numpy()

    cam = as_cam_function(Older)
    maps = cam(model, model.activation, IMAGES, TARGETS)
    expected = grad_cam(model, model.activation, IMAGES, TARGETS)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-7)


# Mistakes


def of_pictures(model, layer, images, targets):
    maps = grad_cam(model, layer, images, targets)
    return maps[..., None].expand(*maps.shape, 3).numpy()


def of_logits(model, layer, images, targets):
    return model(images)


def failing(model, layer, images, targets):
    raise KeyError("no such layer\nin any model")


def of_path(path):
    return path


def of_unusable_arguments(*args, **kwargs):
    raise TypeError("give a file")


@pytest.mark.parametrize(
    ("implementation", "message"),
    [
        (
            of_path,
            r"'of_path' is defined as of_path\(path\), which fits no form of a CAM\. Write a",
        ),
        (
            of_unusable_arguments,
            r"defined as of_unusable_arguments\(\*args, \*\*kwargs\), was called on a tiny network "
            r"as cam\(model, layer, images, targets\) and raised TypeError: give a file\. Write a",
        ),
        (failing, r"called on a tiny network as cam\(model, .*raised KeyError: 'no such layer"),
        (
            of_pictures,
            r"of_pictures returned pictures \(2, 12, 12, 3\); return the maps \(B, h, w\)",
        ),
        (of_logits, r"of_logits returned shape \(2, 5\) for 2 images; return maps \(B, h, w\)"),
        ("math:sqrt", r"'math:sqrt' is defined as sqrt\(x\), which fits no form"),
        ("no_module:cam", r"CAM='no_module:cam' can't be imported .*; give MODULE:NAME or FILE"),
        ("math:cam", r"There is no function 'cam' in math"),
        (7, r"A CAM is a function, an object or a class, not 7; give MODULE:NAME"),
    ],
)
def test_mistakes(implementation, message):
    with pytest.raises(BenchError, match=message) as error:
        as_cam_function(implementation)
    assert "\n" not in str(error.value)


def test_message_lists_all_forms_and_what_to_type():
    with pytest.raises(BenchError) as error:
        as_cam_function(of_path)
    assert "form: model_layer_images_targets (--form model_layer_images_targets)" in str(
        error.value
    )
    for form, details in FORMS.items():
        assert f"{form}: {details.example}" in str(error.value)


def test_the_advised_form_is_followed(model):
    def cam(data, part, pictures, numbers, more=1):
        return grad_cam(data, part, pictures, numbers)

    maps = as_cam_function(cam, form="model_layer_images_targets")(
        model, model.activation, IMAGES, TARGETS
    )
    torch.testing.assert_close(maps, grad_cam(model, model.activation, IMAGES, TARGETS))


def test_unknown_form_and_option():
    with pytest.raises(BenchError, match="no form of a CAM 'clas'; did you mean 'class'"):
        as_cam_function(of_keywords, form="clas")
    with pytest.raises(BenchError, match="doesn't fit the form class"):
        as_cam_function(of_keywords, form="class")
    with pytest.raises(BenchError, match="no option 'scal' of of_keywords; did you mean 'scale'"):
        as_cam_function(of_keywords, {"scal": 1})


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (grad_cam, True),
        (WithScores, True),
        (lambda trace: trace, False),
        (lambda trace, model="resnet18": trace, False),
        (lambda batch, network=None: batch, False),
        (of_unnamed, False),  # its names say nothing, so that its form must be given
    ],
)
def test_a_method_of_a_trace_is_no_cam(function, expected):
    assert is_cam(function) is expected
