"""A probability, a margin, groups of classes: against loops over classes, their drops against
ablations one by one.
"""

import csv
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods, metrics
from axiom_bench.cutting.ablation.drops import brute_force_drops
from axiom_bench.cutting.output import Output
from axiom_bench.cutting.trace import cut, trace
from axiom_bench.data.layouts.voc import CLASSES
from axiom_bench.data.torchvision_import import torchvision  # noqa: F401 -- must come before its submodules
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import on_score_scale
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.recipro_cam import recipro_cam
from axiom_bench.methods.score_cam import score_cam
from axiom_bench.models import outputs
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config
from axiom_bench.run.notebook import evaluate, explain

from torchvision.models._meta import _IMAGENET_CATEGORIES  # isort: skip

REAL = Path(os.environ.get("AXIOM_BENCH_REAL", Path(__file__).parents[2].parent / "shared"))


def rows() -> list[dict[str, str]]:
    with outputs.GROUPS.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_voc_groups_are_complete_and_disjoint():
    groups = outputs.voc_in_imagenet()
    indices = [index for group in groups.values() for index in group]
    assert len(set(indices)) == len(indices) == 242
    assert set(indices) <= set(range(1000))
    assert [len(groups[name]) for name in ("dog", "bird", "cat")] == [118, 59, 5]
    assert all(groups.values())


def test_group_entries_match_torchvision_categories():
    """Names against torchvision's list; the standard order is that of the synset ids, so they
    ascend together.
    """
    for row in rows():
        # torchvision tells the two cranes apart
        name = {"crane": "crane bird"}.get(row["name"], row["name"])
        assert _IMAGENET_CATEGORIES[int(row["index"])].lower() == name.lower()
    by_index = sorted(rows(), key=lambda row: int(row["index"]))
    synsets = [row["synset"] for row in by_index]
    assert synsets == sorted(set(synsets))


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "data").is_dir(), reason=f"there is no data in {REAL}")
def test_group_synsets_match_the_standard_order():
    standard = (REAL / "data/imagenet/LOC_synset_mapping.txt").read_text().split("\n")
    assert all(
        standard[int(row["index"])].startswith(f"{row['synset']} {row['name']}") for row in rows()
    )


def test_groups_are_log_sum_exp_and_their_softmax_the_conditional_probability():
    logits = torch.randn(3, 7, dtype=torch.float64)
    actual = outputs.LogSumExpGroups([[1], [0, 6, 3]]).double()(logits)
    assert torch.allclose(actual[:, 0], logits[:, 1])
    assert torch.allclose(actual[:, 1], logits[:, [0, 6, 3]].exp().sum(1).log())
    logits = torch.randn(3, 1000, dtype=torch.float64)
    module = outputs.LogSumExpGroups(list(outputs.voc_in_imagenet().values())).double()
    probability = logits.softmax(1)
    of_groups = torch.stack(
        [probability[:, list(group)].sum(1) for group in outputs.voc_in_imagenet().values()], 1
    )
    assert torch.allclose(module(logits).softmax(1), of_groups / of_groups.sum(1, keepdim=True))


def test_load_model_with_voc_groups():
    config = {**model_config("squeezenet1_1"), "weights": None}
    bare, loaded = load_model(config), load_model({**config, "output": "voc_groups"})
    assert (loaded.name, loaded.layer, loaded.classes) == (
        "squeezenet1_1+voc_groups",
        "features.12",
        CLASSES,
    )
    assert (loaded.number_of_classes, loaded.weights_sha256) == (20, bare.weights_sha256)
    images = torch.randn(2, 3, 64, 64)
    logits = bare.module(images)
    dogs = logits[:, list(outputs.voc_in_imagenet()["dog"])].logsumexp(1)
    targets = torch.tensor([CLASSES.index("dog")] * 2)
    trace = cut(loaded.module, loaded.layer, output=loaded.output).trace(images, targets)
    assert torch.allclose(trace.scores, dogs)
    assert trace.logits.shape == (2, 20)
    torch.testing.assert_close(trace.network.forward_logits(images), trace.logits)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("voc_groups", "1000 ImageNet classes.*10 logits"),
        ("voc_group", "did you mean 'voc_groups'"),
        ("margins", "did you mean 'margin'"),
    ],
)
def test_error_messages(output, message):
    with pytest.raises(BenchError, match=message):
        load_model({**model_config("scenes_vgg"), "output": output})


