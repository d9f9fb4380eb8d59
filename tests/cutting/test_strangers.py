"""Networks and images as people bring them, with hooks, locks, several inputs: the right value, or
one sentence.
"""

import re
import threading
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.models import layers
from tests.cutting.conftest import Network

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
GLOBAL: list[object] = []


def net(forward: Callable[[Any, Tensor], Any] | None = None, **modules: Any) -> Network:
    torch.manual_seed(0)
    parts = {"c": nn.Conv2d(3, 6, 3, padding=1), "fc": nn.Linear(6, 4), **modules}
    return Network(
        forward or (lambda net, x: net.fc(net.c(x).relu().mean((2, 3)))), **parts
    ).double()


def drops_by_hand(network: nn.Module, layer: str = "c") -> Tensor:
    """One image and channel at a time, by a hook on the network itself."""
    target, drops = network.eval().get_submodule(layer), torch.zeros(2, 6, dtype=torch.float64)
    for image, channel in np.ndindex(2, 6):

        def score(change: Callable[[Tensor], Tensor], image: int = image) -> Tensor:
            handle = target.register_forward_hook(
                lambda module, inputs, output: change(output.clone())
            )
            with torch.no_grad():
                scores = network(IMAGES[image : image + 1])[0]
            handle.remove()
            return scores[image]

        drops[image, channel] = score(lambda f: f) - score(
            lambda f, k=channel: f.index_fill(1, torch.tensor(k), 0)
        )
    return drops


def has_right_drops(network: nn.Module, layer: str = "c") -> None:
    drops = ab.trace(network, layer, IMAGES, torch.arange(2)).ablation_drops
    expected = drops_by_hand(network, layer.removeprefix("_orig_mod."))
    torch.testing.assert_close(drops, expected, rtol=0, atol=1e-13)
    assert expected.any()


class Extractor:
    """As libraries do: a hook that is a method, and holds what can't be copied."""

    def __init__(self, module: nn.Module, lock: Any) -> None:
        self.outputs: list[object] = []
        self.lock = lock
        module.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.outputs.append(output)


@pytest.mark.parametrize("lock", [None, threading.Lock()])
def test_hooks_that_watch_never_run(lock):
    network, seen = net(), []
    extractors = [Extractor(module, lock) for module in network.children()]
    network.c.register_forward_hook(
        lambda module, inputs, output: seen.append(output.register_hook(print))
    )
    network.c.register_forward_hook(lambda module, inputs, output: GLOBAL.append(output))
    network.c.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs))
    network.fc.register_full_backward_hook(lambda module, inputs, outputs: seen.append(outputs))
    trace = ab.trace(network, "c", IMAGES)
    assert torch.equal(trace.ablation_drops, ab.trace(net(), "c", IMAGES).ablation_drops)
    assert trace.forward(IMAGES.requires_grad_()).requires_grad
    assert not [*seen, *GLOBAL, *extractors[0].outputs, *extractors[1].outputs]


class Scaled:
    """An equalised learning rate: the weight is made before each call."""

    def __call__(self, module: nn.Module, inputs: object) -> None:
        module.weight = module.stored * 3


def scaled(module: nn.Module) -> None:
    weight = module._parameters.pop("weight")
    module.stored, module.weight = nn.Parameter(weight.detach()), weight.detach()
    module.register_forward_pre_hook(Scaled())


