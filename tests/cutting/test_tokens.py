"""A transformer's tokens as maps equal those of hooks and explicit passes, and the model is
unchanged.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.hooked_parts import HookedParts
from axiom_bench.cutting.tokens import Tokens, patch_grid
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError
from axiom_bench.notes import ZeroMaps
from tests.cutting.conftest import Network
from tests.cutting.test_cut import close, eval_logits, literal_gradients, snapshot
from tests.made import value_or_sentence

LN_1 = "encoder.layers.encoder_layer_1.ln_1"


def with_registers(net: Network, x: Tensor) -> Tensor:
    patches = net.patches(x).flatten(2).transpose(1, 2)
    tokens = torch.cat((net.leading.expand(x.shape[0], -1, -1), patches), 1)
    normed = net.norm(tokens)
    mixed, _ = net.mixing(normed, normed, normed, need_weights=False)
    return net.fc((tokens + mixed)[:, 0])


def registers(forward: Callable[[Network, Tensor], Tensor] = with_registers) -> nn.Module:
    """Build a ViT of 8 x 8 patches with a class token and two registers, for images of any size."""
    patches = nn.Conv2d(3, 6, 8, 8)
    leading = nn.Parameter(torch.randn(1, 3, 6))
    norm = nn.LayerNorm(6)
    mixing = nn.MultiheadAttention(6, 2, batch_first=True)
    fc = nn.Linear(6, 3)
    return Network(forward, patches=patches, leading=leading, norm=norm, mixing=mixing, fc=fc)


def deciding() -> nn.Module:
    """Build a network that looks at its data, so that torch.fx can't trace it."""
    return registers(lambda net, x: with_registers(net, x if x.mean() > 0 else -x))


def vit() -> nn.Module:
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3)
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at zero
    return model


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=3)


def of_timm(name: str, **tiny: object) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        timm = pytest.importorskip("timm")
        return timm.create_model(name, img_size=32, embed_dim=16, num_classes=3, **tiny)

    return build


timm_vit = of_timm("vit_base_patch16_224", patch_size=8, depth=2, num_heads=2)
timm_swin = of_timm("swin_tiny_patch4_window7_224", window_size=4, depths=(2, 2), num_heads=(2, 2))


@dataclass(frozen=True)
class Net:
    """A transformer, its layer and the images' size."""

    build: Callable[[], nn.Module]
    layer: str
    size: tuple[int, int]
    grid: tuple[int, int]
    leading: int | None  # tokens before the patches; None for a grid with its channels last

    def model(self) -> nn.Module:
        torch.manual_seed(3)
        return self.build().double()

    def images(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(2, 3, *self.size, generator=generator, dtype=torch.float64)

    def trace(self, model: nn.Module | None = None, reshape: object = "tokens") -> ab.Trace:
        model = model or self.model()
        targets = torch.tensor([2, 0])
        return ab.trace(model, self.layer, self.images(), targets, reshape=reshape)

    def place(self, k: int, y: int, x: int) -> tuple[int, ...]:
        """Return the index of map k at (y, x) in the layer's output without its batch."""
        return (y, x, k) if self.leading is None else (self.leading + y * self.grid[1] + x, k)

    def maps(self, output: Tensor) -> Tensor:
        """(B, K, H, W), value by value."""
        maps = output.new_zeros(len(output), output.shape[-1], *self.grid)
        for k, y, x in product(*map(range, maps.shape[1:])):
            maps[:, k, y, x] = output[(slice(None), *self.place(k, y, x))]
        return maps


NETS = {
    "vit": Net(vit, LN_1, (32, 32), (4, 4), 1),
    "vit_block": Net(vit, "encoder.layers.encoder_layer_0", (32, 32), (4, 4), 1),
    "swin": Net(swin, "norm", (32, 48), (4, 6), None),
    "swin_block": Net(swin, "features.3", (32, 48), (4, 6), None),
    "swin_early": Net(
        swin, "features.1", (32, 48), (8, 12), None
    ),  # (8, 12, 16): 12 x 16 is nearly the aspect too
    "swin_padded": Net(swin, "features.1", (36, 24), (9, 6), None),
    "registers": Net(registers, "norm", (16, 32), (2, 4), 3),
    "deciding": Net(deciding, "norm", (16, 32), (2, 4), 3),
    "timm_vit": Net(timm_vit, "blocks.1.norm1", (32, 32), (4, 4), 1),
    "timm_swin": Net(timm_swin, "layers.0", (32, 32), (8, 8), None),
}
QUICK = ("vit", "swin", "swin_early", "swin_padded", "registers", "deciding")


@pytest.fixture(
    params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NETS]
)
def net(request: pytest.FixtureRequest) -> Net:
    return NETS[request.param]


