"""Networks whose scores aren't a function of the image alone: each image runs alone, or one
sentence says why.
"""

import random
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import axiom_bench as ab
from axiom_bench.cutting.dependence import OtherScores
from axiom_bench.evaluation.plugins import with_params
from axiom_bench.notes import BatchMates

Forward = Callable[["Net", Tensor], Tensor]
# Few steps, since each image and each of its copies runs alone.
METRICS = ["sensitivity_error", with_params("metric", "deletion_auc", {"steps": 4})]


class AlwaysTraining(nn.Dropout):
    def train(self, mode: bool = True) -> "AlwaysTraining":
        return super().train(True)


class Net(nn.Module):
    """A convolution, then a function of its maps (B, 6, 4, 4)."""

    def __init__(self, forward: Forward, part: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, 4)
        self.linear = nn.Linear(6, 5)
        self.part = part
        self.of_maps = forward
        self.always = AlwaysTraining()
        self.calls = 0
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.of_maps(self, self.conv(x))


def means(net: Net, maps: Tensor) -> Tensor:
    return net.linear(maps.relu().mean((2, 3)))


def tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)  # (B, 16, 6)


def normalised(net: Net, maps: Tensor) -> Tensor:
    return means(net, functional.batch_norm(maps, None, None, training=True))


def attention_over_images(net: Net, maps: Tensor) -> Tensor:
    sequence = tokens(maps)
    mixed, _ = net.part(sequence, sequence, sequence)
    return net.linear(mixed.mean(1))


def recurrent_over_images(net: Net, maps: Tensor) -> Tensor:
    outputs, _ = net.part(tokens(maps))
    return net.linear(outputs[:, -1])


def one_image_alone(net: Net, maps: Tensor) -> Tensor:
    return net.linear(maps.relu().mean((2, 3)).view(6))[None]


NORM = nn.BatchNorm2d(6, track_running_stats=False)
# name: (the head, its part)
WITH_MATES: dict[str, tuple[Forward, nn.Module | None]] = {
    "statistics of the batch": (lambda net, maps: means(net, net.part(maps)), NORM),
    "training by construction": (normalised, None),
    "maximum of the batch": (lambda net, maps: means(net, maps / maps.abs().max()), None),
    "less the other images": (lambda net, maps: means(net, maps - maps.mean(0) / 2), None),
    "attention over images": (attention_over_images, nn.MultiheadAttention(6, 2)),
    "recurrent over images": (recurrent_over_images, nn.GRU(6, 6)),
    "one image alone": (one_image_alone, None),
}


def scores_before(net: Net, maps: Tensor) -> Tensor:
    scores = means(net, maps)
    previous = net.kept
    net.kept = scores.detach()
    return scores if previous is None else scores + previous / 2


def rare_dropout(net: Net, maps: Tensor) -> Tensor:
    return functional.dropout(means(net, maps).sum(1, True), 0.2)


def seldom_doubled(net: Net, maps: Tensor) -> Tensor:
    return means(net, maps) * random.choice([1, 1, 1, 2])


def first_only(net: Net, maps: Tensor) -> Tensor:
    net.kept = means(net, maps) if net.kept is None else net.kept
    return net.kept


CHANGING: dict[str, tuple[Forward, str]] = {
    "dropout": (lambda net, maps: functional.dropout(means(net, maps)), "by dropout in Net"),
    "rare dropout": (rare_dropout, "by dropout in"),
    "module in training": (
        lambda net, maps: net.always(means(net, maps)),
        "by dropout in AlwaysTraining",
    ),
    "noise": (lambda net, maps: means(net, maps + torch.randn_like(maps)), "by randn_like in Net"),
    "Python's numbers": (seldom_doubled, "by random numbers"),
    "number of calls": (lambda net, maps: means(net, maps) / net.calls, "keeps from call to call"),
    "hidden state": (scores_before, "keeps from call to call"),
    "first image kept": (first_only, "keeps from call to call"),
    "softmax over images": (
        lambda net, maps: means(net, maps).softmax(0),
        r"the same scores one at a time, .* dim=1",
    ),
}


def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 3, 16, 16, generator=generator, dtype=torch.float64) - 0.4


def network(forward: Forward, part: nn.Module | None = None) -> Net:
    torch.manual_seed(0)
    return Net(forward, part or nn.Identity()).double()


