"""Networks that return something else than logits: with the end that makes it, each equals the same
network without.
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
from axiom_bench.methods.peers.sandbox import sandbox

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
        self.head = nn.Sequential(
            nn.Conv2d(6, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)
        )
        self.end, self.deciding = end, deciding
        self.double()

    def forward(self, images: Tensor) -> Any:
        logits = self.head(self.trunk(images))
        return None if self.deciding and images.sum() < -1e9 else self.end(logits)


def traced(network: nn.Module, layer: str = "trunk", **settings: Any) -> tuple[ab.Trace, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cut = ab.cut(network, layer, **settings)
        traces = [cut.trace(IMAGES.to(cut.dtype)) for _ in range(2)]
    return traces[0], [
        str(warning.message) for warning in caught if warning.category is RecognisedOutput
    ]


def assert_same(trace: ab.Trace, plain: ab.Trace) -> None:
    for name in ("logits", "scores", "gradients", "ablation_drops"):
        torch.testing.assert_close(
            getattr(trace, name), getattr(plain, name), rtol=1e-12, atol=1e-13
        )


ENDS: dict[str, tuple[Callable[[Tensor], Any], str, Any]] = {  # end, what it returns, output=
    "by keyword": (lambda z: softmax(input=z, dim=-1), "probabilities", None),
    "nested": (
        nn.Sequential(nn.Identity(), nn.Sequential(nn.Softmax(1), nn.Dropout())),
        "probabilities",
        None,
    ),
    "exponential": (lambda z: log_softmax(z, 1).exp(), "probabilities", None),
    "clamped": (lambda z: softmax(z, 1).clamp(1e-7, 1 - 1e-7), "probabilities", None),
    "clamped in place": (lambda z: softmax(z, 1).clamp_(1e-7), "probabilities", None),
    "squeezed": (
        lambda z: softmax(z[:, :, None, None], 1).squeeze(3).view(z.size(0), -1),
        "probabilities",
        None,
    ),
    "squeezed by one image": (lambda z: softmax(z[:, :, None], 1).squeeze(), "probabilities", None),
    "dict": (lambda z: {"logits": softmax(z, 1)}, "probabilities", None),
    "object": (lambda z: SimpleNamespace(logits=log_softmax(z, 1)), "log_probabilities", None),
    "tuple": (lambda z: (z.softmax(-1), z), "probabilities", lambda returned: returned[0]),
    "maps": (lambda z: softmax(z[:, :, None, None].expand(-1, -1, 2, 2), 1), "probabilities", None),
    "log module": (nn.LogSoftmax(1), "log_probabilities", None),
    "log of softmax": (lambda z: (z.softmax(1) + 1e-12).log(), "log_probabilities", None),
    "sigmoid": (nn.Sigmoid(), "labels", None),
    "sigmoid in place": (lambda z: z.sigmoid_(), "labels", None),
    "heads": (
        lambda z: torch.stack([z[:, place].sigmoid() for place in range(4)], 1),
        "labels",
        None,
    ),
    "log of sigmoid": (logsigmoid, "labels", None),
    "said": (lambda z: softmax(z, 1), "probabilities", "probabilities"),
}


@pytest.mark.parametrize("deciding", [False, True])
@pytest.mark.parametrize("name", ENDS)
def test_the_end_is_taken_off(name: str, deciding: bool) -> None:
    end, returns, output = ENDS[name]
    trace, sentences = traced(Network(end, deciding), output=output)
    plain, nothing = traced(Network(lambda z: z, deciding))
    assert_same(trace, plain)
    assert (trace.cut_model.output.returns, plain.cut_model.output.returns) == (returns, "logits")
    assert (trace.cut_model.trunk_and_head.head_graph is None) == deciding
    assert (len(sentences), nothing) == (output != "probabilities", [])
    assert trace.has_probability == (returns != "labels")
    with sandbox(trace, "a library") as box:
        torch.testing.assert_close(box.model(box.images), plain.logits)


@pytest.mark.filterwarnings("ignore")
def test_values_of_float32_are_bit_for_bit_those_without_the_end() -> None:
    network = Network(lambda z: 99 * z).float()
    batches = [(IMAGES.float(), torch.tensor([0, 1, 2]))]
    plain = ab.evaluate(network, "trunk", batches, ["grad_cam", "score_cam"], BY_PROBABILITY)
    # saturated: in float32 a probability is 1, and a gradient of it 0
    for end in (
        nn.Softmax(1),
        nn.LogSoftmax(1),
    ):
        ends = ab.evaluate(
            nn.Sequential(network, end),
            "0.trunk",
            batches,
            ["grad_cam", "score_cam"],
            BY_PROBABILITY,
        )
        assert ends["value"].equals(plain["value"])
        assert (ends["status"].equals(plain["status"]), set(ends["model"])) == (
            True,
            {"Sequential"},
        )
    heatmaps = ab.explain(
        nn.Sequential(network, nn.Softmax(1)), "0.trunk", batches[0][0], ["grad_cam"]
    )
    assert heatmaps.probabilities is not None
    torch.testing.assert_close(heatmaps.probabilities, network(batches[0][0]).softmax(1).detach())


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
def test_values_tell_where_no_end_is_seen(end: Callable[[Tensor], Tensor], deciding: bool) -> None:
    """The logarithm of a probability is its logit, but for a number that all classes share."""
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
    (trace, sentences), (forced, _) = traced(Network(end)), traced(Network(end), output="logits")
    assert (trace.cut_model.output, sentences) == (forced.cut_model.output, [])
    assert all(
        torch.equal(getattr(trace, name), getattr(forced, name)) for name in ("scores", "gradients")
    )


def test_a_user_may_say_otherwise() -> None:
    network, rows = Network(nn.Softmax(1)), range(3)
    probabilities = network(IMAGES).detach()
    for output in ("logits", lambda returned: returned.exp().log(), ab.outputs.regression()):
        trace, sentences = traced(network, output=output)
        torch.testing.assert_close(trace.scores, probabilities.amax(1))
        assert not sentences
    assert_same(
        traced(network, output="margin")[0], traced(Network(lambda z: z), output="margin")[0]
    )
    of_label, _ = traced(Network(nn.Sigmoid()), output="probability")
    torch.testing.assert_close(
        of_label.scores, Network(nn.Sigmoid())(IMAGES).detach()[rows, of_label.targets]
    )
    with pytest.raises(
        ab.BenchError,
        match=r"Network returns values from .* which are no probabilities; set .*logits",
    ):
        traced(Network(lambda z: z - 1), output="probabilities")


def test_a_region_of_maps_of_probabilities_has_the_sum_of_its_logits() -> None:
    def maps(z: Tensor) -> Tensor:
        return z[:, :, None, None] * torch.arange(1.0, 5).view(2, 2)

    trace, plain = (
        traced(Network(end), output=ab.outputs.segmentation(torch.eye(2)))[0]
        for end in (lambda z: maps(z).softmax(1), maps)
    )
    assert_same(trace, plain)
