"""A network that returns something else than logits equals the same network without the end that
computes it.
"""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid, softmax

import axiom_bench as ab
from axiom_bench.cutting.recognition import RecognisedOutput
from axiom_bench.isolation.sandbox import sandbox

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
BY_PROBABILITY = [
    "deletion_auc_fast",
    "average_drop",
    "confidence_drop",
    "road_combined",
    "single_deletion",
]


class Network(nn.Module):
    """Four classes, whose logits `end` turns into what the network returns. deciding: torch.fx
    can't follow it.
    """

    def __init__(self, end: Callable[[Tensor], Any], deciding: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
        features = [nn.Conv2d(6, 4, 3), nn.ReLU()]
        classifier = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)]
        self.head = nn.Sequential(*features, *classifier)
        self.end = end
        self.deciding = deciding
        self.double()

    def forward(self, images: Tensor) -> Any:
        logits = self.head(self.trunk(images))
        return None if self.deciding and images.sum() < -1e9 else self.end(logits)


def traced(network: nn.Module, layer: str = "trunk", **settings: Any) -> tuple[ab.Trace, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cut = ab.cut(network, layer, **settings)
        traces = [cut.trace(IMAGES.to(cut.dtype)) for _ in range(2)]
    messages = [str(warning.message) for warning in caught if warning.category is RecognisedOutput]
    return traces[0], messages


def assert_same(trace: ab.Trace, plain: ab.Trace) -> None:
    for name in ("logits", "scores", "gradients", "ablation_drops"):
        expected = getattr(plain, name)
        torch.testing.assert_close(getattr(trace, name), expected, rtol=1e-12, atol=1e-13)


def maps_of_two_positions(z: Tensor) -> Tensor:
    return z[:, :, None, None].expand(-1, -1, 2, 2)


def separate_sigmoids(z: Tensor) -> Tensor:
    return torch.stack([z[:, label].sigmoid() for label in range(4)], 1)


NESTED = nn.Sequential(nn.Identity(), nn.Sequential(nn.Softmax(1), nn.Dropout()))
# what the end returns: ends by name
ENDS: dict[str, dict[str, Callable[[Tensor], Any]]] = {
    "probabilities": {
        "by keyword": lambda z: softmax(input=z, dim=-1),
        "nested": NESTED,
        "exponential": lambda z: log_softmax(z, 1).exp(),
        "clamped": lambda z: softmax(z, 1).clamp(1e-7, 1 - 1e-7),
        "clamped in place": lambda z: softmax(z, 1).clamp_(1e-7),
        "squeezed": lambda z: softmax(z[:, :, None, None], 1).squeeze(3).view(z.size(0), -1),
        "squeezed by one image": lambda z: softmax(z[:, :, None], 1).squeeze(),
        "dict": lambda z: {"logits": softmax(z, 1)},
        "tuple": lambda z: (z.softmax(-1), z),
        "maps": lambda z: softmax(maps_of_two_positions(z), 1),
        "declared": lambda z: softmax(z, 1),
    },
    "log_probabilities": {
        "object": lambda z: SimpleNamespace(logits=log_softmax(z, 1)),
        "log module": nn.LogSoftmax(1),
        "log of softmax": lambda z: (z.softmax(1) + 1e-12).log(),
    },
    "labels": {
        "sigmoid": nn.Sigmoid(),
        "sigmoid in place": lambda z: z.sigmoid_(),
        "heads": separate_sigmoids,
        "log of sigmoid": logsigmoid,
    },
}
# name of an end: the output that the user declares for it
DECLARED: dict[str, Any] = {
    "tuple": lambda returned: returned[0],
    "declared": "probabilities",
}


@pytest.mark.parametrize("deciding", [False, True])
@pytest.mark.parametrize(
    ("returns", "name"), [(returns, name) for returns, ends in ENDS.items() for name in ends]
)
def test_the_end_is_taken_off(returns: str, name: str, deciding: bool) -> None:
    network = Network(ENDS[returns][name], deciding)
    trace, sentences = traced(network, output=DECLARED.get(name))
    plain, sentences_of_plain = traced(Network(lambda z: z, deciding))
    assert_same(trace, plain)
    assert trace.cut_model.output.returns == returns
    assert plain.cut_model.output.returns == "logits"
    assert (trace.cut_model.trunk_and_head.head_graph is None) == deciding
    assert len(sentences) == (name != "declared")
    assert sentences_of_plain == []
    assert trace.has_probability == (returns != "labels")
    with sandbox(trace, "a library") as box:
        torch.testing.assert_close(box.model(box.images), plain.logits)


def saturated_network() -> nn.Module:
    """Return a network whose probability is 1 in float32, and whose gradient of it is 0."""
    return Network(lambda z: 99 * z).float()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_values_of_float32_are_bit_for_bit_those_without_the_end(end: nn.Module) -> None:
    network = saturated_network()
    batches = [(IMAGES.float(), torch.tensor([0, 1, 2]))]
    methods = ["grad_cam", "score_cam"]
    plain = ab.evaluate(network, "trunk", batches, methods, BY_PROBABILITY)
    with_end = nn.Sequential(network, end)
    table = ab.evaluate(with_end, "0.trunk", batches, methods, BY_PROBABILITY)
    assert table["value"].equals(plain["value"])
    assert table["status"].equals(plain["status"])
    assert set(table["model"]) == {"Sequential"}


@pytest.mark.filterwarnings("ignore")
def test_an_explanation_has_the_probabilities_of_the_end() -> None:
    network = saturated_network()
    with_end = nn.Sequential(network, nn.Softmax(1))
    heatmaps = ab.explain(with_end, "0.trunk", IMAGES.float(), ["grad_cam"])
    assert heatmaps.probabilities is not None
    expected = network(IMAGES.float()).softmax(1).detach()
    torch.testing.assert_close(heatmaps.probabilities, expected)


def mixed(z: Tensor) -> Tensor:
    return (z.softmax(1) + z.flip(1).softmax(1)) / 2


@pytest.mark.parametrize("deciding", [False, True])
@pytest.mark.parametrize(
    "end",
    [
        mixed,
        lambda z: z.exp() / z.exp().sum(1, keepdim=True),
        lambda z: torch.cat([z[:, :1].sigmoid(), 1 - z[:, :1].sigmoid()], 1),
        lambda z: z - z.logsumexp(1, keepdim=True),
    ],
)
def test_values_decide_if_no_end_is_seen(end: Callable[[Tensor], Tensor], deciding: bool) -> None:
    """The logarithm of a probability is its logit, except for a number that all classes share."""
    network = Network(end, deciding)
    trace, sentences = traced(network)
    returned = network(IMAGES).detach()
    probabilities = returned if (returned >= 0).all() else returned.exp()
    torch.testing.assert_close(trace.logits.softmax(1), probabilities)
    torch.testing.assert_close(trace.scores, probabilities.amax(1).log())
    assert len(sentences) == 1


@pytest.mark.parametrize("deciding", [False, True])
def test_some_of_the_probabilities_are_those_of_labels(deciding: bool) -> None:
    for columns in (slice(1, None), 2):
        network = Network(lambda z, columns=columns: z.softmax(1)[:, columns], deciding)  # type: ignore[misc]
        trace, (sentence,) = traced(network)
        assert "don't exclude each other" in sentence
        torch.testing.assert_close(trace.logits, network(IMAGES).detach().logit().reshape(3, -1))


@pytest.mark.parametrize(
    ("end", "without"),
    [
        (lambda z: softmax(z / 3, 1), lambda z: z / 3),
        (lambda z: z[:, :1].softmax(1), lambda z: z[:, :1]),
        (lambda z: z[:, :2].softmax(1), lambda z: z[:, :2]),
        (lambda z: z[:, 0].sigmoid(), lambda z: z[:, 0]),
        # whose sum is 1 but for their rounding
        (lambda z: z.half().softmax(1).double(), lambda z: z.half().double()),
        (lambda z: z.bfloat16().softmax(1).double(), lambda z: z.bfloat16().double()),
    ],
)
def test_what_is_left_is_what_stands_before_the_end(
    end: Callable[[Tensor], Any], without: Any
) -> None:
    assert_same(traced(Network(end))[0], traced(Network(without))[0])


@pytest.mark.parametrize(
    "end",
    [
        lambda z: z,
        lambda z: z[:, :1],
        lambda z: 9 * z.softmax(1),
        lambda z: (z == z.amax(1, keepdim=True)) + 0 * z,
    ],
)
def test_others_stay_as_they_are(end: Callable[[Tensor], Tensor]) -> None:
    trace, sentences = traced(Network(end))
    forced, _ = traced(Network(end), output="logits")
    assert sentences == []
    assert trace.cut_model.output == forced.cut_model.output
    assert torch.equal(trace.scores, forced.scores)
    assert torch.equal(trace.gradients, forced.gradients)


def test_a_user_may_say_otherwise() -> None:
    network = Network(nn.Softmax(1))
    probabilities = network(IMAGES).detach()
    for output in ("logits", lambda returned: returned.exp().log(), ab.outputs.regression()):
        trace, sentences = traced(network, output=output)
        torch.testing.assert_close(trace.scores, probabilities.amax(1))
        assert not sentences
    margin, _ = traced(network, output="margin")
    expected, _ = traced(Network(lambda z: z), output="margin")
    assert_same(margin, expected)


def test_the_probability_of_a_label_is_its_sigmoid() -> None:
    network = Network(nn.Sigmoid())
    trace, _ = traced(network, output="probability")
    probabilities = network(IMAGES).detach()
    torch.testing.assert_close(trace.scores, probabilities[range(3), trace.targets])


def test_values_that_are_no_probabilities_are_refused() -> None:
    sentence = r"Network returns values from .* which are no probabilities; set .*logits"
    with pytest.raises(ab.BenchError, match=sentence):
        traced(Network(lambda z: z - 1), output="probabilities")


def test_a_region_of_maps_of_probabilities_has_the_sum_of_its_logits() -> None:
    def maps(z: Tensor) -> Tensor:
        return z[:, :, None, None] * torch.arange(1.0, 5).view(2, 2)

    output = ab.outputs.segmentation(torch.eye(2))
    trace, _ = traced(Network(lambda z: maps(z).softmax(1)), output=output)
    plain, _ = traced(Network(maps), output=output)
    assert_same(trace, plain)
