"""Networks that don't return logits (B, C), and a user's own function from what they return to
scores (B, n).

Each is compared in float64 with plain torch: scores, gradients by autograd, drops by ablating one
channel at a time.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.output import ScoredNetwork
from axiom_bench.isolation.sandbox import sandbox
from axiom_bench.notes import BatchMates

REGION = torch.zeros(6, 6, dtype=torch.float64)
REGION[1:4, 2:5] = 1


class Dense(nn.Module):
    """Maps of five classes, which `wrap` puts into what the network returns."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))
        self.wrap = wrap

    def forward(self, images: Tensor) -> Any:
        return self.wrap(self.head(self.trunk(images)))


class Deciding(Dense):
    """The same, but torch.fx can't follow it."""

    def forward(self, images: Tensor) -> Any:
        output = super().forward(images)
        return output if images.sum() > -1e9 else None


class Hub(OrderedDict):
    """A dict whose entries are attributes too, as transformers' outputs are."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def out_of(maps: Tensor) -> dict[str, Tensor]:
    return {"out": maps}


def pooled(maps: Tensor) -> Tensor:
    return maps.amax((2, 3))


def sums(maps: Tensor) -> Tensor:
    return maps.sum((2, 3))


def means(maps: Tensor) -> Tensor:
    return maps.mean((2, 3))


def region_sums(output: dict[str, Tensor]) -> Tensor:
    return (output["out"] * REGION).sum((2, 3))


def softmax_by_loop(output: dict[str, Tensor]) -> Tensor:
    """Control flow on the values and NumPy-like indices: torch.fx can't follow it."""
    columns = []
    for place in range(int(output["out"].shape[1])):
        column = output["out"].softmax(1)[:, place].flatten(1).mean(1)
        columns.append(column * 2 if bool((column > 2).all()) else column)
    return torch.stack(columns, 1)


def held_fixed(output: dict[str, Tensor]) -> Tensor:
    """The weights are constants here, which torch.fx wouldn't notice."""
    with torch.no_grad():
        weights = output["out"].softmax(1)
    return (weights * output["out"]).sum((2, 3))


