"""Cases of grad-cam's methods."""

import gc
import inspect

import numpy as np
import pytorch_grad_cam as library
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import nn
from torch.nn.functional import interpolate
from torchcam.methods import GradCAM as TorchcamGradCAM

FIRST = [ClassifierOutputTarget(0)]


class Sums(nn.Module):
    def forward(self, maps):
        return maps.sum((2, 3))


class Watching(nn.Module):
    def __init__(self):
        super().__init__()
        self.inputs = []

    def forward(self, maps):
        self.inputs.append(maps.clone())
        return maps


def network(activation=nn.ReLU):
    return nn.Sequential(nn.Conv2d(3, 3, 1), activation(), nn.Flatten(), nn.Linear(12, 2)).eval()


def of_layer(channels):
    return nn.Sequential(nn.Identity(), nn.Conv2d(channels, channels, 1), Sums()).eval()


def recording(extractor):
    class Recording(extractor):
        def get_cam_weights(self, *arguments):
            self.weights = super().get_cam_weights(*arguments)
            return self.weights

        def get_cam_image(self, *arguments):
            self.raw = super().get_cam_image(*arguments)
            return self.raw

    return Recording


def grad_cam_ablation_batch():
    """grad-cam, AblationCAM: where the layer's minimum isn't 0, the value of an ablated channel depends on its place in
    the batch of ablations, and so the weights on batch_size.

    Class: defect
    Ours: w_k = (S - S_k) / S, S_k the score with F_k = 0 (Ablation-CAM): no batch in it.
    Photographs: ablation_cam@pytorch_grad_cam
    """
    model, weights = network(nn.Sigmoid), []
    images = torch.rand(1, 3, 2, 2)
    for batch_size in (1, 3):
        cam = recording(library.AblationCAM)(model, [model[1]], batch_size=batch_size)
        cam(images, FIRST)
        weights.append(cam.weights)
        print(f"batch_size={batch_size}: weights {cam.weights[0]}")
    return not (weights[0] == weights[1]).all()


def grad_cam_ablation_exception():
    """grad-cam, AblationCAM: an error during the ablations leaves its AblationLayer in the user's model.

    Class: defect
    Ours: The user's model is never edited.
    Theirs: grad-cam pytorch_grad_cam/ablation_cam.py: When we finish, we will replace it back, so the original model is
        unchanged.
    """
    model, outputs = network(), []

    def target(output):
        outputs.append(output)
        if len(outputs) > 1:  # the first is the image's own
            raise RuntimeError("out of memory, say")
        return output[0]

    try:
        with library.AblationCAM(model, [model[1]]) as cam:
            cam(torch.rand(1, 3, 2, 2), [target])
    except RuntimeError:
        print("the model's second layer is now", type(model[1]).__name__)
    return not isinstance(model[1], nn.ReLU)


def grad_cam_ablation_memory():
    """grad-cam, AblationCAM: the default ablation layer is shared by all instances, and keeps the last activations
    alive.

    Class: defect
    Ours: Nothing outlives the call.
    """
    model = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2))
    cam = library.AblationCAM(model, [model[1]])
    cam(torch.rand(1, 3, 32, 32), FIRST)
    del cam, model
    gc.collect()
    kept = inspect.signature(library.AblationCAM).parameters["ablation_layer"].default.activations
    print("still held after both are gone:", tuple(kept.shape), kept.nbytes, "bytes")
    return kept.nbytes > 0


def grad_cam_ablation_value():
    """grad-cam, AblationCAM: where the layer's minimum isn't 0, an ablated channel is the minimum minus 1e7, not 0.

    Class: documented choice
    Ours: w_k = (S - S_k) / S, S_k the score with F_k = 0, whatever the layer's minimum (Ablation-CAM). The same behind
        a ReLU.
    Theirs: grad-cam pytorch_grad_cam/ablation_layer.py: If the values can be negative, we use very negative values to
        perform the ablation, deviating from the paper.
    Photographs: ablation_cam@pytorch_grad_cam
    """
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid(), Watching(), nn.Flatten(), nn.Linear(12, 2)).eval()
    library.AblationCAM(model, [model[1]], batch_size=1)(torch.rand(1, 3, 2, 2), FIRST)
    before, _, *after = [maps.min().item() for maps in model[2].inputs]  # the first two are the image's own
    print("the layer's minimum:", round(before, 3), "  of the maps with one channel ablated:", after)
    return all(value < -9e6 for value in after)


