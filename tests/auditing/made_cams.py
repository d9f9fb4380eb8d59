"""CAM implementations that are made by changing the usual ones, as plain torch code with hooks.

`SINGLE` has one change of the usual heatmap each, and `COMBINED` several. The expected changes are
the names of switches in `auditing.readings`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as functional

from axiom_bench.auditing.case import CamFunction


@dataclass(frozen=True)
class MadeCam:
    """An implementation, the key of the method that it computes, and its changes."""

    function: CamFunction
    formula: str
    changes: tuple[str, ...]


def hooked(model, layer, images, score):
    """Return the layer's output and the gradient of a score of the logits (B, C)."""
    kept = []
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    logits = model(images)
    handle.remove()
    (gradients,) = torch.autograd.grad(score(logits), kept[0])
    return kept[0].detach(), gradients


def of_class(change=lambda logits: logits, reduce=torch.sum):
    """Return the score that sums a function of the logits over the images' classes."""
    return lambda targets: lambda logits: reduce(change(logits).gather(1, targets[:, None]))


LOGIT = of_class()
BILINEAR: Mapping[str, object] = {"mode": "bilinear", "align_corners": False}


def grad_weights(activations, gradients):
    return gradients.mean((2, 3), keepdim=True)


def xgrad_weights(activations, gradients, epsilon=0.0):
    sums = activations.sum((2, 3), keepdim=True)
    magnitude = activations.abs().sum((2, 3), keepdim=True)
    totals = (gradients * activations).sum((2, 3), keepdim=True)
    if epsilon:
        return totals / (sums + epsilon)
    cancels = sums.abs() <= 1e-6 * magnitude
    return torch.where(cancels, 0, totals / torch.where(cancels, 1, sums))


def grad_cam_pp_weights(activations, gradients):
    sums = activations.sum((2, 3), keepdim=True)
    denominator = 2 * gradients**2 + sums * gradients**3
    is_zero = denominator.abs() < 1e-300
    alpha = torch.where(is_zero, 0, gradients**2 / torch.where(is_zero, 1, denominator))
    return (alpha * gradients.relu()).sum((2, 3), keepdim=True)


def undivided_weights(activations, gradients):
    return gradients.relu().pow(3).sum((2, 3), keepdim=True)


def product_weights(activations, gradients, epsilon=1e-7):
    """Return Grad-CAM++'s weights as many repositories compute them."""
    products = (activations * gradients**3).sum((2, 3), keepdim=True)
    alpha = gradients**2 / (2 * gradients**2 + products + epsilon)
    return (alpha * gradients.relu()).sum((2, 3), keepdim=True)


def padded_weights(activations, gradients, epsilon=1e-6):
    """Return Grad-CAM++'s weights with an epsilon in alpha's denominator."""
    sums = activations.sum((2, 3), keepdim=True)
    alpha = gradients**2 / (2 * gradients**2 + sums * gradients**3 + epsilon)
    return (alpha * gradients.relu()).sum((2, 3), keepdim=True)


def hires_weights(activations, gradients):
    return gradients


def layer_weights(activations, gradients):
    return gradients.relu()


def resize(maps, size, options=BILINEAR):
    return functional.interpolate(maps[:, None], tuple(size), **options)[:, 0]


def by_maximum(maps, epsilon=0.0):
    return maps / (maps.amax((1, 2), keepdim=True) + epsilon).clamp(min=1e-30)


def by_min_max(maps, epsilon=0.0):
    return by_maximum(maps - maps.amin((1, 2), keepdim=True), epsilon)


def reversed_min_max(maps):
    return 1 - by_min_max(maps)


def by_batch(maps):
    return maps / maps.max()