def test_activations_gradients_and_logits_equal_literal_hooks(net: Net):
    model = net.model()
    images = net.images()
    trace = net.trace()
    outputs, gradients = literal_gradients(model, net.layer, images, trace.targets)
    # 1e-13: a batch, and attention without a gradient, take other kernels; float64 rounds at 1e-16
    # of 1.
    close(trace.logits, eval_logits(model, images), 1e-13)
    close(trace.activations, net.maps(outputs), 1e-13)
    close(trace.gradients, net.maps(gradients), 1e-13)
    assert trace.activations.shape[2:] == net.grid
    assert isinstance(trace.cut_model.trunk_and_head.parts.parts, HookedParts) == (
        net.build is deciding
    )


def test_drops_equal_brute_force_with_the_class_token_kept(net: Net):
    model = net.model().eval()
    images = net.images()
    trace = net.trace()

    def ablate(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        for y, x in product(*map(range, net.grid)):
            output[(0, *net.place(k, y, x))] = 0
        return output

    model.get_submodule(net.layer).register_forward_hook(ablate)
    for row, k in product(range(2), range(trace.activations.shape[1])):
        with torch.no_grad():
            logits = model(images[row : row + 1])[0]
        expected = trace.scores[row] - logits[trace.targets[row]]
        close(trace.ablation_drops[row, k], expected, 1e-13)
    assert trace.ablation_drops.any()


def test_head_and_forward_equal_the_model_which_is_unchanged(net: Net):
    model = net.model().train()
    before = snapshot(model)
    trace = net.trace(model)
    close(trace.forward(net.images()), trace.logits, 1e-13)
    rows = torch.tensor([1, 0, 1])
    part = trace[1:]
    close(trace.head(trace.activations[rows], rows), trace.logits[rows], 1e-13)
    close(part.head(part.activations), trace.logits[1:], 1e-13)
    close(part.ablation_drops, trace.ablation_drops[1:], 1e-13)
    assert snapshot(model) == before


def test_explicit_grid_and_images_of_another_size():
    net = NETS["registers"]
    trace = net.trace(reshape=(2, 4))
    assert torch.equal(trace.activations, net.trace().activations)
    cut = ab.cut(net.model(), net.layer, reshape="tokens")
    assert cut.trace(torch.zeros(1, 3, 16, 32).double()).activations.shape == (1, 6, 2, 4)
    assert cut.trace(torch.zeros(2, 3, 32, 24).double()).activations.shape == (2, 6, 4, 3)


# what these need, a transformer lacks
PIECEWISE_LINEAR = (
    "cam",
    "full_grad",
    "guided",
    "lift_cam",
    "relevance_cam",
)
LAYERS_TO_BE_SET = ("refine_cam",)  # tests/methods/test_wrappers.py sets them


@cache
def trace_of(which: str) -> ab.Trace:
    """One for all methods, which only read it."""
    trace = NETS[which].trace()
    return replace(trace, other_images=trace.images.flip(0))


@pytest.mark.parametrize("name", methods.names())
@pytest.mark.parametrize("which", ["vit", pytest.param("swin", marks=pytest.mark.slow)])
def test_methods_explain_transformers(which: str, name: str):
    trace = trace_of(which)
    method = methods.get(name)
    if name.startswith((*PIECEWISE_LINEAR, *LAYERS_TO_BE_SET)):
        # Swin's head at its norm is linear, and some of them apply to it
        answer = value_or_sentence(lambda: method(trace))
        assert answer is not None
        if isinstance(answer, str):
            return
    else:
        answer = method(trace)
    heatmap = ab.Explanation.of(trace, answer).heatmap
    assert heatmap.shape == (2, *NETS[which].size)
    assert heatmap.isfinite().all()


class Columns:
    """A user's own reshape: patches in columns."""

    def to_maps(self, output, image_size):
        maps, rest = Tokens().to_maps(output, image_size)
        return maps.mT, rest

    def from_maps(self, maps, rest):
        return Tokens().from_maps(maps.mT, rest)


class OneWay(Columns):
    from_maps = Tokens().from_maps


class Flat(Columns):
    def to_maps(self, output, image_size):
        return output, output


def test_custom_reshape():
    net = NETS["vit"]
    trace = net.trace(reshape=Columns())
    assert torch.equal(trace.activations, net.trace().activations.mT)
    close(trace.ablation_drops, net.trace().ablation_drops, 1e-13)


@pytest.mark.parametrize(
    ("which", "layer", "reshape", "sentence"),
    [
        (
            "vit",
            LN_1,
            None,
            "gives tokens (1, 17, 16), not maps (B, K, H, W): set reshape=tokens "
            "(model.reshape=tokens",
        ),
        (
            "swin",
            "norm",
            None,
            "gives tokens (1, 4, 6, 32), not maps (B, K, H, W): set reshape=tokens",
        ),
        ("vit", LN_1, "token", "There is no reshape 'token'; did you mean 'tokens'?"),
        (
            "vit",
            LN_1,
            7,
            "Invalid reshape 7; give None, 'tokens', a grid (H, W), or an object with to_maps and "
            "from_maps.",
        ),
        ("vit", LN_1, (5, 5), "17 tokens don't fill a grid of 5x5; set reshape to their grid."),
        (
            "vit",
            "heads.head",
            "tokens",
            "The values (1, 3) of the layer 'heads.head' are no maps of the images; set",
        ),
        (
            "swin",
            "norm",
            (3, 3),
            "The values (1, 4, 6, 32) of the layer 'norm' are no maps of the images; set reshape",
        ),
        ("vit", LN_1, OneWay(), "isn't invertible: from_maps(*to_maps(x, size)) isn't x."),
        ("vit", LN_1, Flat(), "must give maps (B, K, H, W) from (1, 17, 16)."),
    ],
)
def test_error_messages(which: str, layer: str, reshape: object, sentence: str):
    with pytest.raises(BenchError, match=re.escape(sentence)):
        ab.trace(NETS[which].model(), layer, NETS[which].images(), reshape=reshape)


def test_ambiguous_layout_is_refused():
    """No operation decides here, as a convolution would."""
    unflatten = nn.Unflatten(1, (8, 8, 8))
    last = nn.Linear(512, 3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 512), unflatten, nn.Flatten(), last)
    assert ab.trace(model, "2", torch.zeros(1, 3, 16, 16)).activations.shape == (1, 8, 8, 8)
    with pytest.raises(BenchError, match=r"may be maps \(B, K, H, W\) as well as \(B, H, W, K\)"):
        ab.trace(model, "2", torch.zeros(1, 3, 16, 16), reshape="tokens")


