"""Cases that grad-cam and torchcam share."""

import numpy as np
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchcam.methods import GradCAM as TorchcamGradCAM
from torchcam.methods import XGradCAM as TorchcamXGradCAM

FIRST = [ClassifierOutputTarget(0)]


def both_constant_map():
    """grad-cam and torchcam: min-max scaling makes a constant positive map, as every 1 x 1 map is, a map of zeros.

    Class: other reading
    Ours: heatmap = relu(map) / its maximum: a constant positive map is 1. Papers have the ReLU alone.
    Theirs: torchcam torchcam/methods/core.py: normalized: whether the CAM should be normalized
    Photographs: grad_cam@pytorch_grad_cam, grad_cam@torchcam
    """
    model = nn.Sequential(nn.Conv2d(3, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2)).eval()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    images = torch.ones(1, 3, 2, 2)
    with GradCAM(model, [model[1]]) as cam:
        grad_cam_map = cam(images, FIRST)[0]
    with TorchcamGradCAM(model, model[1]) as cam:
        torchcam_map = cam([0], model(images))[0][0]
        raw = cam([0], model(images), normalized=False)[0][0]
    print("raw map:", raw.item(), "  grad-cam:", grad_cam_map.ravel(), "  torchcam:", torchcam_map.item())
    return raw.item() > 0 and not grad_cam_map.any() and torchcam_map.item() == 0


def both_in_place():
    """grad-cam and torchcam: whether the ReLU behind the layer works in place changes their map; it doesn't change
    captum's.

    Class: defect
    Ours: The layer's output is what the layer returned, whatever the next module does to the memory.
    Theirs: torchcam torchcam/methods/gradient.py: Trick to avoid issues with inplace operations
    Photographs: torchcam's Grad-CAM at features.10 changes by more than 0.01 on 50 of 50 photographs, by 0.54 in the
        median (`git show fbf12d4:scripts/audit/methods/photographs.py`).
    """
    maps = {}
    images = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    for inplace in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace), nn.Flatten(), nn.Linear(12, 2)).eval()
        with GradCAM(model, [model[0]]) as cam:
            grad_cam_map = cam(images, FIRST)[0]
        with TorchcamGradCAM(model, model[0]) as cam:
            torchcam_map = cam([0], model(images))[0][0].detach().numpy()
        captum_map = LayerGradCam(model, model[0]).attribute(images, target=0)[0, 0].relu().detach().numpy()
        maps[inplace] = (grad_cam_map, torchcam_map, captum_map / captum_map.max())
    changed = []
    for library, plain, in_place in zip(("grad-cam", "torchcam", "captum"), maps[False], maps[True], strict=True):
        print(f"{library}: nn.ReLU() {plain.round(3).ravel()}   nn.ReLU(inplace=True) {in_place.round(3).ravel()}")
        changed.append(not np.allclose(plain, in_place, atol=0.01))
    return changed == [True, True, False]


def both_xgrad_cancelling():
    """grad-cam and torchcam, XGradCAM: where a channel's values cancel, the only divisor left is an epsilon.

    Class: other reading
    Ours: w_k = sum(g F) / sum(F) (XGrad-CAM), 0 where |sum F| <= tol sum |F|; the paper has no guard.
    Photographs: xgrad_cam@pytorch_grad_cam, xgrad_cam@torchcam
    """

    class Recording(XGradCAM):
        def get_cam_weights(self, *arguments):
            self.weights = super().get_cam_weights(*arguments)
            return self.weights

    class TorchcamRecording(TorchcamXGradCAM):
        def _get_weights(self, *arguments, **options):
            self.weights = super()._get_weights(*arguments, **options)
            return self.weights

    convolution, linear = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(12, 2)
    model = nn.Sequential(convolution, nn.Flatten(), linear).eval()
    nn.init.dirac_(convolution.weight)
    nn.init.ones_(linear.weight)
    images = torch.ones(1, 3, 2, 2)
    images[0, 0] = torch.tensor([[1.0, -1.0], [2.0, -2.0]])  # sums to 0
    with torch.no_grad():
        linear.weight[0, :4] = torch.tensor([1.0, 0.0, 1.0, 0.0])
    cam = Recording(model, [model[0]])
    cam(images, FIRST)
    with TorchcamRecording(model, model[0]) as torchcam_cam:
        torchcam_cam([0], model(images))
    print("weights: grad-cam", cam.weights[0], "  torchcam", torchcam_cam.weights[0][0].tolist())
    return np.abs(cam.weights).max() > 1e6 and torchcam_cam.weights[0].abs().max() > 1e6
