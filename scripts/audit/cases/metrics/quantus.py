"""Cases of quantus's metrics."""

import numpy as np
import quantus
import torch
from torch import nn


def measure(metric, images, maps, model=None, targets=None, **more):
    """quantus's values of images (B, C, H, W) and maps (B, 1, H, W), of class 0 by default."""
    targets = np.zeros(len(images), int) if targets is None else targets
    batch = {"x_batch": images, "y_batch": targets, "a_batch": maps, "device": "cpu", "channel_first": True}
    return metric(model=model, **batch, **more)


def pictures(count=1, channels=3, side=4):
    return np.random.rand(count, channels, side, side).astype("float32")


def linear(values, outputs=2):
    """A linear model of so many values of an image."""
    return nn.Sequential(nn.Flatten(), nn.Linear(values, outputs)).eval()


def weighted(*weights):
    """A linear model with these weights and no bias."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(len(weights), 1, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([weights]))
    return model


def quantus_batch_normalised():
    """quantus: by default (normalise, normalise_func) maps are divided by the largest value of all images, so an
    image's value depends on the others.
    """
    maps, values = np.array([[1.0, 0.5, 0.25, 0], [1e6, 0, 0, 0]]).reshape(2, 1, 2, 2), []
    for count in (1, 2):
        metric = quantus.EffectiveComplexity(disable_warnings=True)
        values.append(measure(metric, np.zeros((count, 3, 2, 2)), maps[:count])[0])
        print(f"first of {count}: {values[-1]}")
    return values[0] != values[1]


def quantus_black():
    """quantus: the default baseline "black" is the image's smallest value, so removing every pixel of a white image
    changes nothing.
    """
    model, images = weighted(1.0, 1.0, 1.0, 1.0), np.ones((1, 1, 2, 2), dtype="float32")
    metric = quantus.PixelFlipping(disable_warnings=True)
    curves = measure(metric, images, np.array([[[[4.0, 3], [2, 1]]]]), model, softmax=False)
    print("score of the image:", model(torch.from_numpy(images)).item(), "after 1 to 4 pixels:", curves[0])
    return np.allclose(curves[0], 4)


def quantus_completeness():
    """quantus, Completeness: attributions that add up to the score's loss fail: by default (normalise) they are divided
    by their maximum first, and sums of floats are compared with ==.
    """
    model, images = weighted(0.1, 0.7, 0.2), np.ones((1, 3, 1, 1), dtype="float32")
    maps, values = model[1].weight.detach().double().numpy().reshape(1, 3, 1, 1), []
    for normalise in (True, False):
        metric = quantus.Completeness(normalise=normalise, disable_warnings=True)
        values += measure(metric, images, maps, model, softmax=False)
    print(f"score {model(torch.from_numpy(images)).item()}, sum of the attributions {maps.sum()}: {values}")
    return not any(values)


def quantus_correlation_place():
    """quantus, FaithfulnessCorrelation: subsets are drawn from one generator for the whole batch: an image and its map
    have another value in the second place.
    """
    metric = quantus.FaithfulnessCorrelation(subset_size=4, nr_runs=20, return_aggregate=False, disable_warnings=True)
    twice, maps = pictures().repeat(2, axis=0), pictures(channels=1).repeat(2, axis=0)
    values = measure(metric, twice, maps, linear(48))
    print("twice the same:", np.round(values, 3))
    return abs(values[0] - values[1]) > 0.001


def quantus_effective_complexity_model():
    """quantus, EffectiveComplexity: the number of pixels above 1e-5, as its docstring says, without a run of the model;
    the paper that it cites wants the fewest pixels that keep the prediction.
    """
    maps = np.array([[[[1, 0.5], [0.25, 0]]]])
    values = measure(quantus.EffectiveComplexity(disable_warnings=True), np.zeros((1, 3, 2, 2)), maps, model=None)
    print("without any model:", values)
    return values[0] == 3


def quantus_localisation_weighted():
    """quantus, AttributionLocalisation: weighted by the object's share of all images from the third on, not of its
    own.
    """
    masks, values = np.zeros((4, 1, 2, 2), dtype=int), []
    masks[:, 0, 0] = 1
    maps = masks + 0.001  # all but next to all energy in a mask of half the image
    for count in (3, 4):
        metric = quantus.AttributionLocalisation(weighted=True, disable_warnings=True)
        values.append(measure(metric, np.zeros((count, 1, 2, 2)), maps[:count], s_batch=masks[:count])[0])
        print(f"first of {count}, times its mask's share: {values[-1]:.3f}")
    return abs(values[0] - values[1]) > 0.1


def quantus_mprt_original():
    """quantus, MPRT: the unchanged network counts as a stage of its own, with a correlation of 1, in what is documented
    as an average across the layers. Over one layer, of a map that is turned round by its randomisation, it is 0, not
    -1.
    """
    model, ramp = linear(12), np.arange(4.0).reshape(1, 1, 2, 2)
    weight = model[1].weight.detach().clone()

    def explain(model, inputs, targets, **_):
        return ramp if (model[1].weight == weight).all() else 3 - ramp

    metric = quantus.MPRT(return_average_correlation=True, disable_warnings=True)
    values = measure(metric, pictures(side=2), ramp, model, explain_func=explain)
    print("average over the one layer:", np.round(values, 6))
    return np.allclose(values, 0)


def quantus_pointing_game():
    """quantus, PointingGame: an image without the object is a hit (NaN, written into a column of booleans, is true). So
    is a map that is 1 in all of the image but a corner, wherever the object is: every pixel at the maximum points.
    """
    corners, ones = np.zeros((2, 1, 4, 4), dtype=int), np.ones((2, 1, 4, 4))
    corners[0, 0, 0, 3] = corners[1, 0, 3, 0] = 1  # above on the right, below on the left
    ones[:, 0, 0, 0] = 0
    nothing = corners * np.array([1, 0]).reshape(2, 1, 1, 1)
    game = quantus.PointingGame(disable_warnings=True)
    absent = measure(game, pictures(2), pictures(2, channels=1), s_batch=nothing)
    ties = measure(game, pictures(2), ones, s_batch=corners)
    print("the second mask is empty:", absent)
    print("object above on the right, object below on the left:", ties)
    return bool(absent[1]) and all(ties)


def quantus_raises():
    """quantus: PixelFlipping's area fails with numpy 2.4, which has no trapz. Infidelity fails where the patch doesn't
    divide the image's sides, since pixels are changed in the unpadded image. ROAD fails for an image of three channels
    and a map of one, since pixels are counted in every channel.
    """
    raised = []
    for metric, side, channels in (
        (quantus.PixelFlipping(features_in_step=4, return_auc_per_sample=True, disable_warnings=True), 4, 1),
        (quantus.Infidelity(perturb_patch_sizes=[2], disable_warnings=True), 5, 3),
        (quantus.ROAD(percentages=[50], disable_warnings=True), 4, 1),
    ):
        try:
            measure(metric, pictures(side=side), pictures(channels=channels, side=side), linear(3 * side**2))
        except (AttributeError, IndexError, ValueError) as error:
            raised.append(type(metric).__name__)
            print(f"{raised[-1]}: {type(error).__name__}: {error}")
    return raised == ["PixelFlipping", "Infidelity", "ROAD"]


def quantus_random_logit_place():
    """quantus, RandomLogit: which class is compared depends on the image's place in the batch, and the similarity on
    the map's rows: the SSIM is of a line of pixels.
    """
    model, images, drawn = linear(192, 10), pictures(2, side=8), []
    maps = np.random.RandomState(0).rand(10, 8, 8)

    def explain(model, inputs, targets, **_):
        drawn.append(targets.tolist())
        return maps[targets][:, None]

    def across(model, inputs, targets, **_):
        return maps[targets].transpose(0, 2, 1)[:, None]

    def values(batch, method):
        metric, first = quantus.RandomLogit(num_classes=10, disable_warnings=True), np.zeros(len(batch), int)
        of_first = maps[first] if method is explain else maps[first].transpose(0, 2, 1)
        return measure(metric, batch, of_first[:, None], model, explain_func=method)

    value = values(images, explain)[0]
    values(images[:1], explain)
    values(images[1:], explain)
    other = values(images, across)[0]
    print(f"classes of both images together: {drawn[0]}; of each alone: {drawn[1] + drawn[2]}")
    print(f"of the same maps, and of all maps with rows and columns exchanged: {value:.4f}, {other:.4f}")
    return drawn[0] != drawn[1] + drawn[2] and abs(value - other) > 0.001


def quantus_road_first_batch():
    """quantus, ROAD: the accuracy is that of the first batch; images in the others don't count."""
    model, accuracies = linear(16), []
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))  # class 0 for every image
    for batch_size in (1, 2):
        metric, maps = quantus.ROAD(percentages=[50], disable_warnings=True), pictures(2, channels=1)
        values = measure(metric, pictures(2, channels=1), maps, model, np.array([0, 1]), batch_size=batch_size)
        print(f"one image of two is right; in batches of {batch_size}: {values}")
        accuracies.append(values[50])
    return accuracies == [1, 0.5]


