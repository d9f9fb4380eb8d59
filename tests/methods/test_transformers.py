"""Methods made for vision transformers, beside the steps of their authors' code: float64, one image at a time."""

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.methods.recipro_cam import recipro_cam
from tests.methods.plain import CLOSE, normal, seeded

LAYERS = "encoder.layers.encoder_layer_"
IMAGES, TARGETS = normal(2, 3, 32, 32), [2, 0]


def build() -> nn.Module:
    """Three blocks of two heads over a class token and 4 x 4 patches."""
    model = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=3)
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at zero
    return model


MODEL = seeded(build)


def traced(layer: str) -> ab.Trace:
    return ab.trace(MODEL, layer, IMAGES, torch.tensor(TARGETS), reshape="tokens")


def vit_recipro_cam_code(image: Tensor, target: int, layer: nn.Module, gaussian: bool) -> Tensor:
    """github.com/sybyun/vitcam, src/vit_recipro_cam.py, before its min-max scaling: the class token stays."""
    window = torch.tensor([1 / 4, 1 / 2, 1 / 4] if gaussian else [0, 1, 0], dtype=torch.float64)

    def masked(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        new = torch.zeros(16, 17, 16, dtype=torch.float64)
        new[:, 0] = output[0, 0]
        for y, x, dy, dx in ((y, x, dy, dx) for y in range(4) for x in range(4) for dy in range(3) for dx in range(3)):
            if 0 <= y + dy - 1 < 4 and 0 <= x + dx - 1 < 4:
                token = 1 + (y + dy - 1) * 4 + x + dx - 1
                new[y * 4 + x, token] = output[0, token] * window[dy] * window[dx]
        return torch.cat([output, new])

    handle = layer.register_forward_hook(masked)
    with torch.no_grad():
        probabilities = MODEL(image[None]).softmax(1)
    handle.remove()
    return probabilities[1:, target].unflatten(0, (4, 4))


@pytest.mark.parametrize("gaussian", [True, False])
def test_recipro_cam_of_tokens_is_vit_recipro_cam(gaussian):
    """At the first norm of the last block but one, its authors' layer."""
    actual = recipro_cam(traced(f"{LAYERS}1.ln_1"), gaussian).raw
    layer = MODEL.get_submodule(f"{LAYERS}1.ln_1")
    code = [vit_recipro_cam_code(*each, layer, gaussian) for each in zip(IMAGES, TARGETS, strict=True)]
    torch.testing.assert_close(actual, torch.stack(code), **CLOSE)
    assert actual.flatten(1).std(1).min() > 1e-4