def cam(
    weights=grad_weights,
    score=LOGIT,
    gradients_change=lambda gradients: gradients,
    activations_change=lambda activations: activations,
    weights_change=lambda weights: weights,
    combine_with=lambda activations, gradients: activations,
    combine=lambda contributions: contributions.sum(1),
    finish: Callable = lambda raw, size: by_maximum(resize(raw.relu(), size)),
    choose=lambda model, images, targets: targets,
    find_layer=lambda model, layer: layer,
    add=lambda raw, model, targets: raw,
) -> CamFunction:
    """Return a CAM whose steps are the usual ones unless they are given."""

    def function(model, layer, images, targets):
        targets = choose(model, images, targets)
        layer = find_layer(model, layer)
        activations, gradients = hooked(model, layer, images, score(targets))
        activations = activations_change(activations)
        gradients = gradients_change(gradients)
        channel_weights = weights_change(weights(activations, gradients))
        raw = combine(channel_weights * combine_with(activations, gradients))
        return finish(add(raw, model, targets), images.shape[2:])

    return function


def predicted(model, images, targets):
    return model(images).argmax(1)


def stem(model, layer):
    return model.stem


def batch_mean(values):
    return values.mean(0, keepdim=True)


def add_bias(raw, model, targets):
    return raw + model.head[-1].bias.detach()[targets][:, None, None]


def finish_with(normalise=by_maximum, rectify=torch.relu, options=BILINEAR):
    return lambda raw, size: normalise(resize(rectify(raw), size, options))


def softmax(logits):
    return logits.softmax(1)


def log_softmax(logits):
    return logits.log_softmax(1)


def normalised_alpha_weights(activations, gradients):
    positive = gradients.relu()
    sums = positive.sum((2, 3), keepdim=True)
    alpha = torch.where(positive > 0, 1 / sums, 0)
    return (positive * alpha).sum((2, 3), keepdim=True)


def guided_cam(model, layer, images, targets):
    """Return Grad-CAM's maps of positive gradients at positive activations."""
    activations, gradients = hooked(model, layer, images, of_class(softmax)(targets))
    guided = (activations > 0) * (gradients > 0) * gradients
    raw = (grad_weights(activations, guided) * activations).sum(1)
    return by_min_max(resize(raw, images.shape[2:]))


def raw_relu(raw, size):
    return raw.relu()


def squared_error(targets):
    return lambda logits: (softmax(logits) - functional.one_hot(targets, 5)).square().sum()


def loss(targets):
    return lambda logits: functional.cross_entropy(logits, targets)


SINGLE = {
    "softmax": MadeCam(cam(score=of_class(softmax)), "grad_cam", ("softmax score",)),
    "log_softmax": MadeCam(cam(score=of_class(log_softmax)), "grad_cam", ("log-softmax score",)),
    "loss": MadeCam(cam(score=loss), "grad_cam", ("cross-entropy loss",)),
    # of a formula without a factor per image, which a normalised Grad-CAM has
    "sigmoid": MadeCam(
        cam(grad_cam_pp_weights, score=of_class(torch.sigmoid)), "grad_cam_pp", ("sigmoid score",)
    ),
    "relu_gradients": MadeCam(
        cam(gradients_change=torch.relu), "grad_cam", ("ReLU of the gradients",)
    ),
    "absolute_gradients": MadeCam(
        cam(gradients_change=torch.abs), "grad_cam", ("absolute gradients",)
    ),
    "batch_gradients": MadeCam(
        cam(gradients_change=batch_mean), "grad_cam", ("weights averaged over the batch",)
    ),
    "batch_score": MadeCam(
        cam(grad_cam_pp_weights, score=of_class(reduce=torch.mean)),
        "grad_cam_pp",
        ("score averaged over the batch",),
    ),
    "relu_activations": MadeCam(
        cam(activations_change=torch.relu), "grad_cam", ("ReLU of the activations",)
    ),
    "layer_input": MadeCam(cam(find_layer=stem), "grad_cam", ("the layer's input",)),
    "relu_weights": MadeCam(cam(weights_change=torch.relu), "grad_cam", ("ReLU of the weights",)),
    "relu_channels": MadeCam(
        cam(combine=lambda contributions: contributions.relu().sum(1)),
        "grad_cam",
        ("ReLU before the sum over channels",),
    ),
    "absolute": MadeCam(
        cam(finish=finish_with(rectify=torch.abs)), "grad_cam", ("absolute value",)
    ),
    "epsilon": MadeCam(
        cam(lambda F, g: xgrad_weights(F, g, 1e-7)),
        "xgrad_cam",
        ("epsilon 1e-07 in the sum of a channel",),
    ),
    "bias": MadeCam(cam(add=add_bias), "grad_cam", ("bias of the head added",)),
    "min_max": MadeCam(
        cam(hires_weights, finish=finish_with(by_min_max)), "hires_cam", ("min-max",)
    ),
    "batch_maximum": MadeCam(
        cam(finish=finish_with(by_batch)), "grad_cam", ("divided by the batch's maximum",)
    ),
    "nearest": MadeCam(
        cam(xgrad_weights, finish=finish_with(options={"mode": "nearest"})),
        "xgrad_cam",
        ("nearest interpolation",),
    ),
    "aligned": MadeCam(
        cam(finish=finish_with(options={"mode": "bilinear", "align_corners": True})),
        "grad_cam",
        ("align_corners=True",),
    ),
    "predicted": MadeCam(cam(choose=predicted), "grad_cam", ("the predicted class",)),
}

