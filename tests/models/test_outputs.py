"""The outputs probability, margin and groups of classes.

Their values are compared with loops over the classes, their drops with ablations one by one.
"""

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods, metrics
from axiom_bench.cutting.ablation.drops import brute_force_drops
from axiom_bench.cutting.cut_model import cut, trace
from axiom_bench.cutting.output import Output
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.layouts.voc import CLASSES
from axiom_bench.data.torchvision_import import torchvision  # noqa: F401 -- must come before its submodules
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import scales_with_score
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.recipro_cam import recipro_cam
from axiom_bench.methods.score_cam import score_cam
from axiom_bench.models import outputs
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config
from axiom_bench.run.notebook import evaluate, explain
from tests.methods.plain import with_fewer

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
    """Check that names match torchvision's list.

    The standard order is the order of the synset ids, so both ascend together.
    """
    for row in rows():
        name = row["name"]
        if name == "crane":  # torchvision distinguishes the two cranes
            name = "crane bird"
        assert _IMAGENET_CATEGORIES[int(row["index"])].lower() == name.lower()
    by_index = sorted(rows(), key=lambda row: int(row["index"]))
    synsets = [row["synset"] for row in by_index]
    assert synsets == sorted(set(synsets))


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "data").is_dir(), reason=f"there is no data in {REAL}")
def test_group_synsets_match_the_standard_order():
    standard = (REAL / "data/imagenet/LOC_synset_mapping.txt").read_text().split("\n")
    for row in rows():
        assert standard[int(row["index"])].startswith(f"{row['synset']} {row['name']}")


def test_groups_are_log_sum_exp_and_their_softmax_the_conditional_probability():
    logits = torch.randn(3, 7, dtype=torch.float64)
    actual = outputs.LogSumExpGroups([[1], [0, 6, 3]]).double()(logits)
    assert torch.allclose(actual[:, 0], logits[:, 1])
    assert torch.allclose(actual[:, 1], logits[:, [0, 6, 3]].exp().sum(1).log())

    logits = torch.randn(3, 1000, dtype=torch.float64)
    groups = list(outputs.voc_in_imagenet().values())
    module = outputs.LogSumExpGroups(groups).double()
    probability = logits.softmax(1)
    group_probabilities = [probability[:, list(group)].sum(1) for group in groups]
    joint = torch.stack(group_probabilities, 1)
    conditional = joint / joint.sum(1, keepdim=True)
    assert torch.allclose(module(logits).softmax(1), conditional)


@pytest.mark.slow
def test_load_model_with_voc_groups():
    config = {**model_config("squeezenet1_1"), "weights": None}
    bare = load_model(config)
    loaded = load_model({**config, "output": "voc_groups"})
    assert loaded.name == "squeezenet1_1+voc_groups"
    assert loaded.layer == "features.12"
    assert loaded.classes == CLASSES
    assert loaded.number_of_classes == 20
    assert loaded.weights_sha256 == bare.weights_sha256

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


def probabilities_by_hand(logits: Tensor) -> Tensor:
    return torch.stack([row.exp() / row.exp().sum() for row in logits])


def margins_by_hand(logits: Tensor) -> Tensor:
    margins = torch.empty_like(logits)
    for row, values in enumerate(logits):
        for index, logit in enumerate(values):
            others = torch.cat([values[:index], values[index + 1 :]])
            margins[row, index] = logit - others.max()
    return margins


def rest_by_hand(logits: Tensor) -> Tensor:
    return torch.stack([2 * row - row.exp().sum().log() for row in logits])


def groups_by_hand(logits: Tensor) -> Tensor:
    return torch.stack([logits[:, group].exp().sum(1).log() for group in MEMBERS], 1)


BY_HAND: dict[str | Output, Callable[[Tensor], Tensor]] = {
    "logits": lambda logits: logits,
    "probability": probabilities_by_hand,
    "margin": margins_by_hand,
    "rest": rest_by_hand,
    GROUPS: groups_by_hand,
}
HEADS = {
    "pooled": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8)),
    "fully connected": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(216, 10),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(10, 8),
    ),
    "one linear layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(216, 8)),
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
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
    """Return the drops S - S_k in float64, setting each channel to zero in turn."""
    maps = net[:2](IMAGES)
    scores = BY_HAND[output](net[2](maps))[range(4), targets]
    drops = []
    for channel in range(maps.shape[1]):
        ablated = maps.clone()
        ablated[:, channel] = 0
        ablated_scores = BY_HAND[output](net[2](ablated))[range(4), targets]
        drops.append(scores - ablated_scores)
    return torch.stack(drops, 1)


