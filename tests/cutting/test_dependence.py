"""Networks whose scores aren't a function of the image alone: each image runs alone, or one sentence says why."""

import random
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import axiom_bench as ab
from axiom_bench.cutting.dependence import BatchMates, OtherScores

Forward = Callable[["Net", Tensor], Tensor]
METHODS, METRICS = ["grad_cam", "hires_cam"], ["sensitivity_error", "conservation_error", "deletion_auc"]


class Net(nn.Module):
    """A convolution, then a function of its maps (B, 6, 4, 4)."""

    def __init__(self, forward: Forward, **parts: nn.Module) -> None:
        super().__init__()
        self.conv, self.linear, self.of_maps = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 5), forward
        self.calls = 0
        self.kept: Tensor | None = None
        self.register_module("part", nn.ModuleDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.of_maps(self, self.conv(x))


class AlwaysTraining(nn.Dropout):
    def train(self, mode: bool = True) -> "AlwaysTraining":
        return super().train(True)


def means(net: Net, maps: Tensor) -> Tensor:
    return net.linear(maps.relu().mean((2, 3)))


def tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)  # (B, 16, 6)


def attended(net: Net, maps: Tensor) -> Tensor:
    return net.linear(net.part["heads"](*[tokens(maps)] * 3)[0].mean(1))


def batch_normed(net: Net, maps: Tensor) -> Tensor:
    return means(net, functional.batch_norm(maps, torch.zeros(6).double(), torch.ones(6).double(), training=True))


WITH_MATES: dict[str, tuple[Forward, dict[str, Callable[[], nn.Module]], str]] = {
    "statistics of the batch": (
        lambda net, maps: means(net, net.part["norm"](maps)),
        {"norm": lambda: nn.BatchNorm2d(6, track_running_stats=False)},
        r"by BatchNorm2d 'part\.norm'",
    ),
    "training by construction": (batch_normed, {}, "by its forward"),
    "maximum of the batch": (lambda net, maps: means(net, maps / maps.abs().max()), {}, "by its forward"),
    "less the other images": (lambda net, maps: means(net, maps - maps.mean(0)/2), {}, "by its forward"),
    "attention over images": (attended, {"heads": lambda: nn.MultiheadAttention(6, 2)}, "by MultiheadAttention"),
    "recurrent over images": (
        lambda net, maps: net.linear(net.part["rnn"](tokens(maps))[0][:, -1]), {"rnn": lambda: nn.GRU(6, 6)}, "by GRU"),
    "one image alone": (lambda net, maps: net.linear(maps.relu().mean((2, 3)).view(6))[None], {}, "two images at once"),
}  # fmt: skip


def scores_before(net: Net, maps: Tensor) -> Tensor:
    now = means(net, maps)
    now, net.kept = now if net.kept is None else now + net.kept / 2, now.detach()
    return now


def first_only(net: Net, maps: Tensor) -> Tensor:
    net.kept = means(net, maps) if net.kept is None else net.kept
    return net.kept


CHANGING: dict[str, tuple[Forward, dict[str, Callable[[], nn.Module]], str]] = {
    "dropout": (lambda net, maps: functional.dropout(means(net, maps)), {}, "by dropout in its forward"),
    "rare dropout": (lambda net, maps: functional.dropout(means(net, maps).sum(1, True), 0.2), {}, "by dropout in"),
    "module in training": (
        lambda net, maps: net.part["drop"](means(net, maps)), {"drop": AlwaysTraining}, "AlwaysTraining 'part.drop'"),
    "noise": (lambda net, maps: means(net, maps + torch.randn_like(maps)), {}, "by randn_like in its forward"),
    "Python's numbers": (lambda net, maps: means(net, maps) * random.choice([1, 1, 1, 2]), {}, "random numbers in"),
    "number of calls": (lambda net, maps: means(net, maps) / net.calls, {}, "keeps from call to call"),
    "hidden state": (scores_before, {}, "keeps from call to call"),
    "first image kept": (first_only, {}, "keeps from call to call"),
    "softmax over images": (lambda net, maps: means(net, maps).softmax(0), {}, r"the same scores alone, .* dim=1"),
}  # fmt: skip


def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.4


def network(forward: Forward, parts: dict[str, Callable[[], nn.Module]]) -> Net:
    torch.manual_seed(0)
    return Net(forward, **{name: part() for name, part in parts.items()}).double()


@pytest.mark.parametrize("case", WITH_MATES)
def test_an_image_has_the_values_that_it_has_alone(case: str) -> None:
    forward, parts, place = WITH_MATES[case]
    net = network(forward, parts)
    alone = [ab.trace(net, "conv", image) for image in images().split(1)]
    with pytest.warns(BatchMates, match=place):
        trace = ab.trace(net, "conv", images(), output="logits")
    for name in ("scores", "gradients", "ablation_drops"):
        assert torch.allclose(getattr(trace, name), torch.cat([getattr(each, name) for each in alone]), atol=1e-12)
    with torch.no_grad():
        by_model = torch.cat([net.eval()(image) for image in images().split(1)])
        assert torch.allclose(trace.logits, by_model, atol=1e-12)
    together = ab.evaluate(net, "conv", [(images(), None)], METHODS, METRICS)["value"]
    one_by_one = ab.evaluate(net, "conv", [(image, None) for image in images().split(1)], METHODS, METRICS)["value"]
    assert sorted(together) == pytest.approx(sorted(one_by_one), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("case", CHANGING)
def test_scores_that_change_from_call_to_call_are_one_sentence(case: str) -> None:
    forward, parts, reason = CHANGING[case]
    for seed in range(3):
        net = network(forward, parts)
        torch.manual_seed(seed)
        with pytest.raises(OtherScores, match=reason) as error:
            ab.trace(net, "conv", images(), output="logits")
        assert "\n" not in str(error.value)
        with pytest.raises(OtherScores, match=reason):
            ab.evaluate(net, "conv", [(images(), None)], METHODS, METRICS, output="logits")


def test_the_sentence_s_next_step_works() -> None:
    net = network(lambda net, maps: functional.dropout(means(net, maps), 0.5, net.training), {})
    assert torch.equal(*(ab.explain(net, "conv", images(), ["grad_cam"])["grad_cam"] for _ in range(2)))


class Counted(nn.Conv2d):
    """images: those of each call; torch.fx makes a node of it without a call."""

    images: ClassVar[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.images.append(len(x))
        return super().forward(x)


def test_it_costs_three_images_in_two_passes_once_for_all_cuts_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "__module__", "torch.nn")  # so that torch.fx takes it for one of torch's
    net = network(means, {})
    net.conv = Counted(3, 6, 4, 4).double()
    counts = []
    for mates in (None, ""):
        Counted.images = []
        cut_model = ab.cut(net, "conv", output="logits")
        cut_model.mates = mates
        cut_model.trace(images())
        counts.append(Counted.images)
        assert cut_model.mates == cut_model.on(network(means, {})).mates == cut_model.at("linear").mates == ""
    assert sorted(counts[0]) == sorted([*counts[1], 1, 2])
