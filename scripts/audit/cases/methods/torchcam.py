"""Cases of torchcam's methods."""

import torch
from torch import nn
from torchcam.methods import CAM, ISCAM, GradCAM, GradCAMpp, ScoreCAM, SmoothGradCAMpp


class Watching(nn.Module):
    def __init__(self):
        super().__init__()
        self.inputs = []

    def forward(self, images):
        self.inputs.append(images.clone())
        return images


def network():
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()


def two_layers():
    return nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)
    ).eval()


def recording(extractor):
    class Recording(extractor):
        def _get_weights(self, *arguments, **options):
            self.weights = super()._get_weights(*arguments, **options)
            return self.weights

    return Recording


def torchcam_cam_hooks():
    """torchcam, CAM: refusing a network of two linear layers, it has already put a hook on it, which stays.

    Class: defect
    Ours: Nothing is left on a model that is refused.
    Theirs: torchcam torchcam/methods/activation.py: This CAM method does not support multiple fully connected layers.
    """
    model = two_layers()
    try:
        CAM(model, model[1])
    except ValueError as error:
        print(f"{error} Hooks on the layer: {len(model[1]._forward_hooks)}")
    return len(model[1]._forward_hooks) > 0


def torchcam_grad_cam_pp_alpha():
    r"""torchcam, GradCAMpp: the division of alpha acts on a copy and is lost: the weights are sum g^2 relu(g).

    Class: defect
    Ours: w_k = sum(alpha relu(g)), alpha = g^2 / (2 g^2 + g^3 sum(F_k)) (Grad-CAM++, equation 19).
    Theirs: torchcam torchcam/methods/gradient.py: \sum\limits_{a,b} A_k (a,b) \cdot
    Theirs: torchcam torchcam/methods/gradient.py: div_(d[mask] + eps)
    Photographs: grad_cam_pp@torchcam
    """
    model = network().double()
    g = model[3].weight[0].detach().view(1, 3, 2, 2)  # the head is linear
    with recording(GradCAMpp)(model, model[1]) as cam:
        cam([0], model(torch.rand(1, 3, 2, 2, dtype=torch.float64)))
    print("their weights      ", cam.weights[0][0].tolist())
    print("sum g^2 relu(g)    ", (g**2 * g.relu()).sum((2, 3))[0].tolist())
    return torch.allclose(cam.weights[0], (g**2 * g.relu()).sum((2, 3)), rtol=1e-12)


def torchcam_hidden_nan():
    """torchcam: the sum over channels skips NaN: a network whose activations are NaN gets a finite heatmap.

    Class: other reading
    Ours: NaN activations give a NaN map, with a status.
    Theirs: torchcam torchcam/methods/core.py: cam = torch.nansum(weight * activation, dim=1)
    """
    torch.manual_seed(1)
    model, images = network(), torch.rand(1, 3, 2, 2)
    images[0, 0, 0, 0] = float("nan")
    with GradCAM(model, model[1]) as cam:
        scores = model(images)
        heatmap = cam([1], scores)[0][0]
    print("scores", scores[0].tolist(), "  heatmap", heatmap.tolist())
    return scores.isnan().any() and heatmap.isfinite().all()


def torchcam_is_cam_strengths():
    r"""torchcam, ISCAM: factors i/N are accumulated, so images brighter than the input itself are scored, up to
    (N + 1)/2 times.

    Class: documented choice
    Ours: The mean over i = 1..N of f(i/N X H_k), our reading of the paper's integral. torchcam's docstring sums j / N
        over j = 0..i - 1, its code over j = 1..i.
    Theirs: torchcam torchcam/methods/activation.py: M_i = \sum\limits_{j=0}^{i-1} \frac{j}{N}
    Photographs: is_cam@torchcam
    """
    model = nn.Sequential(Watching(), *network())
    with ISCAM(model, model[2]) as cam, torch.no_grad():
        model(torch.ones(1, 3, 2, 2) * torch.tensor([[0.5, 1.0], [0.25, 0.75]]))
        cam([0])
    brightest = [images.max().item() for images in model[0].inputs]
    print("the input's maximum:", brightest[0], "  the brightest image scored:", round(max(brightest), 3))
    return max(brightest) > 1.5 * brightest[0]