def quantus_sensitivity_n():
    """quantus, SensitivityN: the docstring has subsets drawn uniformly. The score's loss is of all of the map's highest
    pixels so far, the attributions' sum is of the last step's alone, and the correlation is over images. Of a linear
    model and its exact attributions it isn't 1.
    """
    weights = np.array([1.0, 2, 3, 4], dtype="float32")
    images = np.array([[1, 1, 1, 1], [4, 1, 1, 1], [1, 1, 5, 1]], dtype="float32").reshape(3, 1, 2, 2)
    settings = {"n_max_percentage": 1.0, "perturb_baseline": 0.0, "normalise": False, "return_aggregate": False}
    metric = quantus.SensitivityN(disable_warnings=True, **settings)
    values = measure(metric, images, images * weights.reshape(1, 1, 2, 2), weighted(*weights), softmax=False)
    print("1 to 4 pixels removed:", np.round(values, 3))
    return not np.allclose(values, 1)


def quantus_smooth_mprt_explain_func():
    """quantus, SmoothMPRT: requires an explain_func and doesn't call it; maps are those of quantus.explain, by default
    of the gradient.
    """
    calls = []

    def explain(model, inputs, targets, **_):
        calls.append(len(inputs))
        return np.random.rand(*inputs.shape)

    metric = quantus.SmoothMPRT(nr_samples=2, return_last_correlation=True, disable_warnings=True)
    values = measure(metric, pictures(), None, linear(48), explain_func=explain)
    print(f"calls of explain_func: {len(calls)}; a value all the same: {np.isfinite(values).all()}")
    return not calls


def quantus_ties():
    """quantus: pixels are sorted by an unstable sort, and the order of pixels of equal value doesn't come from the
    image: after a ReLU, which of the zeros count as highest depends on their number.
    """
    shares = []
    for side in (4, 32):
        maps, masks = np.zeros((1, 1, side, side)), np.zeros((1, 1, side, side), dtype=int)
        maps[0, 0, -1, -1] = 1  # every other pixel is 0
        masks[0, 0, 0] = 1  # the first row
        metric = quantus.TopKIntersection(k=4, disable_warnings=True)
        shares += measure(metric, np.zeros((1, 3, side, side)), maps, s_batch=masks)
        print(f"{side} x {side}: of the pixels that rank second to fourth, {4 * shares[-1]:g} are in the first row")
    return shares[0] != shares[1]
