"""F-Fidelity against the steps of the authors' evaluation_model.py in loops, and what a run does
with a copy.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cli.main import main
from axiom_bench.embedded import networks
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.metrics.shared.pixel_order import pixel_ranks
from tests.metrics.build import close, statuses

SIGNS = {"f_fidelity_plus": "highest", "f_fidelity_minus": "lowest"}
FRACTIONS, ALPHA, BETA, SAMPLES = (0.2, 0.5, 1.0), 0.5, 0.3, 6


def values(explanation, **params):
    """Of a metric's two values, plus and minus."""
    measured = measure(plugins.with_params("metric", "f_fidelity", params), explanation, True)
    return [measured[name][0] for name in SIGNS]


def remaining_accuracy(explanation, first, output):
    """Their ours_random_MoRF ("highest" first) and ours_random_LeRF, of the copy: (B,). Draws are
    the suite's.
    """
    trace = explanation.trace
    draws = [torch.rand(SAMPLES, 12, 12, generator=each) for each in trace.generators(0)]
    answers = []
    for row, order in enumerate(pixel_ranks(explanation, first).flatten(1)):
        hits = []
        for fraction in FRACTIONS:
            mask, size = torch.ones(144), int(fraction * 144)
            mask[(order < size).nonzero()] = 0
            mask = mask.view(12, 12)
            ratio = ALPHA if fraction * ALPHA <= BETA else BETA / fraction
            for draw in draws[row]:
                kept = mask + (1 - mask) * (draw >= ratio)
                probabilities = trace.cut_model.finetuned(
                    explanation.images[row : row + 1] * kept
                ).softmax(1)[0]
                is_hit = float(probabilities.argmax() == trace.targets[row])
                hits.append(
                    is_hit if output == "accuracy" else probabilities[trace.targets[row]].item()
                )
        answers.append(sum(hits) / len(hits))
    return torch.tensor(answers, dtype=torch.float64)


@pytest.mark.parametrize("output", ["accuracy", "probability"])
def test_it_is_the_authors_of_the_copy(trace, explain, output):
    """Of two images the class that the copy predicts, of two another one, so that accuracies
    differ.
    """
    trace = trace.again(images=20 * trace.images)  # else biases decide
    predicted = trace.cut_model.finetuned(trace.images).argmax(1)
    trace = trace.again(targets=(predicted + torch.tensor([0, 0, 1, 1])) % 5)
    explanation = explain(trace)
    params = {
        "fractions": list(FRACTIONS),
        "alpha": ALPHA,
        "beta": BETA,
        "samples": SAMPLES,
        "output": output,
    }
    whole = trace.cut_model.finetuned(trace.images).softmax(1)
    before = whole.gather(1, trace.targets[:, None])[:, 0]
    if output == "accuracy":
        before = (whole.argmax(1) == trace.targets).double()
    assert before.unique().numel() > 1
    for actual, first in zip(values(explanation, **params), SIGNS.values(), strict=True):
        close(actual, before - remaining_accuracy(explanation, first, output))
        assert actual.unique().numel() > 1


def test_all_pixels_are_the_same_in_both_orders(explanation):
    """Where the fraction is 1, plus is minus; with alpha and beta of 1 the copy sees nothing
    but 0.
    """
    params = {"fractions": [1.0], "alpha": 1.0, "beta": 1.0, "output": "probability"}
    plus, minus = values(explanation, **params)
    targets, model = explanation.trace.targets, explanation.trace.cut_model.finetuned
    blank = torch.zeros_like(explanation.images)
    whole, nothing = (
        model(images).softmax(1)[range(4), targets] for images in (explanation.images, blank)
    )
    close(plus, whole - nothing)
    close(minus, whole - nothing)


def test_a_network_without_a_copy_has_no_value(explanation):
    cut_model = ab.cut(networks.load("scenes_vgg"), "features.13")
    bare = replace(explanation, trace=cut_model.trace(torch.randn(4, 3, 96, 96)))
    assert statuses("f_fidelity", bare) == dict.fromkeys(SIGNS, ("no_finetuned",) * 4)