# tokens, height, width of the image: patches. 201: a class token and four registers.
GRIDS = {
    (196, 224, 224): (14, 14),
    (197, 224, 224): (14, 14),
    (201, 224, 224): (14, 14),
    (50, 224, 224): (7, 7),
    (1374, 518, 518): (37, 37),
    (577, 384, 384): (24, 24),
    (1 + 14 * 28, 224, 448): (14, 28),
    (2, 16, 16): (1, 1),
}


def test_the_grid_is_the_one_that_the_tokens_fill():
    assert {key: patch_grid(key[0], key[1:]) for key in GRIDS} == GRIDS


@pytest.mark.parametrize(
    ("tokens", "side", "sentence"),
    [
        (213, 224, "213 tokens of an image of 224x224 pixels fill no grid of square patches; set"),
        (17, 24, "17 tokens of an image of 24x24 pixels fill each of the grids 4x4 and 3x3"),
    ],
)
def test_tokens_that_fill_no_grid_or_two_are_refused(tokens, side, sentence):
    with pytest.raises(BenchError, match=sentence):
        patch_grid(tokens, (side, side))


SILENT = [
    *((timm_vit, layer, "blocks.1.norm1") for layer in ("blocks.1", "blocks.1.mlp.fc2", "norm")),
    *((vit, layer, LN_1) for layer in ("encoder.layers.encoder_layer_1", "encoder.ln")),
]


@pytest.mark.parametrize(("build", "layer", "working"), SILENT)
def test_a_layer_without_gradients_names_one_that_has_some(build, layer, working, recwarn):
    """Behind the last attention only the class token counts; the named layer is the last one with
    any, as cuts show.
    """
    model = build().eval()
    images = torch.randn(2, 3, 32, 32)
    maps = ab.explain(model, layer, images, ["grad_cam", "xgrad_cam"], reshape="tokens")
    assert not any(heatmap.any() for heatmap in maps.values())
    (sentence,) = (str(warning.message) for warning in recwarn if warning.category is ZeroMaps)
    assert sentence.startswith(f"The gradients of all 2 images at the layer '{layer}' are zero")
    typed = f"'{working}' (model.layer={working} on the command line)"
    assert sentence.endswith(f"choose {typed}, the nearest one before it where they aren't.")
    recwarn.clear()
    assert ab.explain(model, working, images, ["grad_cam"], reshape="tokens")["grad_cam"].any()
    ab.evaluate(model, layer, [(images, None)] * 2, ["grad_cam"], ["zeta"], reshape="tokens")
    (warning,) = (warning for warning in recwarn if warning.category is ZeroMaps)
    assert str(warning.message) == sentence


class Behind(nn.Module):
    """Two convolutions of other shapes, whose maps are lost in a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 3)
        self.second = nn.Conv2d(2, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc((self.second(self.first(images)) - 1e6).relu().mean((2, 3)))


def test_a_layer_without_gradients_may_be_the_only_one_of_its_shape():
    images = torch.randn(2, 3, 32, 32)
    sentence = "'second' are zero, and so are maps made of them; choose another layer"
    with pytest.warns(ZeroMaps, match=sentence):
        maps = ab.explain(Behind(), "second", images, ["grad_cam"])
    assert not maps["grad_cam"].any()