def torchcam_noise():
    """torchcam, SmoothGradCAMpp: noise is drawn for the batch as a whole, so an image's map depends on its place in it.

    Class: other reading
    Ours: Noise is drawn for each image, from its pixels and a seed.
    Theirs: torchcam torchcam/methods/gradient.py: std: standard deviation of the noise
    """
    model = two_layers()
    images, maps = torch.rand(2, 3, 2, 2), []
    for rows in (images, images.flip(0)):
        torch.manual_seed(0)
        with SmoothGradCAMpp(model, model[1]) as cam:
            model(rows)
            maps.append(cam([0, 0])[0])
    print("first image, as the first of two: ", [round(value, 3) for value in maps[0][0].flatten().tolist()])
    print("first image, as the second of two:", [round(value, 3) for value in maps[1][1].flatten().tolist()])
    return not torch.allclose(maps[0][0], maps[1][1], atol=0.01)


def torchcam_score_cam_order():
    r"""torchcam, ScoreCAM, SSCAM and ISCAM: masks are scaled to [0, 1] before they are resized, in their docstrings'
    formula after it: a resized mask doesn't reach 0 and 1.

    Class: defect
    Ours: w_k = softmax_k(f(X H_k) - f(X_0)), H_k = s(U(F_k)), s min-max scaling, U resizing (Score-CAM, Algorithm 1); a
        constant channel is left out, there a mask of zeros.
    Theirs: torchcam torchcam/methods/activation.py: M_k = \frac{U(A_k) - \min\limits_m U(A_m)}
    Photographs: score_cam@torchcam, ss_cam@torchcam, is_cam@torchcam
    """
    model = nn.Sequential(Watching(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 2)).eval()
    images = torch.ones(1, 3, 16, 16)
    images[0, :, 8, 8] = 17.0  # the layer's maps are 1, and 2 at one of 4 x 4 positions
    with ScoreCAM(model, model[1]) as cam, torch.no_grad():
        model(images)
        cam([0])
    mask = (model[0].inputs[2] / images)[0, 0]
    print("the mask's range:", round(mask.min().item(), 3), "to", round(mask.max().item(), 3))
    return mask.max() < 0.9


def torchcam_small_maps():
    """torchcam: 1e-8 is added to the maximum that a map is divided by: maps with small gradients don't reach 1.

    Class: documented choice
    Ours: relu(map) / its maximum, with no epsilon; a map of zeros stays.
    Theirs: torchcam torchcam/methods/core.py: Avoid division by zero
    Photographs: grad_cam@torchcam
    """
    torch.manual_seed(1)
    model = network().double()
    weight, images, highest = model[3].weight, torch.rand(1, 3, 2, 2, dtype=torch.float64), []
    for factor in (1.0, 1e-4, 1e-4):
        with torch.no_grad():
            weight.mul_(factor)
        with GradCAM(model, model[1]) as cam:
            highest.append(cam([1], model(images))[0].max().item())
        print(f"mean |gradient| {weight.abs().mean().item():.1e}: the map's maximum is {highest[-1]:.4f}")
    return highest[0] > 0.99 and highest[-1] < 0.9


def torchcam_smooth_grad_cam_pp_sum():
    r"""torchcam, SmoothGradCAMpp: alpha's denominator has sum(g^3 F), where its docstring's formula has g^3 sum(F).

    Class: defect
    Ours: alpha = D2 / (2 D2 + D3 sum(F_k)), D2 and D3 the means of g^2 and g^3 (Smooth Grad-CAM++, with Grad-CAM++'s
        numerator, as torchcam).
    Theirs: torchcam torchcam/methods/gradient.py: \frac{2}{n} \sum\limits_{m=1}^n D^{(c, 2)}_k(i, j) +
        \sum\limits_{a,b} A_k (a,b) \cdot \frac{1}{n} \sum\limits_{m=1}^n D^{(c, 3)}_k(i, j)}
    Photographs: smooth_grad_cam_pp@torchcam
    """
    model = network().double()
    images = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    F, g = model[:2](images).detach(), model[3].weight[0].detach().view(1, 3, 2, 2)  # the head is linear
    with recording(SmoothGradCAMpp)(model, model[1], std=1e-30) as cam:
        model(images)
        cam([0])
    is_theirs = {}
    for name, third in (
        ("g^3 sum(F)", g**3 * F.sum((2, 3), keepdim=True)),
        ("sum(g^3 F)", (g**3 * F).sum((2, 3), keepdim=True)),
    ):
        weights = (g**2 / (2 * g**2 + third + 1e-8) * g.relu()).sum((2, 3))
        is_theirs[name] = torch.allclose(cam.weights[0], weights, rtol=1e-12)
        print(name, "   ", weights[0].tolist())
    print("their weights ", cam.weights[0][0].tolist())
    return is_theirs == {"g^3 sum(F)": False, "sum(g^3 F)": True}