COMBINED = {
    "softmax_min_max": MadeCam(
        cam(score=of_class(softmax), finish=finish_with(lambda maps: by_min_max(maps, 1e-8))),
        "grad_cam",
        ("softmax score", "min-max", "epsilon 1e-08 in the normalisation"),
    ),
    "raw": MadeCam(
        cam(hires_weights, finish=lambda raw, size: raw),
        "hires_cam",
        ("no ReLU", "not normalised"),
    ),
    "early_min_max": MadeCam(
        cam(layer_weights, finish=lambda raw, size: resize(by_min_max(raw.relu()), size)),
        "layer_cam",
        ("normalised before resizing", "min-max"),
    ),
    "summed_raw": MadeCam(
        cam(
            lambda F, g: g.sum((2, 3), keepdim=True),
            finish=lambda raw, size: resize(raw.relu(), size),
        ),
        "grad_cam",
        ("not normalised, sum instead of mean over positions",),
    ),
    "bicubic_late_relu": MadeCam(
        cam(
            xgrad_weights,
            finish=lambda raw, size: by_maximum(
                resize(raw, size, {"mode": "bicubic", "align_corners": False}).relu()
            ),
        ),
        "xgrad_cam",
        ("ReLU after resizing", "bicubic interpolation"),
    ),
    "relu_gradients_softmax": MadeCam(
        cam(score=of_class(softmax), gradients_change=torch.relu),
        "grad_cam",
        ("softmax score", "ReLU of the gradients"),
    ),
    "predicted_nearest": MadeCam(
        cam(
            layer_weights,
            choose=predicted,
            finish=finish_with(options={"mode": "nearest"}),
        ),
        "layer_cam",
        ("the predicted class", "nearest interpolation"),
    ),
    "transposed_min_max": MadeCam(
        cam(finish=lambda raw, size: by_min_max(resize(raw.relu().mT, size))),
        "grad_cam",
        ("transposed axes", "min-max"),
    ),
    "log_softmax_pp": MadeCam(
        cam(grad_cam_pp_weights, score=of_class(log_softmax), finish=finish_with(by_min_max)),
        "grad_cam_pp",
        ("log-softmax score", "min-max"),
    ),
    "absolute_batch": MadeCam(
        cam(xgrad_weights, finish=finish_with(by_batch, rectify=torch.abs)),
        "xgrad_cam",
        ("absolute value", "divided by the batch's maximum"),
    ),
}