def outputs_by_head() -> list[Any]:
    cases = []
    for head in (*HEADS, "data decides"):
        for output in BY_HAND:
            if head == "scores by pooling" and output == GROUPS:
                continue  # six maps are six classes, and the groups need eight
            name = output if isinstance(output, str) else output.name
            cases.append(pytest.param(head, output, id=f"{head}-{name}"))
    return cases


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(("head", "output"), outputs_by_head())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_drops_of_each_output_equal_brute_force(head, output, dtype):
    net = network(DataDependent() if head == "data decides" else head)
    expected = drops_by_hand(net, output, TARGETS)

    trace = cut(net.to(dtype), "1", output=output).trace(IMAGES.to(dtype), TARGETS)
    drops = trace.ablation_drops.double()

    if dtype == torch.float64:
        tolerance = 1e-12
    elif head == "data decides":
        tolerance = 1e-5
    else:
        tolerance = 1e-6
    assert (drops - expected).abs().max() <= tolerance * expected.abs().max()
    cut_model = trace.cut_model
    by_passes = brute_force_drops(
        cut_model.head,
        cut_model.trunk_and_head.side_kinds,
        trace.activations,
        trace.network.sides,
        trace.targets[:, None],
        2**20,
    )[:, 0]
    assert (by_passes.double() - expected).abs().max() <= 1e-6 * trace.scores.abs().max()


@pytest.mark.parametrize("output", ["probability", "margin"])
def test_scores_gradients_and_derived_traces_are_of_the_output(output):
    net = network()
    rows = range(4)
    actual = trace(net, "1", IMAGES, TARGETS, output=output)
    maps = actual.activations.clone().requires_grad_()
    logits = net[2](maps)
    if output == "probability":
        scores = logits.softmax(1)[rows, TARGETS]
    else:
        others = logits.scatter(1, TARGETS[:, None], -torch.inf)
        scores = logits[rows, TARGETS] - others.amax(1)
    (gradients,) = torch.autograd.grad(scores.sum(), maps)

    for value, expected in (
        (actual.scores, scores),
        (actual.gradients, gradients),
        (actual.logits, logits),  # the network's logits stay available
        (actual.network.forward_logits(IMAGES), logits),
        (actual.forward(IMAGES)[rows, TARGETS], scores),
        (actual.network.explained(actual.logits), actual.head(actual.activations)),
        (actual.network.head_logits(actual.activations), logits),
    ):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-15)

    torch.testing.assert_close(
        actual[1:3].ablation_drops,
        actual.ablation_drops[1:3],
        rtol=1e-11,
        atol=1e-14,
    )
    for other in (actual.at("0"), actual.again(images=IMAGES), actual.again(model=net)):
        torch.testing.assert_close(other.scores, actual.scores)

    larger = actual.scaled(output=4.0)
    torch.testing.assert_close(larger.ablation_drops, 4 * actual.ablation_drops)
    torch.testing.assert_close(larger.head(actual.activations), 4 * actual.head(actual.activations))
    # The logits aren't scaled: the probability of a class isn't four times as high.
    torch.testing.assert_close(larger.logits, actual.logits)


def test_default_target_is_the_predicted_class_and_the_network_stays_unchanged():
    net = network()
    for output in ("logits", "probability", "margin"):
        assert trace(net, "1", IMAGES, output=output).targets.equal(net(IMAGES).argmax(1))
    assert (trace(net, "1", IMAGES, output="margin").scores > 0).all()
    names = [name for name, _ in net.named_modules()]
    logits = net(IMAGES)
    _ = trace(net, "1", IMAGES, output="margin").ablation_drops
    assert [name for name, _ in net.named_modules()] == names
    assert net(IMAGES).equal(logits)


@pytest.mark.parametrize("head", ["pooled", "fully connected"])
def test_float32_drops_of_a_probability_near_one(head):
    """Check drops that the difference of two scores would lose.

    If 1 - p = 1e-9, p and every ablated p are 1 in float32, so that their difference is 0.
    """
    net = network(head)
    targets = torch.zeros(4, dtype=torch.long)
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    last.bias.data[0] += 22
    expected = drops_by_hand(net, "probability", targets).detach()
    assert 1e-12 < expected.abs().max() < 1e-8

    drops = trace(net.float(), "1", IMAGES.float(), targets, output="probability").ablation_drops

    # The remaining error is the rounding of logits of about 22, in float32.
    atol = 2e-5 * float(expected.abs().max())
    torch.testing.assert_close(drops.double(), expected, rtol=2e-5, atol=atol)