@pytest.mark.slow
def test_a_run_asks_the_copy_and_another_copy_makes_its_values_anew_alone(tmp_path, capsys):
    """By the weights `masked` that are committed, and by the network's own file, as if it were a
    copy.
    """
    run = ["model=scenes_vgg", "data.size=4", "method=[grad_cam,random]", "runtime.repeats=0"]
    run += ["metric=[f_fidelity,single_deletion]", f"results={tmp_path}"]

    def column(name, *overrides):
        assert main([*run, *overrides]) == 0
        rows = ab.read_run(tmp_path / "quick" / "scenes_vgg")
        return rows.pivot(
            index=["image_id", "target_class", "method"], columns="metric", values=name
        )

    first, second = (
        column("value"),
        column("value", f"model.finetuned={networks.weights_file('scenes_vgg')}"),
    )
    assert first["single_deletion"].equals(second["single_deletion"])
    assert not any(first[name].equals(second[name]) for name in SIGNS)
    statuses_of = column("status", "model.finetuned=null")
    assert {*statuses_of["single_deletion"]} == {"ok"}
    assert {each for name in SIGNS for each in statuses_of[name]} == {"no_finetuned"}
    assert main([*run, "model.finetuned=nothing.pth"]) != 0
    assert (
        "model.finetuned: There are no weights for 'nothing.pth': nothing.pth is not a file"
        in capsys.readouterr().out
    )


def test_a_copy_is_read_as_other_weights_are_and_has_the_network_s_classes(tmp_path):
    """A checkpoint of a training on several devices, beside its optimizer's state; and one of other
    classes.
    """
    network = ab.load_model("resnet18", weights=None, classes=4)
    state = {f"module.{name}": tensor + 1 for name, tensor in network.state_dict().items()}
    torch.save({"model": state, "optimizer": {"lr": 0.1}}, tmp_path / "copy.pth")
    copy = ab.load_model(
        "resnet18", weights=None, classes=4, finetuned=str(tmp_path / "copy.pth")
    ).loaded.finetuned
    assert copy.fc.bias.equal(network.fc.bias + 1)
    with pytest.raises(
        ab.BenchError, match=r"finetuned=: .*copy.pth don't fit resnet18 \(of the wrong shape: fc"
    ):
        ab.load_model("resnet18", weights=None, classes=3, finetuned=str(tmp_path / "copy.pth"))


def test_a_loaded_network_has_its_copy_in_python():
    batches = [(torch.randn(2, 3, 96, 96), torch.tensor([0, 1]))]
    rows = ab.evaluate(ab.load_model("scenes_vgg"), None, batches, ["grad_cam"], ["f_fidelity"])
    assert {*rows["status"]} == {"ok"}
    bare = ab.load_model("scenes_vgg", finetuned=None)
    assert {*ab.evaluate(bare, None, batches, ["grad_cam"], ["f_fidelity"])["status"]} == {
        "no_finetuned"
    }


class TwoInputs(nn.Module):
    """Of an image and of two numbers beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.of_image, self.of_numbers = (
            nn.Conv2d(3, 4, 3),
            nn.Linear(4, 3),
            nn.Linear(2, 3),
        )

    def forward(self, image, numbers):
        return self.of_image(self.features(image).relu().mean((2, 3))) + self.of_numbers(numbers)


@torch.no_grad()
def test_a_copy_gets_each_image_s_other_inputs(explain):
    torch.manual_seed(0)
    network, copy = TwoInputs().double().eval(), TwoInputs().double().eval()
    cut_model = ab.cut(network, "features")
    cut_model.finetuned = copy
    images, numbers = torch.randn(4, 3, 12, 12).double(), torch.randn(4, 2).double()
    trace = cut_model.trace((images, numbers), explained=0)
    plus, _ = values(explain(trace), fractions=[1.0], alpha=1.0, beta=1.0, output="probability")
    whole, nothing = (
        copy(each, numbers).softmax(1)[range(4), trace.targets] for each in (images, 0 * images)
    )
    close(plus, whole - nothing)
    assert plus.abs().min() > 1e-6
