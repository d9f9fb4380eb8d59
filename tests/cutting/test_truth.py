"""trace.true_contributions: what a model's own method tells, of any nn.Module that has one."""

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab

TARGETS = torch.tensor([0, 1, 0])


class Additive(nn.Module):
    """S_c = sum_k w_ck sum_xy F_k, so that the contributions are w F; `layer` is its
    activations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)
        self.weights = nn.Parameter(torch.randn(2, 4))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images).sum((2, 3)) @ self.weights.T

    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor:
        return activations.double() * self.weights.double()[targets][..., None, None]


class Deciding(Additive):
    """Branches on its data, so that hooks cut it."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits if logits.max() > -1e9 else -logits


class AtOneLayer(Additive):
    truth_layer = "layer"

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.first(images))


class WithoutTruth(Additive):
    true_contributions = None


def without_method() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(60, 2))


@pytest.fixture
def model() -> Additive:
    torch.manual_seed(0)
    return Additive().double()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_models_method_is_asked_whatever_the_scale(model, images):
    before = {name: id(value) for name, value in vars(model).items()}
    trace = ab.trace(model, "layer", images, TARGETS)
    truth = trace.true_contributions
    assert torch.equal(truth, trace.activations * model.weights.detach()[TARGETS][..., None, None])
    assert (trace.true_contributions is truth, truth.requires_grad) == (True, False)
    assert {name: id(value) for name, value in vars(model).items()} == before
    torch.testing.assert_close(trace.scaled(output=3.0).true_contributions, 3 * truth)
    torch.testing.assert_close(trace.scaled(inputs=4.0).true_contributions, truth)
    deciding = ab.trace(Deciding().double(), "layer", images, TARGETS)  # which hooks cut
    torch.testing.assert_close(deciding.true_contributions.sum((1, 2, 3)), deciding.scores)


@pytest.mark.parametrize(
    ("build", "layer", "output"),
    [
        (WithoutTruth, "layer", "logits"),
        (without_method, "0", "logits"),
        (AtOneLayer, "first", "logits"),
        (AtOneLayer, "layer", "probability"),
        (AtOneLayer, "layer", "margin"),
        (AtOneLayer, "layer", lambda logits: 2 * logits),
    ],
)
def test_none_if_the_model_says_nothing_about_this_layer_or_output(build, layer, output, images):
    trace = ab.trace(build().double(), layer, images, TARGETS, output=output)
    assert trace.true_contributions is None


def test_a_model_may_say_the_contributions_of_one_layer(images):
    trace = ab.trace(AtOneLayer().double(), "layer", images)
    assert trace.true_contributions is not None


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_it_is_in_the_activations_type_whatever_the_precision(model, images, precision):
    cut = ab.CutModel(model.float(), "layer", precision=precision, head_precision=precision)
    trace = cut.trace(images.float(), TARGETS)
    exact = trace.activations.double() * model.weights.detach().double()[TARGETS][..., None, None]
    assert trace.true_contributions.dtype == torch.float32
    assert torch.equal(trace.true_contributions, exact.float())


def test_a_method_that_writes_to_its_arguments_changes_nothing(model, images):
    model.true_contributions = lambda activations, targets: activations.mul_(0)
    trace = ab.trace(model, "layer", images)
    before = trace.activations.clone()
    assert (trace.true_contributions == 0).all()
    assert torch.equal(trace.activations, before)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (lambda activations, targets: activations.sum(1), r"torch\.float64 \(3, 5, 7\)"),
        (lambda activations, targets: activations > 0, r"torch\.bool \(3, 4, 5, 7\)"),
        (lambda activations, targets: None, "None"),
    ],
)
def test_anything_but_a_tensor_of_the_activations_shape_is_refused(method, answer, model, images):
    model.true_contributions = method
    trace = ab.trace(model, "layer", images)
    sentence = (
        r"Additive\.true_contributions must return .* \(3, 4, 5, 7\) at the layer 'layer', "
        rf"not {answer};"
    )
    with pytest.raises(ab.BenchError, match=sentence):
        _ = trace.true_contributions
