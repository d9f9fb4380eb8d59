"""Cases of captum's methods."""

import warnings

import torch
from captum.attr import DeepLift, GuidedBackprop, GuidedGradCam, LayerGradCam, Saliency
from torch import nn
from torch.nn.functional import interpolate


def captum_deep_lift_pools():
    """captum, DeepLift: contributions don't add up behind max pooling where one value is the largest of two windows.
    Behind a ReLU they don't for a reference that isn't constant. They do for windows of different largest values, and
    behind a ReLU for a constant reference.

    Class: defect
    Ours: Contributions add up to f(x) - f(x_0) (DeepLIFT's summation to delta), whatever the windows.
    Theirs: captum captum/attr/_core/deep_lift.py: Note that the logic described for deltas is guaranteed when the
        default logic for attribution computations is used, meaning that the `custom_attribution_func=None`
    Photographs: through one max pooling and one linear layer, contributions don't add up on 0 (2 x 2, stride 2) and 50
        (3 x 3, stride 2) of 50 photographs, from zeros or another photograph. Behind a ReLU it is 0 from zeros and 50
        from another photograph, of either size (`git show fbf12d4:scripts/audit/methods/photographs.py`).
    """
    linear = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 2.0]]))
    missing = []
    for first, values, reference in (
        (nn.Identity(), [3.0, 1.0, 2.0], [0.0, 0.0, 0.0]),
        (nn.Identity(), [1.0, 3.0, 2.0], [0.0, 0.0, 0.0]),
        (nn.ReLU(), [1.0, 3.0, 2.0], [0.0, 0.0, 0.0]),
        (nn.ReLU(), [3.0, 1.0, 2.0], [0.0, 1.0, 0.0]),
    ):
        model = nn.Sequential(first, nn.MaxPool2d((1, 2), 1), nn.Flatten(), linear).eval()
        row, start = torch.tensor(values).view(1, 1, 1, 3), torch.tensor(reference).view(1, 1, 1, 3)
        contributions = DeepLift(model).attribute(row, start, target=0)
        difference = (model(row) - model(start)).item()
        missing.append(difference - contributions.sum().item())
        lifted = contributions.flatten().tolist()
        print(f"{type(first).__name__:8} {values} from {reference}: {lifted} of {difference:g}")
    return [value == 0 for value in missing] == [True, False, True, False]


def captum_functional_relu():
    """captum, GuidedGradCam and GuidedBackprop: a ReLU that is a function, not a module, isn't guided. The
    documentation says so; a run gives no warning of it.

    Class: documented choice
    Ours: Guided backpropagation acts on every ReLU, module or function.
    Theirs: captum captum/attr/_core/guided_backprop_deconvnet.py: If nn.functional.ReLU is used, gradients are not
        overridden appropriately.
    """

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(3, 3, 1), nn.Linear(12, 4), nn.Linear(4, 2)

        def forward(self, images):
            return self.last(torch.relu(self.second(torch.relu(self.first(images)).flatten(1))))

    model, images = Functional().eval(), torch.rand(1, 3, 2, 2).requires_grad_()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        guided = GuidedBackprop(model).attribute(images, target=0)
    plain = Saliency(model).attribute(images, target=0, abs=False)
    about_functions = [str(warning.message) for warning in caught if "functional" in str(warning.message)]
    documented = "If nn.functional.ReLU is used, gradients are not overridden" in GuidedBackprop.__doc__
    print("guided - plain gradient, at most:", (guided - plain).abs().max().item())
    print("in the documentation:", documented, "  warnings of it:", about_functions)
    return torch.equal(guided, plain) and documented and not about_functions


def captum_guided_interpolation():
    """captum, GuidedGradCam: Grad-CAM's map is enlarged without interpolation; `interpolate_mode="bilinear"` gives the
    paper's.

    Class: documented choice
    Ours: Guided gradient times Grad-CAM's map, enlarged bilinearly, as in the paper.
    Theirs: captum captum/attr/_core/guided_grad_cam.py: Note that the original GradCAM paper uses "bilinear"
        interpolation, but we default to "nearest" for applicability to any of 3D, 4D or 5D tensors.
    Photographs: guided_grad_cam@captum
    """
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 2)).double()
    images = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    grad_cam = LayerGradCam(model, model[2]).attribute(images, target=0, relu_attributions=True)
    paper = GuidedBackprop(model).attribute(images, target=0) * interpolate(grad_cam, (4, 4), mode="bilinear")
    differences = []
    for options in ({}, {"interpolate_mode": "bilinear"}):
        guided = GuidedGradCam(model, model[2]).attribute(images, target=0, **options)
        differences.append(((guided - paper).abs().max() / paper.abs().max()).item())
        print(options or "default", f"difference to the paper's product, of its largest value: {differences[-1]:.1e}")
    return differences[0] > 0.01 and differences[1] < 1e-12