ARITHMETIC: dict[str, Callable[[nn.Module], object]] = {
    "weight_norm": lambda module: weight_norm(module).weight_g.data.mul_(2),
    "spectral_norm": spectral_norm,
    "parametrised": lambda module: parametrizations.weight_norm(
        module
    ).parametrizations.weight.original0.data.mul_(2),
    "pruned": lambda module: prune.random_unstructured(module, "weight", amount=0.4),
    "scaled": scaled,
    "another output": lambda module: module.register_forward_hook(
        lambda module, inputs, output: output.square()
    ),
    "another input": lambda module: module.register_forward_pre_hook(
        lambda module, inputs: (inputs[0].exp(),)
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("change", ARITHMETIC.values(), ids=ARITHMETIC)
def test_hooks_that_are_arithmetic_run(change):
    network = net()
    change(network.fc)
    assert not torch.equal(network.eval()(IMAGES), net()(IMAGES))
    has_right_drops(network)


def test_what_cannot_be_copied_is_shared_and_what_the_forward_keeps_is_not_the_users():
    def forward(net: Any, x: Tensor) -> Tensor:
        with net.lock:
            net.calls.add_(1)
            net.kept.append(net.c(x))
        return net.fc(net.kept[-1].relu().mean((2, 3)))

    network = net(forward)
    network.register_buffer("calls", torch.zeros(()))
    network.lock, network.kept, network.numbers = threading.Lock(), [], (number for number in [1])
    network(IMAGES)
    assert torch.equal(
        ab.trace(network, "c", IMAGES).ablation_drops, ab.trace(net(), "c", IMAGES).ablation_drops
    )
    assert (network.calls, len(network.kept)) == (1, 1)


def test_a_recurrent_head_of_two_layers_has_no_dropout_and_a_gradient():
    """cuDNN differentiates recurrent layers in training mode alone, where they have dropout between
    layers.
    """
    recurrent = nn.LSTM(6, 6, 2, batch_first=True, dropout=0.5)
    network = net(
        lambda net, x: net.fc(net.r(net.c(x).mean(2).transpose(1, 2))[0][:, -1]), r=recurrent
    )
    has_right_drops(network)
    assert (recurrent.training, recurrent.dropout) == (False, 0.5)


def in_place(net: Any, x: Tensor) -> Tensor:
    f = net.c(x)
    f += 1
    f = f.mul_(2).relu().clone()
    f[:, :, :2] = 0  # which torch.fx can't follow
    return net.fc(f.mean((2, 3)))


def test_a_layer_whose_output_is_changed_in_place_has_its_own_output():
    network = net(in_place)
    has_right_drops(network)
    assert torch.equal(ab.trace(network, "c", IMAGES).activations, network.c(IMAGES).detach())


def test_a_graph_module_is_a_network():
    graph = torch.fx.symbolic_trace(net())
    assert torch.equal(
        ab.trace(graph, "c", IMAGES).ablation_drops, ab.trace(net(), "c", IMAGES).ablation_drops
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parts_in_torchscript_run_as_they_are():
    network = net(fc=torch.jit.script(nn.Linear(6, 4)))
    has_right_drops(network)
    images, every = IMAGES.float(), ["grad_cam", "refine_cam"]
    assert ab.explain(network.float(), None, images, every).layer == "c"
    values = ab.evaluate(
        network, "c", [(images, None)], ["grad_cam"], ["model_parameter_randomisation"]
    )
    assert set(values["status"]) == {"ok"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_few_digits_are_told(dtype):
    with pytest.warns(
        UserWarning, match=rf"computes in {dtype}, of three digits .*; give network.float\(\)"
    ):
        trace = ab.trace(net().to(dtype), "c", IMAGES.to(dtype))
    expected = ab.trace(net(), "c", IMAGES).logits
    assert 1e-4 < ((trace.logits.double() - expected).abs() / expected.abs().max()).max() < 1e-2


def autocast(net: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return net.fc(net.c(x).relu().mean((2, 3))).float()


def data_dependent(net: Any, x: Tensor) -> Tensor:
    return autocast(net, x if x.sum() > 0 else -x)


def in_part(net: Any, x: Tensor) -> Tensor:
    return net.fc(net.rounded(net.c(x).relu().bfloat16()).float().mean((2, 3)))


LOW_PRECISION: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "autocast": (autocast, r"bfloat16, of three digits .* drops; leave out autocast"),
    "hooks": (data_dependent, r"bfloat16, of three digits .* drops; leave out autocast"),
    "a cast to float16": (
        lambda net, x: net.fc(net.c(x).half().float().relu().mean((2, 3))),
        r"float16, .* \.half\(\)",
    ),
    "rounded scores": (
        lambda net, x: net.fc(net.c(x).relu().mean((2, 3))).bfloat16(),
        r"bfloat16, .* leave out auto",
    ),
    "a part in bfloat16": (
        in_part,
        r"bfloat16, .* give network\.float\(\) and leave out autocast, .* \.bfloat16\(\)",
    ),
}


@pytest.mark.parametrize("name", LOW_PRECISION)
def test_low_precision_within_forward_is_told_once(name):
    forward, sentence = LOW_PRECISION[name]
    part = {"rounded": nn.Conv2d(6, 6, 1)} if name == "a part in bfloat16" else {}
    network = net(forward, **part).float()
    if part:
        network.rounded.bfloat16()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trace = ab.trace(network, "c", IMAGES.float())
        trace.again(model=network)
    (told,) = [str(warning.message) for warning in caught if "computes in" in str(warning.message)]
    assert re.search(sentence, told)


def test_a_mask_that_is_cast_to_bfloat16_rounds_nothing():
    def masked(net: Any, x: Tensor) -> Tensor:
        return net.fc((net.c(x) * (x[:, :1] > 0).bfloat16().float()).relu().mean((2, 3)))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ab.trace(net(masked).float(), "c", IMAGES.float())


def test_weights_that_the_head_rounds_itself_stay_in_their_type():
    def rounded(net: Any, x: Tensor) -> Tensor:
        return (net.c(x).relu().mean((2, 3)).bfloat16() @ net.fc.weight.T.bfloat16()).float()

    network = net(rounded).float()
    with pytest.warns(UserWarning, match="bfloat16"):
        trace = ab.trace(network, "c", IMAGES.float())
    torch.testing.assert_close(
        trace.logits, network.eval()(IMAGES.float()).detach(), rtol=0, atol=0
    )


def test_no_precision_is_told_of_a_trunk_that_is_to_run_in_bf16():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.autocast("cpu", torch.bfloat16):  # which an axiom-bench call turns off
            ab.cut(net().float(), "c", precision="bf16").trace(IMAGES.float())


def test_an_autocast_around_a_call_rounds_no_gradient():
    expected = ab.trace(net().float(), "c", IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        trace = ab.trace(net().float(), "c", IMAGES)
        assert torch.equal(
            trace.gradient_of(lambda outputs: outputs[:, 0]),
            expected.gradient_of(lambda z: z[:, 0]),
        )
    assert torch.equal(trace.gradients, expected.gradients)


class Rounding(torch.autograd.Function):
    """The identity, whose gradient, another one's, is never left out; it notes TF32 and an autocast
    around it.
    """

    seen: ClassVar[list[bool]] = []

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        backends = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        Rounding.seen.append(any((*backends, torch.is_autocast_enabled("cpu"))))
        return 2 * gradient


def slope(explanation: Explanation) -> Tensor:
    """A metric of one's own that asks for a gradient."""
    images = explanation.trace.images.clone().requires_grad_()
    with torch.enable_grad():
        scores = explanation.trace.forward(images)
    return torch.autograd.grad(scores.sum(), images)[0].abs().amax((1, 2, 3))


def test_no_gradient_is_rounded_to_tf32_or_an_autocasts_type():
    """A backward pass has the settings of the time when it runs; torch allows TF32 in convolutions
    of a GPU.
    """
    assert torch.backends.cudnn.allow_tf32
    through = Rounding.apply
    network = net(lambda net, x: net.fc(through(net.c(through(x)).relu()).mean((2, 3))))
    with torch.autocast("cpu", torch.bfloat16):
        trace = ab.trace(network, "c", IMAGES)
        trace.gradient_of(lambda outputs: outputs[:, 0])
        passes = {"trace": len(Rounding.seen)}
        for name in (
            "saliency",
            "integrated_gradients",
            "guided_xgrad_cam",
            "opti_cam",
            "shapley_cam",
            "smooth_grad",
        ):
            before = len(Rounding.seen)
            methods.get(name)(trace)
            passes[name] = len(Rounding.seen) - before
        before = len(Rounding.seen)
        measure(
            plugins.plugin_for("metric", slope),
            Explanation.of(trace, methods.get("grad_cam")(trace)),
            True,
        )
        passes["a metric"] = len(Rounding.seen) - before
    assert all(passes.values()), passes
    assert not any(Rounding.seen)


def test_one_image_behind_a_squeeze_has_the_drops_of_two():
    network = net(lambda net, x: net.fc(net.c(x).relu().mean((2, 3), keepdim=True).squeeze()))
    drops = ab.trace(network, "c", IMAGES[:1], [1]).ablation_drops
    torch.testing.assert_close(
        drops, ab.trace(net(), "c", IMAGES, [1, 1]).ablation_drops[:1], rtol=0, atol=1e-13
    )


def test_an_image_of_nan_is_named_and_the_others_have_their_maps():
    images = IMAGES.index_fill(0, torch.tensor([1]), torch.nan)
    with pytest.warns(UserWarning, match=r"scores of the images \[1\] aren't finite"):
        maps = ab.explain(net(), "c", images, ["grad_cam"])["grad_cam"]
    assert torch.equal(maps[:1], ab.explain(net(), "c", IMAGES[:1], ["grad_cam"])["grad_cam"])


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def test_a_compiled_network_is_the_one_that_was_compiled():
    for layer in ("c", "_orig_mod.c"):
        compiled = torch.compile(net(), backend="eager")
        assert torch.equal(
            ab.trace(compiled, layer, IMAGES).gradients, ab.trace(net(), "c", IMAGES).gradients
        )


def test_a_gradient_of_ones_own_is_the_networks():
    straight = net(lambda net, x: net.fc(Straight.apply(net.c(x)).mean((2, 3))))
    expected = net().fc.weight[[1, 3]][:, :, None, None].expand(2, 6, 16, 16) / 256
    torch.testing.assert_close(
        ab.trace(straight, "c", IMAGES, torch.tensor([1, 3])).gradients, expected
    )


def dynamic() -> nn.Module:
    return net(
        fc=torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 4)), {nn.Linear})
    )


def of_integers() -> nn.Module:
    network = net()
    network.fc.weight = nn.Parameter(torch.ones(4, 6, dtype=torch.int8), requires_grad=False)
    return network


def scripted() -> nn.Module:
    return net(c=torch.jit.script(nn.Sequential(nn.Conv2d(3, 6, 3))))


def half() -> nn.Module:
    network = net()
    network.fc.half()
    return network


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.d, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(1, 6, 3), nn.Linear(6, 4)

    def forward(self, image: Tensor, depth: Tensor) -> Tensor:
        return self.fc((self.c(image) + self.d(depth)).relu().mean((2, 3)))


def without_gradient(network: Any, x: Tensor) -> Tensor:
    return torch.from_numpy(network.fc(network.c(x).mean((2, 3))).detach().numpy())


def mirrored(net: Any, x: Tensor) -> Tensor:
    return sum(net.fc(net.c(torch.cat([x, x.flip(3)])).mean((2, 3))).chunk(2))  # type: ignore[return-value]


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.MaxPool2d(8), nn.Conv2d(6, 4, 2), nn.Flatten()
    ).double()


BYTES = (IMAGES * 255).byte()
PAIR = {"image": IMAGES, "depth": IMAGES[:, :1]}
# network, layer, images, the sentence
SITUATIONS: dict[str, tuple[Callable[[], nn.Module], str, Any, str]] = {
    "dynamic int8": (
        dynamic,
        "c",
        IMAGES,
        r"is quantised \(its 'fc.0' is a Linear of integers\).*in floating point",
    ),
    "int8": (of_integers, "c", IMAGES, r"its 'fc' is a Linear of integers"),
    "TorchScript": (
        lambda: torch.jit.trace(net(), IMAGES),
        "c",
        IMAGES,
        r"give the nn.Module that it was made from",
    ),
    "a layer in TorchScript": (
        scripted,
        "c.0",
        IMAGES,
        r"layer 'c.0' is TorchScript, .*; choose another layer",
    ),
    "lazy": (
        lambda: net(fc=nn.LazyLinear(4)),
        "c",
        IMAGES,
        r"'fc.weight' has no shape yet; call the network",
    ),
    "meta": (
        lambda: net().to("meta"),
        "c",
        IMAGES,
        r"no values .device meta.; build it on a device",
    ),
    "half a float16": (
        half,
        "c",
        IMAGES,
        r"can't run in torch.float16 and torch.float64 .*; give network.float",
    ),
    "no gradient": (
        lambda: net(without_gradient),
        "c",
        IMAGES,
        r"depend on the layer 'c' and have no gradient there",
    ),
    "two inputs, one given": (
        Two,
        "c",
        IMAGES,
        r"takes image and depth.*give depth by model.inputs=FILE.csv",
    ),
    **{
        f"two inputs in {type(images).__name__}": (
            Two,
            "c",
            images,
            r"Two.forward takes image and depth",
        )
        for images in (tuple(PAIR.values()), list(PAIR.values()), PAIR)
    },
    "bytes": (net, "c", BYTES, r"are torch.uint8; give images.float\(\) / 255, normalised"),
    "channels last": (
        net,
        "c",
        IMAGES.movedim(1, -1),
        r"takes 3 channels, .* have 16; give images.movedim\(-1, -3\)",
    ),
    "one, channels last": (
        net,
        "c",
        IMAGES[0].movedim(0, -1),
        r"give images.movedim\(-1, -3\)\[None\]",
    ),
    "one": (net, "c", IMAGES[0], r"\(3, 16, 16\); give images\[None\]"),
    "grey": (
        net,
        "c",
        IMAGES[:, :1],
        r"'c', takes 3 channels, .* have 1; give images.expand\(-1, 3, -1, -1\)",
    ),
    "no channels": (net, "c", IMAGES[0, 0], r"\(16, 16\); give images\[None, None\]"),
    "NumPy bytes": (
        net,
        "c",
        BYTES[0].movedim(0, -1).numpy(),
        r"from_numpy\(images\).movedim\(-1, -3\)\[None\] / 255",
    ),
    "Pillow": (net, "c", Image.new("RGB", (16, 16)), r"functional.to_tensor\(images\)\[None\]"),
    "list of Pillow": (
        net,
        "c",
        [Image.new("RGB", (16, 16))],
        r"torch.stack of tensors, and for each image give",
    ),
    "list": (net, "c", list(IMAGES), r"torch.stack\(images\)"),
    "batch with labels": (
        net,
        "c",
        [IMAGES, torch.tensor([1, 2])],
        r"give its images alone, images\[0\]",
    ),
    "dict": (net, "c", {"pixel_values": IMAGES}, r"images\['pixel_values'\]"),
    "a volume": (
        lambda: nn.Sequential(nn.Conv3d(4, 2, 3)),
        "0",
        IMAGES,
        r"C, D, H, W\), .*; give images\[None\]",
    ),
    "list wanted": (
        lambda: net(lambda net, x: net.c(torch.stack(x))),
        "c",
        IMAGES,
        r"self.net\(list\(images\)\)",
    ),
    "copies in the batch": (
        lambda: net(mirrored),
        "c",
        IMAGES,
        r"'c' gives maps of 2 images for one, as of its crops",
    ),
    "a network of channels last": (
        lambda: net(lambda net, x: net.fc(net.c(x.movedim(-1, 1)).mean((2, 3)))),
        "c",
        IMAGES.movedim(1, -1),
        r"takes images \(16, 16, 3\), their channels last; .*self.net\(images.movedim\(1, -1\)",
    ),
    "too small": (pooled, "0", IMAGES, r"can't run on an image of 3 x 16 x 16 \(.*\); give images"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantize.*:UserWarning")
@pytest.mark.parametrize("name", SITUATIONS)
def test_a_situation_is_one_sentence(name):
    build, layer, images, sentence = SITUATIONS[name]
    with pytest.raises(ab.BenchError, match=sentence) as error:
        ab.trace(build(), layer, images)
    assert "\n" not in str(error.value)


def test_a_map_of_as_many_rows_as_channels_is_a_map():
    """Whatever the images' sides: the operations that make and read it tell."""
    spectrogram = nn.Sequential(
        nn.Conv2d(1, 8, 3, (2, 1), 1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, (2, 4), 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    calls = layers.record_calls(spectrogram, (32, 32), channels=1)
    assert layers.default_layer(calls) == "3"
    assert ab.trace(spectrogram, "3", torch.rand(1, 1, 32, 32)).activations.shape == (1, 8, 8, 8)
    assert (
        layers.choose_layer(
            spectrogram, "3", layers.record_calls(spectrogram, (32, 64), channels=1)
        )
        == "3"
    )
    assert ab.trace(spectrogram, "3", torch.rand(1, 1, 32, 64)).activations.shape == (1, 8, 8, 16)
    grids = nn.Sequential(
        nn.Conv2d(3, 8, 4, 4),
        Network(lambda net, x: net.norm(x.permute(0, 2, 3, 1)), norm=nn.LayerNorm(8)),
    )
    last = Network(
        lambda net, x: net.fc(net.grids(x).mean((1, 2))), grids=grids, fc=nn.Linear(8, 3)
    )
    with pytest.raises(ab.BenchError, match=r"gives tokens \(1, 8, 8, 8\), not maps"):
        ab.trace(last, "grids.1", torch.rand(1, 3, 32, 32))
    assert ab.trace(
        last, "grids.1", torch.rand(1, 3, 32, 32), reshape="tokens"
    ).activations.shape == (1, 8, 8, 8)