def test_margins_of_equal_logits_and_of_two_classes():
    margin = outputs.OUTPUTS["margin"].module(3)
    assert margin is not None
    logits = torch.tensor([[2.0, 2.0, 1.0], [5.0, 1.0, 3.0]])
    assert margin(logits).tolist() == [[0, 0, -1], [2, -4, -2]]
    assert margin(torch.tensor([[2.0, -1.0]])).tolist() == [[3, -3]]


def test_outputs_that_cannot_be_are_refused():
    one_class = network(nn.Sequential(nn.Flatten(), nn.Linear(216, 1)))
    with pytest.raises(BenchError, match="at least two classes"):
        trace(one_class, "1", IMAGES, output="margin")
    with pytest.raises(BenchError, match="did you mean 'margin'"):
        cut(network("pooled"), "1", output="margins")
    with pytest.raises(BenchError, match="global average pooling"):
        methods.get("cam")(trace(network("pooled"), "1", IMAGES, output="probability"))


# The methods that don't apply to either output or head, and why.
REFUSED_OUTPUTS = {
    "cam": "not global average pooling and one linear layer",
    "expected_gradients": "needs another image",
    "lift_cam": "no rule for '(softmax|topk)'",
    "other_image": "needs another image",
    "relevance_cam": "no rule for '(softmax|topk)'",
}


@cache
def cached_trace(head: str, output: str) -> Trace:
    """Return a trace for tests that replace it, so that nothing is computed on it."""
    return trace(network(head), "1", IMAGES, TARGETS, output=output)


# Each output and each head once.
@pytest.mark.parametrize(
    ("output", "head"), [("probability", "fully connected"), ("margin", "pooled")]
)
@pytest.mark.parametrize("name", methods.names())
@pytest.mark.filterwarnings("ignore")
def test_on_score_scale_holds_for_each_output(name, head, output):
    method = with_fewer(name)
    actual = replace(cached_trace(head, output))
    if name in REFUSED_OUTPUTS:
        with pytest.raises(BenchError, match=REFUSED_OUTPUTS[name]):
            method(actual)
        return
    assert scales_with_score(method, actual) == method.spec.on_score_scale


@pytest.mark.parametrize("output", ["probability", "margin"])
def test_masked_methods_and_confidence_metrics_use_the_probability_of_the_logits(output):
    """Check that nothing takes a softmax of a probability or of margins.

    Maps and metric values are those of the logits.
    """
    net = network()
    heatmap = torch.rand(4, 8, 8, dtype=torch.float64)
    output_trace = trace(net, "1", IMAGES, TARGETS, output=output)
    logits_trace = trace(net, "1", IMAGES, TARGETS, output="logits")

    # ReciPro-CAM scores by probability.
    torch.testing.assert_close(recipro_cam(output_trace).raw, recipro_cam(logits_trace).raw)
    score = partial(score_cam, baseline=False, channel_softmax=False)
    by_probability = score(output_trace, "probability")
    torch.testing.assert_close(by_probability, score(logits_trace, "probability"))
    by_logit = score(output_trace, "logit")
    assert by_logit.equal(by_probability) == (output == "probability")
    for name in ("confidence_drop", "average_drop"):
        metric = metrics.get(name)
        value = metric(Explanation(trace=output_trace, heatmap=heatmap, images=IMAGES))
        expected = metric(Explanation(trace=logits_trace, heatmap=heatmap, images=IMAGES))
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("output", ["probability", "margin"])
def test_peers_explain_the_same_output(output):
    pytest.importorskip("captum", reason="make peers")
    actual = trace(network(), "1", IMAGES, TARGETS, output=output)
    raw_map = (methods.get("grad_cam")(actual) * actual.activations).sum(1)
    torch.testing.assert_close(methods.get("grad_cam@captum")(actual).raw, raw_map)


def test_evaluate_adds_the_output_to_the_model_name():
    net = network()
    table = evaluate(
        net,
        "1",
        [(IMAGES, None)],
        ["xgrad_cam"],
        ["sensitivity_error", "zeta"],
        output="margin",
    )
    assert set(table["model"]) == {"Sequential+margin"}
    assert (table["status"] == "ok").all()
    values = table.set_index("metric")["value"]
    assert values["sensitivity_error"].tolist() == pytest.approx(values["zeta"].tolist())
    maps = explain(net, "1", IMAGES, ["grad_cam"], output="probability")
    assert maps["grad_cam"].shape == (4, 8, 8)