def grad_cam_eigen_centred():
    """grad-cam, EigenCAM: activations are centred first; the paper projects them as they are, which gives another map.

    Class: documented choice
    Ours: F V_1, V_1 the first right singular vector of F itself (Eigen-CAM: L = O V_1, O = U S V^T). Eigen-Grad-CAM and
        Seg-Eigen-CAM are held against the same projection, of g F and |g| F; the one has no paper, and of the other's
        only the equations that the library quotes were at hand.
    Theirs: grad-cam pytorch_grad_cam/utils/svd_on_activations.py: Centering before the SVD seems to be important here,
        Otherwise the image returned is negative
    Photographs: eigen_cam@pytorch_grad_cam, eigen_grad_cam@pytorch_grad_cam, seg_eigen_cam@pytorch_grad_cam
    """

    def projected(matrix):
        return abs(matrix @ np.linalg.svd(matrix, full_matrices=False)[2][0])

    model, images = of_layer(3), torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    cam = recording(library.EigenCAM)(model, [model[0]])
    cam(images, None)
    matrix, theirs = images[0].flatten(1).T.numpy(), abs(cam.raw.ravel())
    centred, as_they_are = projected(matrix - matrix.mean(0)), projected(matrix)
    for name, values in (("grad-cam   ", theirs), ("centred    ", centred), ("as they are", as_they_are)):
        print(name, values)
    return np.allclose(theirs, centred, atol=1e-5) and not np.allclose(centred, as_they_are, atol=0.01)


def grad_cam_eigen_sign():
    """grad-cam, EigenCAM: the sign is whatever the SVD returns; channels stored in another order can invert the
    heatmap.

    Class: other reading
    Ours: The sign is the one with sum_k v_k > 0, which doesn't depend on the order of channels; the paper gives none.
    Theirs: grad-cam pytorch_grad_cam/utils/svd_on_activations.py: decomposing A = U Σ Vᵀ is equivalent to (-U) Σ (-Vᵀ),
        so the sign of the resulting projection is arbitrary.
    Photographs: turned by another order of the channels on 0 of 50 photographs, and correlated negatively with ours on
        9 (`git show fbf12d4:scripts/audit/methods/photographs.py`).
    """
    model, inverted = of_layer(6), 0
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(1, 6, 4, 4, generator=generator)
        order = torch.randperm(6, generator=generator)
        heatmap, reordered = (
            library.EigenCAM(model, [model[0]])(batch, None)[0] for batch in (images, images[:, order])
        )
        inverted += int(abs(heatmap - reordered).max() > 0.5)
    print("inverted by another order of the same channels:", inverted, "of 50 images")
    return inverted > 0


def grad_cam_fem_weights():
    """grad-cam, FEM: a channel's activations are weighted by the share of its strong positions, in place of the mask of
    these positions by the channel's mean.

    Class: other reading
    Ours: sum_k mean(F_k) [F_k > mean + 2 deviations]: binary maps, weighted by their channel's mean.
    Theirs: grad-cam METADATA: A gradient free method that binarizes activations by an activation > mean + k * std rule.
    Photographs: fem@pytorch_grad_cam
    """
    model = of_layer(1)
    row = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 9]).view(1, 1, 2, 4)  # mean 2, deviation 2.6: the 9 alone is strong
    cam = recording(library.FEM)(model, [model[0]])
    cam(row, None)
    print("grad-cam                    ", cam.raw.ravel().tolist())
    print("share of strong positions, F", (row / 8).flatten().tolist())
    print("mean of F where strong      ", (2 * (row == 9)).flatten().tolist())
    return cam.raw.ravel().tolist() == (row / 8).flatten().tolist()


def grad_cam_finer_weights():
    """grad-cam, FinerCAM: the classes compared with are weighted by their probability, and these weights are
    differentiated; its comparison strength is 1.

    Class: documented choice
    Ours: Grad-CAM of S_c - gamma mean_d S_d, gamma 0.6 and 3 classes, as in the paper, and in its authors' code until
        11 March 2025. Since then that code has alpha = 1 and the weights that grad-cam has.
    Theirs: grad-cam pytorch_grad_cam/utils/model_targets.py: It obtains a weight for each comparison category from the
        softmax probabilities of the model output
    Theirs: torchcam torchcam/methods/gradient.py: gamma: comparison strength applied to the mean reference score
    Photographs: finer_cam@pytorch_grad_cam, finer_cam@torchcam
    """
    logits = torch.tensor([3.0, 2.0, 0.0, -1.0], requires_grad=True)
    score = FinerWeightedTarget(0, [1, 2, 3], alpha=1)(logits)
    (gradient,) = torch.autograd.grad(score, logits)
    shares = logits.detach().softmax(0)[1:]
    fixed = (shares * (logits[0] - logits[1:])).sum() / shares.sum()
    (without,) = torch.autograd.grad(fixed, logits)
    plain = 3.0 - logits.detach()[1:].mean().item()
    print(
        f"score {score.item():.4f}; weights fixed {fixed.item():.4f}; mean of the differences, unweighted {plain:.4f}"
    )
    print("gradient      ", [round(value, 4) for value in gradient.tolist()])
    print("weights fixed ", [round(value, 4) for value in without.tolist()])
    is_weighted = abs(score.item() - fixed.item()) < 1e-5 and abs(score.item() - plain) > 0.1
    return is_weighted and not torch.allclose(gradient, without, atol=0.01)