# Changes that were added after the thirty.
FURTHER = {
    "summed_bias": MadeCam(
        cam(lambda F, g: g.sum((2, 3), keepdim=True), add=add_bias),
        "grad_cam",
        ("bias of the head added to the sum over positions",),
    ),
    # as in tf-explain's default, about which sicara/tf-explain#146 asks
    "guided": MadeCam(
        guided_cam,
        "grad_cam",
        ("softmax score", "guided gradients", "no ReLU", "min-max"),
    ),
    # sums that begin with ones: utkuozbulak/pytorch-cnn-visualizations#66
    "ones": MadeCam(
        cam(add=lambda raw, model, targets: raw + 1), "grad_cam", ("1 added to the map",)
    ),
    # a Grad-CAM++ of which yizt/Grad-CAM.pytorch#35 says that all weights are 1
    "alpha_normalised": MadeCam(
        cam(normalised_alpha_weights, finish=finish_with(by_min_max)),
        "grad_cam_pp",
        ("alpha divided by the sum of positive gradients", "min-max"),
    ),
    # salesforce/LAVIS#789 asks about the ReLU of the gradients, and #809 changes it to this
    "relu_of_gradients_in_lavis": MadeCam(
        cam(
            layer_weights,
            combine=lambda contributions: contributions.mean(1),
            finish=lambda raw, size: raw,
        ),
        "layer_cam",
        ("no ReLU", "not normalised, mean over channels"),
    ),
    "relu_of_products_in_lavis": MadeCam(
        cam(
            hires_weights,
            combine=lambda contributions: contributions.relu().mean(1),
            finish=lambda raw, size: raw,
        ),
        "grad_cam_elementwise",
        ("not normalised, mean over channels",),
    ),
    # 1Konny/gradcam_plus_plus-pytorch#2 asks about the denominator
    "products_in_1konny": MadeCam(
        cam(product_weights, finish=finish_with(by_min_max)),
        "grad_cam_pp",
        ("products summed in alpha, epsilon 1e-07 in alpha", "min-max"),
    ),
    # jacobgil/pytorch-grad-cam#149 asks for the ReLU, which comes after a min-max
    "late_relu_in_pytorch_grad_cam": MadeCam(
        cam(finish=lambda raw, size: by_min_max(resize(by_min_max(raw, 1e-7), size).relu())),
        "grad_cam",
        ("no ReLU", "min-max"),
    ),
    # keisen/tf-keras-vis#88: it was named LayerCAM
    "pooled_layer_cam": MadeCam(
        cam(gradients_change=torch.relu, finish=finish_with(lambda maps: by_min_max(maps, 1e-7))),
        "grad_cam",
        ("ReLU of the gradients", "min-max", "epsilon 1e-07 in the normalisation"),
    ),
    # insikk/Grad-CAM-tensorflow#4 asks about the score
    "squared_error": MadeCam(
        cam(score=squared_error, finish=lambda raw, size: resize(by_maximum(raw.relu()), size)),
        "grad_cam",
        ("squared error", "normalised before resizing"),
    ),
    # stony-hub/learning_without_memorizing#4 asks what the weights are multiplied with
    "gradients_as_activations": MadeCam(
        cam(combine_with=lambda activations, gradients: gradients, finish=raw_relu),
        "grad_cam",
        ("gradients instead of activations", "not normalised"),
    ),
    # hermosayhl/CNN#3 says that the weights are means of the activations
    "activations_as_gradients": MadeCam(
        cam(lambda F, g: F.mean((2, 3), keepdim=True)),
        "grad_cam",
        ("activations instead of gradients",),
    ),
    "reversed": MadeCam(
        cam(finish=finish_with(reversed_min_max)), "grad_cam", ("min-max, reversed",)
    ),
    "reversed_softmax": MadeCam(
        cam(
            hires_weights,
            score=of_class(softmax),
            finish=lambda raw, size: resize(reversed_min_max(raw.relu()), size),
        ),
        "hires_cam",
        ("softmax score", "normalised before resizing", "min-max, reversed"),
    ),
    "alpha_epsilon": MadeCam(
        cam(padded_weights, finish=finish_with(by_min_max)),
        "grad_cam_pp",
        ("epsilon 1e-06 in alpha", "min-max"),
    ),
    "alpha_products": MadeCam(
        cam(product_weights, score=of_class(softmax)),
        "grad_cam_pp",
        ("softmax score", "products summed in alpha, epsilon 1e-07 in alpha"),
    ),
    "alpha_undivided": MadeCam(
        cam(undivided_weights), "grad_cam_pp", ("alpha without its division",)
    ),
}