class Projection(nn.Module):
    """A module with weights of its own, in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.linspace(-1, 1, 10).view(2, 5))

    def forward(self, output: dict[str, Tensor]) -> Tensor:
        return output["out"].mean((2, 3)) @ self.weight.t()


def column(output: dict[str, Tensor], place: int) -> Tensor:
    return output["out"][:, place].amax((1, 2))


def energy(maps: Tensor) -> Tensor:
    return maps.square().sum((1, 2, 3))


# name: (what the network returns of its maps, output, the scores of the maps by hand, targets)
OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], Any, Callable[[Tensor], Tensor], list[int]]] = {
    "dict with out": (lambda maps: {"out": maps, "aux": 2 * maps}, "logits", means, [4, 0, 2]),
    "dict with logits": (
        lambda maps: {"logits": sums(maps), "out": maps},
        "logits",
        sums,
        [4, 0, 2],
    ),
    "object with logits": (
        lambda maps: SimpleNamespace(logits=pooled(maps)),
        "logits",
        pooled,
        [4, 0, 2],
    ),
    "dict and object": (lambda maps: Hub(loss=None, logits=sums(maps)), "logits", sums, [4, 0, 2]),
    "one number": (energy, "logits", lambda maps: energy(maps)[:, None], [0, 0, 0]),
    "squeezed number": (
        lambda maps: energy(maps).squeeze(),
        "logits",
        lambda maps: energy(maps)[:, None],
        [0, 0, 0],
    ),
    "squeezed": (
        lambda maps: maps.amax((2, 3), keepdim=True).squeeze(),
        "logits",
        pooled,
        [4, 0, 2],
    ),
    "maps": (lambda maps: maps, "logits", means, [4, 0, 2]),
    "linear": (out_of, region_sums, lambda maps: region_sums(out_of(maps)), [0, 1, 1]),
    "loop": (out_of, softmax_by_loop, lambda maps: softmax_by_loop(out_of(maps)), [0, 1, 1]),
    "held fixed": (out_of, held_fixed, lambda maps: held_fixed(out_of(maps)), [0, 1, 1]),
    "module": (out_of, Projection(), lambda maps: Projection().double()(out_of(maps)), [0, 1, 1]),
    "one column": (out_of, partial(column, place=3), lambda maps: pooled(maps)[:, 3:4], [0, 0, 0]),
    "lambda": (
        out_of,
        lambda output: means(output["out"].square()),
        lambda maps: means(maps.square()),
        [0, 1, 1],
    ),
}


def images(count: int = 3) -> Tensor:
    return torch.randn(
        count, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


def assert_equal_by_hand(
    network: Dense, by_hand: Callable[[Tensor], Tensor], trace: ab.Trace
) -> None:
    """Scores, gradients, drops and both axioms of a trace against plain torch. by_hand: maps ->
    scores (B, n).
    """
    rows = torch.arange(len(trace))
    maps = network.trunk(trace.images).detach().requires_grad_()
    scores = by_hand(maps)[rows, trace.targets]
    (gradients,) = torch.autograd.grad(scores.sum(), maps)
    drops = []
    for channel in range(maps.shape[1]):
        ablated = maps.detach().clone()
        ablated[:, channel] = 0
        drops.append(scores - by_hand(ablated)[rows, trace.targets])
    exact = {"rtol": 1e-11, "atol": 1e-13}
    torch.testing.assert_close(trace.scores, scores.detach(), **exact)
    torch.testing.assert_close(trace.gradients, gradients, **exact)
    torch.testing.assert_close(trace.ablation_drops, torch.stack(drops, 1).detach(), **exact)
    torch.testing.assert_close(trace.forward(trace.images), by_hand(maps), **exact)
    # XGrad-CAM's errors, as the metrics measure them, against sums over positions and channels
    scores = scores.detach()
    drops = torch.stack(drops, 1).detach()
    shares = (gradients * maps.detach()).sum((2, 3))
    expected_errors = {
        "sensitivity_error": (drops - shares).abs().sum(1) / drops.abs().sum(1),
        "conservation_error": (scores - shares.sum(1)).abs() / scores.abs(),
    }
    method = ab.methods.get("xgrad_cam")
    explanation = ab.Explanation.of(trace, method(trace), method=method)
    is_defined = scores != 0
    for name, expected in expected_errors.items():
        errors = ab.metrics.get(name)(explanation).double()[is_defined]
        torch.testing.assert_close(errors, expected[is_defined], rtol=1e-9, atol=1e-12)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def assert_output_by_hand(
    network: type[Dense], wrap: Any, output: Any, by_hand: Any, targets: list[int]
) -> ab.Trace:
    model = network(wrap).double()
    trace = ab.trace(model, "trunk", images(), targets, output=output)
    assert (trace.cut_model.trunk_and_head.head_graph is None) == (network is Deciding)
    assert_equal_by_hand(model, lambda maps: by_hand(model.head(maps)), trace)
    return trace


@pytest.mark.parametrize("network", [Dense, Deciding])
@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_by_rule_and_by_function(name: str, network: type[Dense]) -> None:
    trace = assert_output_by_hand(network, *OUTPUTS[name])
    torch.testing.assert_close(trace.logits, trace.head(trace.activations))


def enlarged(maps: Tensor) -> Tensor:
    """Resize as segmentation networks resize their maps, but to the same size."""
    return nn.functional.interpolate(maps, size=(6, 6), mode="bilinear")


@pytest.mark.parametrize("resize", [lambda maps: maps, enlarged])
def test_linear_output_keeps_differences(resize: Callable[[Tensor], Tensor]) -> None:
    """If scores are large, float32 drops far below their rounding stay exact, as for logits."""

    def region_sums_in_float32(output: dict[str, Tensor]) -> Tensor:
        return sums(output["out"] * REGION.float())

    model = Dense(lambda maps: {"out": resize(maps + 1e6)})
    in_float64 = copy.deepcopy(model).double()
    targets = [0, 1, 2]
    exact = ab.trace(in_float64, "trunk", images(), targets, output=region_sums)
    trace = ab.trace(model, "trunk", images().float(), targets, output=region_sums_in_float32)
    assert trace.scores.min() > 8e6  # where float32 counts in ones
    expected = exact.ablation_drops
    assert expected.abs().median() < 1
    torch.testing.assert_close(trace.ablation_drops.double(), expected, rtol=1e-5, atol=1e-6)


def test_module_of_the_user_stays_as_it_is_and_the_predicted_class_is_the_highest_score() -> None:
    module = Projection().train()
    model = Dense(out_of).double()
    ab.trace(model, "trunk", images(), output=module)
    assert module.training
    assert module.weight.dtype == torch.float32
    trace = ab.trace(model, "trunk", images(), output=region_sums)
    assert trace.targets.tolist() == region_sums(model(images())).argmax(1).tolist()


def test_every_entry_point_takes_the_function() -> None:
    model = Dense(out_of).double()
    heatmaps = ab.explain(model, "trunk", images(), ["grad_cam"], output=region_sums)
    assert heatmaps["grad_cam"].shape == (3, 6, 6)
    batches = [(images(), torch.tensor([0, 1, 2]))]
    metrics = ["sensitivity_error"]
    table = ab.evaluate(model, "trunk", batches, ["xgrad_cam"], metrics, output=region_sums)
    assert set(table["status"]) == {"ok"}
    assert set(table["model"]) == {"Dense+region_sums"}
    trace = ab.trace(model, "trunk", images(), [0, 1, 2], output=region_sums)
    expected = region_sums(model(images()))
    with sandbox(trace, "a library") as box:
        torch.testing.assert_close(box.model(box.images), expected, rtol=1e-12, atol=1e-12)
        assert box.layer is box.model.model.trunk
    assert torch.equal(ScoredNetwork(model, None)(images())["out"], model(images())["out"])


@pytest.mark.parametrize(
    "output", [lambda o: means(o["out"])[:1], lambda o: region_sums(o) / len(o["out"])]
)
def test_a_function_of_the_whole_batch_takes_one_image_at_a_time(output: Any) -> None:
    model = Dense(out_of).double()
    with pytest.warns(BatchMates, match="gives an image other scores"):
        scores = ab.trace(model, "trunk", images(), output=output).scores
    alone = [ab.trace(model, "trunk", image, output=output).scores for image in images().split(1)]
    assert torch.allclose(scores, torch.cat(alone), atol=1e-12)


def assert_refused(sentence: str, wrap: Any, output: Any, targets: list[int] | None = None) -> None:
    with pytest.raises(ab.BenchError, match=sentence) as error:
        ab.trace(Dense(wrap).double(), "trunk", images(), targets, output=output)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrap", "sentence"),
    [
        (
            lambda maps: {"masks": 0, "boxes": 1},
            r"Dense returns a dict of \['masks', 'boxes'\] without 'logits' or",
        ),
        (lambda maps: {}, r"Dense returns a dict of \[\] without"),
        (lambda maps: (maps, maps), r"Dense returns a tuple, not a tensor; give output="),
        (
            lambda maps: (maps, sums(maps)),
            r"scores \(B, n\), such as lambda returned: returned\[1\]\.",
        ),
        (lambda maps: {"age": sums(maps)}, r"such as lambda returned: returned\['age'\]\."),
        (
            lambda maps: SimpleNamespace(age=sums(maps)),
            r"such as lambda returned: returned\.age\.",
        ),
        (
            lambda maps: maps.flatten(2),
            r"Dense returns shape \(1, 5, 36\) for one image, not scores \(B, n\)",
        ),
        (
            lambda maps: maps.argmax(1).flatten(1),
            r"shape \(1, 36\) of torch\.int64, a decision; let its forward",
        ),
    ],
)
def test_a_network_without_logits_is_refused(wrap: Any, sentence: str) -> None:
    assert_refused(sentence, wrap, "logits")


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (
            lambda o: o["out"],
            r"output function output must return scores .* shape \(1, 5, 6, 6\): return the mean "
            r"of each map, maps\.mean\(\(2, 3\)\)",
        ),
        (lambda o: o["out"].sum(), r"for one image it returns shape \(\)"),
        (lambda o: o["out"][0, :, 0, 0], r"for one image it returns shape \(5,\)"),
        (lambda o: [1.0], r"for one image it returns a list"),
        (lambda o: means(o["out"]).argmax(1), r"floating-point scores, not torch\.int64"),
        (lambda o: o["masks"], r"fails on the output of Dense \(KeyError: 'masks'\)"),
        (
            lambda o: sums(o["out"].detach()),
            r"of the output function output have no gradient; compute",
        ),
        (Projection, r"output is one of logits, .*, or a function .* not a class"),
        (3, r"output is one of .* not an int"),
    ],
)
def test_a_function_without_scores_is_refused(output: Any, sentence: str) -> None:
    assert_refused(sentence, out_of, output)


def test_a_target_outside_the_functions_scores_is_refused() -> None:
    sentence = r"Invalid target 2; the model.s classes are 0 to 1\."
    assert_refused(sentence, out_of, Projection(), [0, 1, 2])
    sentence = r"Invalid target 1; the model.s classes are only 0\."
    assert_refused(sentence, out_of, partial(column, place=0), [1, 0, 0])