def grad_cam_full_grad_channels():
    """grad-cam, FullGrad: every channel is scaled to [0, 1] on its own, so a channel without influence weighs as much
    as the strongest.

    Class: other reading
    Ours: psi scales a layer's bias gradients as a whole, as in the authors' code (`_postProcess`); the paper's formula
        sums psi over channels, which can be read as grad-cam does.
    Theirs: grad-cam METADATA: Computes the gradients of the biases from all over the network, and then sums them
    Photographs: full_grad@pytorch_grad_cam
    """
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 2)).eval()
    images, maps = torch.rand(1, 3, 2, 2), []
    for bias in ([1.0, 1.0], [1.0, 0.001]):  # the score is linear in them, so no gradient depends on them
        model[0].bias = nn.Parameter(torch.tensor(bias))
        maps.append(library.FullGrad(model, [])(images, FIRST)[0])
        print(f"biases {bias}: {maps[-1].ravel()}")
    return np.allclose(maps[0], maps[1], atol=0.01)


def grad_cam_guided_relus():
    """grad-cam, GuidedBackpropReLUModel: every ReLU of the user's model is replaced by one shared new one, for good.

    Class: defect
    Ours: The user's model is never edited.
    """
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 4), nn.ReLU()).eval()
    first, second = model[1], model[4]
    library.GuidedBackpropReLUModel(model)(torch.rand(1, 3, 2, 2), 0)
    print("the modules are kept:", model[1] is first, model[4] is second, "  one for both:", model[1] is model[4])
    try:
        library.GuidedBackpropReLUModel(model)(torch.rand(1, 3, 2, 2), 99)
    except IndexError:
        print("after an error:", type(model[1]).__name__)
    return model[1] is not first and model[1] is model[4]


def grad_cam_kpca_sign():
    """grad-cam, KPCA_CAM: the sign is scikit-learn's, by which the entry of largest absolute value is positive; a weak
    outlier among strong positions decides it.

    Class: other reading
    Ours: The sign by which the map correlates positively with sum_k F_k; the paper gives none.
    Theirs: scikit-learn sklearn/utils/extmath.py: Sign correction to ensure deterministic output from SVD.
    Photographs: kpca_cam@pytorch_grad_cam
    """
    model = of_layer(1)
    row = torch.tensor([3.0, 3, 3, 3, 3, 3, 3, 0]).view(1, 1, 2, 4)
    cam = recording(library.KPCA_CAM)(model, [model[0]], kernel="linear")
    cam(row, None)
    print("the layer:", row.flatten().tolist())
    print("grad-cam: ", cam.raw.ravel().round(3).tolist())
    return cam.raw.ravel()[-1] > 0 and (cam.raw.ravel()[:-1] < 0).all()


def grad_cam_pp_epsilon():
    """grad-cam, GradCAMPlusPlus: 1e-6 is added to 2 g^2 + g^3 sum F, and outweighs it: other units of the score,
    another map.

    Class: defect
    Ours: alpha = g^2 / (2 g^2 + g^3 sum(F_k)) (Grad-CAM++, equation 19), 0 where 0/0.
    Theirs: grad-cam pytorch_grad_cam/grad_cam_plusplus.py: Equation 19 in https://arxiv.org/abs/1710.11063
    Photographs: grad_cam_pp@pytorch_grad_cam
    """
    torch.manual_seed(4)
    model, maps = network(), []
    images = torch.rand(1, 3, 2, 2)
    for factor in (1.0, 0.01):
        with torch.no_grad():
            for parameter in model[3].parameters():
                parameter.mul_(factor)
        maps.append(library.GradCAMPlusPlus(model, [model[1]])(images, [ClassifierOutputTarget(1)])[0])
        print(f"scores x {factor}: {maps[-1].ravel()}")
    return abs(maps[0] - maps[1]).max() > 0.01


