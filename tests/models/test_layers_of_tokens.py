"""A network of tokens has a default layer, and its tokens become maps."""

import re

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.models import layers
from tests.models.small_networks import Block, ByClassToken, Tokens, choose, conv


class ByMean(ByClassToken):
    """A transformer whose scores come from the mean of all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.fc(self.norm(self.blocks(tokens)).mean(1))


class ByPooling(ByMean):
    """A transformer whose scores come from a query that attends to all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.norm(self.blocks(patches))
        query = self.token.expand(len(x), -1, -1)
        pooled, _ = self.pool(query, tokens, tokens, need_weights=False)
        return self.fc(pooled[:, 0])


class Grids(ByMean):
    """A network whose tokens are a grid (B, H, W, K)."""

    def forward(self, x: Tensor) -> Tensor:
        grid = self.patches(x).permute(0, 2, 3, 1)
        return self.fc(self.norm(grid).mean((1, 2)))


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (ByClassToken(), "blocks.1.before"),
        (ByMean(), "norm"),
        (ByPooling(), "norm"),
        (Grids(), "norm"),
    ],
)
def test_a_transformer_has_a_default_layer_and_its_maps(network, layer):
    torch.manual_seed(0)
    network.double()
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    note = rf"layer '{layer}' returns tokens, which become maps \(reshape=tokens\)"

    with pytest.warns(UserWarning, match=note):
        maps = ab.explain(network, images=images, methods=["grad_cam"])
    assert maps.layer == layer
    trace = ab.trace(network, layer, images, [0, 1], reshape="tokens")
    assert trace.activations.shape == (2, 8, 4, 4)
    assert trace.gradients.abs().amax(1).all()

    def scores_without(channel: int) -> Tensor:
        def ablate(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            has_class_token = output.shape[1] == 17
            first_patch = 1 if has_class_token else 0  # the class token belongs to no map
            ablated = output.clone()
            ablated[:, first_patch:, ..., channel] = 0
            return ablated

        handle = network.get_submodule(layer).register_forward_hook(ablate)
        try:
            return network(images)[[0, 1], [0, 1]]
        finally:
            handle.remove()

    with torch.no_grad():
        scores = network(images)[[0, 1], [0, 1]]
        drops = [scores - scores_without(channel) for channel in range(8)]
    expected = torch.stack(drops, 1)
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=1e-9, atol=1e-12)
    assert trace.ablation_drops.abs().max() > 1e-3


def test_tokens_that_fill_no_grid_need_one():
    network = ByMean()
    images = torch.rand(1, 3, 13, 18)
    message = r"12 tokens of an image of 13x18 pixels fill no grid .*set reshape to their"

    with pytest.raises(BenchError, match=message):
        ab.explain(network, images=images)

    maps = ab.explain(network, images=images, methods=["grad_cam"], reshape=(3, 4))
    assert maps.layer == "norm"


class TokensBehindMaps(nn.Module):
    """A block (or no block) and a norm over the positions of the last map."""

    def __init__(self, mixing: nn.Module) -> None:
        super().__init__()
        convolutions = [conv(3, 3) for _ in range(8)]
        self.maps = nn.Sequential(*convolutions, nn.Conv2d(3, 8, 4, 4))
        self.mixing = mixing
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.maps(x).flatten(2).transpose(1, 2)
        return self.fc(self.norm(self.mixing(tokens)).mean(1))


@pytest.mark.parametrize(("mixing", "layer"), [(Block(), "norm"), (nn.Identity(), "maps.8")])
def test_tokens_of_a_block_behind_the_last_map_are_the_default(mixing, layer):
    network = TokensBehindMaps(mixing)
    assert choose(network) == layer

    notes = layers.default_notes(layer, layers.record_calls(network, (16, 16)))

    if layer == "norm":
        (note,) = notes
        assert "tokens" in note
        assert "branches" not in note
    else:
        assert not notes


def test_a_refusal_names_a_layer_of_tokens_that_works():
    network = Tokens(stem=0, tokens=4)
    with pytest.raises(BenchError, match=r"such as '(mixing\.3|mixing)'") as refusal:
        choose(network)
    named = re.search("such as '(.+?)'", str(refusal.value))
    assert named is not None
    trace = ab.trace(network, named[1], torch.rand(1, 3, 16, 16), reshape="tokens")
    assert trace.activations.shape == (1, 8, 4, 4)


def test_tokens_of_windows_are_no_tokens_of_the_image():
    """Check a network such as TNT, whose first norm in a block is over the pixels of each patch."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.LayerNorm(48)
            self.norm = nn.LayerNorm(48)
            self.fc = nn.Linear(48, 5)

        def forward(self, x: Tensor) -> Tensor:
            patches = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
            pixels = self.inner(patches.reshape(-1, 1, 48).expand(-1, 4, -1))
            mixed = patches + pixels.mean(1).reshape_as(patches)
            return self.fc(self.norm(mixed).mean(1))

    calls = layers.record_calls(Windows(), (16, 16))
    assert [call.name for call in calls if call.is_tokens] == ["norm"]


def test_scores_without_a_gradient_are_the_reason_for_no_default_layer():
    class WithoutGradient(ByMean):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    with pytest.raises(
        BenchError, match=r"scores have no gradient; compute them without .*no_grad"
    ):
        ab.explain(WithoutGradient(), None, torch.rand(1, 3, 16, 16), ["grad_cam"])