MEMBERS = [[0, 4], [1], [2, 3, 5, 7]]
GROUPS = Output("groups", lambda _: outputs.LogSumExpGroups(MEMBERS), are_logits=True)
BY_HAND: dict[str | Output, Callable[[Tensor], Tensor]] = {
    "logits": lambda logits: logits,
    "probability": lambda logits: torch.stack([row.exp() / row.exp().sum() for row in logits]),
    "margin": lambda logits: torch.stack(
        [
            torch.stack([z - torch.cat([row[:c], row[c + 1 :]]).max() for c, z in enumerate(row)])
            for row in logits
        ]
    ),
    "rest": lambda logits: torch.stack([2 * row - row.exp().sum().log() for row in logits]),
    GROUPS: lambda logits: torch.stack(
        [logits[:, group].exp().sum(1).log() for group in MEMBERS], 1
    ),
}
HEADS = {
    "pooled": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8)),
    "fully connected": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(216, 10), nn.ReLU(), nn.Dropout(), nn.Linear(10, 8)
    ),
    "one linear layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(216, 8)),
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "scores by pooling": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "clamped logits": lambda: nn.Sequential(nn.Flatten(), nn.Linear(216, 8), nn.ReLU()),
}


class DataDependent(nn.Module):
    """A head that torch.fx can't follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(216, 8)

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.layer(maps.flatten(1))
        return logits if logits.sum() > -1e9 else logits * 0


def network(head: nn.Module | str = "fully connected") -> nn.Sequential:
    head = HEADS[head]() if isinstance(head, str) else head
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), head).double().eval()


IMAGES = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 1, 2, 2])


def drops_by_hand(net: nn.Sequential, output: str | Output, targets: Tensor) -> Tensor:
    """S - S_k in float64, each channel set to zero in turn."""
    maps = net[:2](IMAGES)
    channels = range(maps.shape[1])
    ablated = [
        maps,
        *(maps * (torch.arange(len(channels)) != channel)[:, None, None] for channel in channels),
    ]
    score, *scores = (BY_HAND[output](net[2](each))[range(4), targets] for each in ablated)
    return torch.stack([score - each for each in scores], 1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("head", "output"),
    [
        pytest.param(
            head, output, id=f"{head}-{output if isinstance(output, str) else output.name}"
        )
        for head in (*HEADS, "data decides")
        for output in BY_HAND
        if (head, output)
        != ("scores by pooling", GROUPS)  # six maps are six classes, and the groups want eight
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_drops_of_each_output_equal_brute_force(head, output, dtype):
    net = network(DataDependent() if head == "data decides" else head)
    expected = drops_by_hand(net, output, TARGETS)
    trace = cut(net.to(dtype), "1", output=output).trace(IMAGES.to(dtype), TARGETS)
    drops = trace.ablation_drops.double()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5 if head == "data decides" else 1e-6
    assert (drops - expected).abs().max() <= tolerance * expected.abs().max()
    cut_model = trace.cut_model
    kinds, sides = cut_model.trunk_and_head.side_kinds, trace.network.sides
    by_passes = brute_force_drops(
        cut_model.head, kinds, trace.activations, sides, trace.targets, 2**20
    )
    assert (by_passes.double() - expected).abs().max() <= 1e-6 * trace.scores.abs().max()


@pytest.mark.parametrize("output", ["probability", "margin"])
def test_scores_gradients_and_derived_traces_are_of_the_output(output):
    net, rows = network(), range(4)
    actual = traced = trace(net, "1", IMAGES, TARGETS, output=output)
    maps = actual.activations.clone().requires_grad_()
    logits = net[2](maps)
    if output == "probability":
        scores = logits.softmax(1)[rows, TARGETS]
    else:
        scores = logits[rows, TARGETS] - logits.scatter(1, TARGETS[:, None], -torch.inf).amax(1)
    (gradients,) = torch.autograd.grad(scores.sum(), maps)
    for value, expected in (
        (actual.scores, scores),
        (actual.gradients, gradients),
        (actual.logits, logits),  # the network's stay reachable
        (actual.network.forward_logits(IMAGES), logits),
        (actual.forward(IMAGES)[rows, TARGETS], scores),
        (actual.network.explained(actual.logits), actual.head(actual.activations)),
        (actual.network.head_logits(actual.activations), logits),
    ):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(
        traced[1:3].ablation_drops, traced.ablation_drops[1:3], rtol=1e-11, atol=1e-14
    )
    for other in (traced.at("0"), traced.again(images=IMAGES), traced.again(model=net)):
        torch.testing.assert_close(other.scores, traced.scores)
    larger = traced.scaled(output=4.0)
    torch.testing.assert_close(larger.ablation_drops, 4 * traced.ablation_drops)
    torch.testing.assert_close(larger.head(traced.activations), 4 * traced.head(traced.activations))
    # the probability of a class isn't four times as high
    torch.testing.assert_close(larger.logits, traced.logits)


def test_default_target_is_the_predicted_class_and_the_network_stays_unchanged():
    net = network()
    for output in ("logits", "probability", "margin"):
        assert trace(net, "1", IMAGES, output=output).targets.equal(net(IMAGES).argmax(1))
    assert (trace(net, "1", IMAGES, output="margin").scores > 0).all()
    names, before = [name for name, _ in net.named_modules()], net(IMAGES)
    _ = trace(net, "1", IMAGES, output="margin").ablation_drops
    assert [name for name, _ in net.named_modules()] == names
    assert net(IMAGES).equal(before)


@pytest.mark.parametrize("head", ["pooled", "fully connected"])
def test_float32_drops_of_a_probability_near_one(head):
    """With 1 - p = 1e-9, p itself is 1 in float32 and so is each ablated one: two scores would
    leave no drop at all.
    """
    net, targets = network(head), torch.zeros(4, dtype=torch.long)
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    last.bias.data[0] += 22
    expected = drops_by_hand(net, "probability", targets).detach()
    assert 1e-12 < expected.abs().max() < 1e-8
    drops = trace(net.float(), "1", IMAGES.float(), targets, output="probability").ablation_drops
    # What is left is the rounding of logits of about 22, in float32.
    torch.testing.assert_close(
        drops.double(), expected, rtol=2e-5, atol=2e-5 * float(expected.abs().max())
    )


def test_margins_of_equal_logits_and_of_two_classes():
    margin = outputs.OUTPUTS["margin"].module(3)
    assert margin is not None
    assert margin(torch.tensor([[2.0, 2.0, 1.0], [5.0, 1.0, 3.0]])).tolist() == [
        [0, 0, -1],
        [2, -4, -2],
    ]
    assert margin(torch.tensor([[2.0, -1.0]])).tolist() == [[3, -3]]


def test_outputs_that_cannot_be_are_refused():
    with pytest.raises(BenchError, match="at least two classes"):
        trace(network(nn.Sequential(nn.Flatten(), nn.Linear(216, 1))), "1", IMAGES, output="margin")
    with pytest.raises(BenchError, match="did you mean 'margin'"):
        cut(network("pooled"), "1", output="margins")
    with pytest.raises(BenchError, match="global average pooling"):
        methods.get("cam")(trace(network("pooled"), "1", IMAGES, output="probability"))


@pytest.mark.parametrize("output", ["probability", "margin"])
@pytest.mark.parametrize("head", ["fully connected", "pooled"])
@pytest.mark.parametrize("name", methods.names())
@pytest.mark.filterwarnings("ignore")
def test_on_score_scale_holds_for_each_output(name, head, output):
    method = methods.get(name)
    actual = trace(network(head), "1", IMAGES, TARGETS, output=output)
    # not_applicable: it has no rule for a softmax, or for the highest of the others
    with suppress(BenchError):
        assert on_score_scale(method, actual) == method.spec.on_score_scale


@pytest.mark.parametrize("output", ["probability", "margin"])
def test_masked_methods_and_confidence_metrics_use_the_probability_of_the_logits(output):
    """Nothing takes a softmax of a probability, or of margins: the same maps have the same
    values.
    """
    net, heatmap = network(), torch.rand(4, 8, 8, dtype=torch.float64)
    of_output, plain = (
        trace(net, "1", IMAGES, TARGETS, output=name) for name in (output, "logits")
    )
    # scores by probability
    torch.testing.assert_close(recipro_cam(of_output).raw, recipro_cam(plain).raw)
    score = partial(score_cam, baseline=False, channel_softmax=False)
    torch.testing.assert_close(score(of_output, "probability"), score(plain, "probability"))
    assert score(of_output, "logit").equal(score(of_output, "probability")) == (
        output == "probability"
    )
    for name in ("confidence_drop", "average_drop"):
        both = (
            Explanation(trace=each, heatmap=heatmap, images=IMAGES) for each in (of_output, plain)
        )
        torch.testing.assert_close(*map(metrics.get(name), both), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("output", ["probability", "margin"])
def test_peers_explain_the_same_output(output):
    pytest.importorskip("captum", reason="make peers")
    actual = trace(network(), "1", IMAGES, TARGETS, output=output)
    raw_map = (methods.get("grad_cam")(actual) * actual.activations).sum(1)
    torch.testing.assert_close(methods.get("grad_cam@captum")(actual).raw, raw_map)


def test_evaluate_adds_the_output_to_the_model_name():
    net = network()
    table = evaluate(
        net, "1", [(IMAGES, None)], ["xgrad_cam"], ["sensitivity_error", "zeta"], output="margin"
    )
    assert set(table["model"]) == {"Sequential+margin"}
    assert (table["status"] == "ok").all()
    of = table.set_index("metric")["value"]
    assert of["sensitivity_error"].tolist() == pytest.approx(of["zeta"].tolist())
    assert explain(net, "1", IMAGES, ["grad_cam"], output="probability")["grad_cam"].shape == (
        4,
        8,
        8,
    )