def grad_cam_reused_layer():
    """grad-cam: where the network calls a module twice, it explains another call than torchcam and captum do.

    Class: other reading
    Ours: The module's last call, as torchcam and captum.
    """

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Linear(12, 2)
            self.relu = nn.ReLU()

        def forward(self, images):
            return self.last(self.relu(self.second(self.relu(self.first(images)))).flatten(1))

    torch.manual_seed(2)
    model, images = Twice().eval(), torch.randn(1, 3, 2, 2)
    with library.GradCAM(model, [model.relu]) as cam:
        grad_cam_map = cam(images, FIRST)[0]
    with TorchcamGradCAM(model, model.relu) as cam:
        torchcam_map = cam([0], model(images))[0][0].detach().numpy()
    captum_map = LayerGradCam(model, model.relu).attribute(images, target=0)[0, 0].relu().detach().numpy()
    captum_map = (captum_map - captum_map.min()) / max(captum_map.max() - captum_map.min(), 1e-30)
    for name, heatmap in (("grad-cam", grad_cam_map), ("torchcam", torchcam_map), ("captum", captum_map)):
        print(name, heatmap.round(3).ravel())
    return np.allclose(torchcam_map, captum_map, atol=1e-3) and not np.allclose(grad_cam_map, captum_map, atol=0.01)


def grad_cam_score_cam_corners():
    """grad-cam, ScoreCAM: masks are resized with align_corners=True, the heatmap without: they lie in different places.

    Class: other reading
    Ours: w_k = softmax_k(f(X H_k) - f(X_0)), H_k = s(U(F_k)), s min-max scaling, U resizing (Score-CAM, Algorithm 1);
        align_corners=False, as in the authors' code; a constant channel is left out, there a mask of zeros.
    Photographs: score_cam@pytorch_grad_cam
    """
    model = nn.Sequential(Watching(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 2)).eval()
    ramp = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    images = ramp.repeat_interleave(4, 0).repeat_interleave(4, 1).expand(1, 3, 8, 8) + 1  # the layer's map is ramp + 1
    library.ScoreCAM(model, [model[1]])(images, FIRST)
    mask, resized = (model[0].inputs[1] / images)[0, 0], {}
    print("mask, first row:    ", [round(value, 3) for value in mask[0].tolist()])
    for corners in (True, False):
        resized[corners] = interpolate(ramp[None, None], (8, 8), mode="bilinear", align_corners=corners)[0, 0]
        print(f"align_corners={corners!s:5}:", [round(value, 3) for value in resized[corners][0].tolist()])
    return torch.allclose(mask, resized[True], atol=1e-5)


def grad_cam_shapley_release():
    """grad-cam, ShapleyCAM: `with` fails at its end behind a head that flattens, and leaves its hooks on the model.

    Class: defect
    Ours: The map is the same; leaving `with` raises nothing and leaves no hook.
    """
    model, error = network(), None
    cam = library.ShapleyCAM(model, [model[1]])
    try:
        with cam:
            cam(torch.rand(1, 3, 2, 2), FIRST)
    except RuntimeError as raised:
        error = raised
    print(f"{type(error).__name__}: {str(error)[:33]}; hooks left: {len(model[1]._forward_hooks)}")
    cam.activations_and_grads.gradients.clear()  # or Python prints the error again when it deletes cam
    return error is not None


def grad_cam_swallowed_error():
    """grad-cam: its `with` swallows an IndexError, for example of a class that doesn't exist; the program continues
    without a map.

    Class: documented choice
    Ours: An error in a block reaches the caller.
    Theirs: grad-cam pytorch_grad_cam/base_cam.py: An exception occurred in CAM with block
    """
    model, heatmap = network(), None
    with library.GradCAM(model, [model[1]]) as cam:
        heatmap = cam(torch.rand(1, 3, 2, 2), [ClassifierOutputTarget(7)])  # there are two classes
    print("after the block: heatmap =", heatmap)
    return heatmap is None


def grad_cam_user_gradients():
    """grad-cam: an explanation in a training loop switches the model to eval mode and replaces the gradients gathered
    so far.

    Class: defect
    Ours: Mode and gradients of the user's model stay as they are.
    """
    model = network().train()
    model[3].bias.grad = torch.tensor([5.0, 5.0])
    with library.GradCAM(model, [model[1]]) as cam:
        cam(torch.rand(1, 3, 2, 2), FIRST)
    print("training:", model.training, "  gradient of the last bias:", model[3].bias.grad.tolist())
    return not model.training and model[3].bias.grad.tolist() != [5.0, 5.0]