@pytest.mark.parametrize("case", WITH_MATES)
def test_an_image_has_the_values_that_it_has_alone(case: str) -> None:
    net = network(*WITH_MATES[case])
    alone = [ab.trace(net, "conv", image, output="logits") for image in images().split(1)]
    with pytest.warns(BatchMates, match="each image runs alone"):
        trace = ab.trace(net, "conv", images(), output="logits")
    for name in ("scores", "gradients", "ablation_drops"):
        assert torch.allclose(
            getattr(trace, name), torch.cat([getattr(each, name) for each in alone]), atol=1e-12
        )
    with torch.no_grad():
        assert torch.allclose(
            trace.logits, torch.cat([net.eval()(image) for image in images().split(1)]), atol=1e-12
        )
    together = ab.evaluate(net, "conv", [(images(), None)], ["grad_cam"], METRICS)["value"]
    one_by_one = ab.evaluate(
        net, "conv", [(image, None) for image in images().split(1)], ["grad_cam"], METRICS
    )
    assert sorted(together) == pytest.approx(sorted(one_by_one["value"]), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("case", CHANGING)
def test_scores_that_change_from_call_to_call_are_one_sentence(case: str) -> None:
    forward, reason = CHANGING[case]
    for seed in range(3):
        net = network(forward)
        torch.manual_seed(seed)
        with pytest.raises(OtherScores, match=reason) as error:
            ab.evaluate(net, "conv", [(images(), None)], ["grad_cam"], METRICS, output="logits")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "case", ["dropout", "rare dropout", "module in training", "noise", "Python's numbers"]
)
def test_fixed_draws_are_a_network_like_any_other(case: str) -> None:
    net = network(CHANGING[case][0])
    state_of_python = random.getstate()
    state_of_torch = torch.get_rng_state()
    trace = ab.trace(ab.FixedDraws(net, 3), "conv", images(), output="logits")
    assert random.getstate() == state_of_python
    assert torch.equal(torch.get_rng_state(), state_of_torch)

    def seeded_logits(maps: Tensor) -> Tensor:
        torch.manual_seed(3)
        random.seed(3)
        return net.of_maps(net, maps)

    for row, image in enumerate(images().split(1)):
        maps = net.conv(image)
        logits = seeded_logits(maps)
        target = trace.targets[row]
        assert torch.allclose(trace.logits[row], logits[0], atol=1e-12)
        for channel in range(6):
            ablated = maps.clone()
            ablated[:, channel] = 0
            drop = (logits - seeded_logits(ablated))[0, target]
            assert trace.ablation_drops[row, channel] == pytest.approx(drop.item(), abs=1e-12)
    other = ab.trace(ab.FixedDraws(net, 4), "conv", images(), output="logits")
    few_draws = case in ("rare dropout", "Python's numbers")
    assert few_draws or not torch.equal(other.logits, trace.logits)


def test_a_batch_norm_that_takes_no_image_alone_is_one_sentence() -> None:
    norm = nn.BatchNorm1d(5, track_running_stats=False)
    net = network(lambda net, maps: net.part(means(net, maps)), norm)
    with pytest.raises(OtherScores, match="track_running_stats=True"):
        ab.trace(net, "conv", images())


class Counted(nn.Conv2d):
    """images: those of each call; torch.fx makes a node of it without a call."""

    images: ClassVar[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.images.append(len(x))
        return super().forward(x)


def test_it_costs_three_images_in_two_passes_once_for_all_cuts_of_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # so that torch.fx takes it for one of torch's
    monkeypatch.setattr(Counted, "__module__", "torch.nn")
    net = network(means)
    net.conv = Counted(3, 6, 4, 4).double()
    counts = []
    for mates in (None, ""):
        Counted.images = []
        cut_model = ab.cut(net, "conv", output="logits")
        cut_model.mates = mates
        cut_model.trace(images())
        counts.append(Counted.images)
        for cut in (cut_model, cut_model.on(network(means)), cut_model.at("linear")):
            assert cut.mates == ""
    assert sorted(counts[0]) == sorted([*counts[1], 1, 2])


def test_a_network_that_sets_itself_up_in_its_first_call_has_the_scores_of_the_later_ones() -> None:
    net = network(lambda net, maps: means(net, maps * (2 if net.calls == 1 else 1)))
    trace = ab.trace(net, "conv", images())
    with torch.no_grad():
        assert torch.equal(trace.logits.argmax(1), net(images()).argmax(1))
        assert torch.allclose(trace.logits, net(images()))
