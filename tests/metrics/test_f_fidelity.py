"""F-Fidelity against the steps of the authors' evaluation_model.py in loops.

Other tests check how a run uses a fine-tuned copy of the network.
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
FRACTIONS = (0.2, 0.5, 1.0)
ALPHA = 0.5
BETA = 0.3
SAMPLES = 6


def values(explanation, **params):
    """Return the metric's two values, plus and minus."""
    measured = measure(plugins.with_params("metric", "f_fidelity", params), explanation, True)
    return [measured[name][0] for name in SIGNS]


def remaining_accuracy(explanation, first, output):
    """Return the copy's accuracy, or probability, on images without some pixels: (B,).

    This is the authors' ours_random_MoRF if the highest pixels are first, and ours_random_LeRF
    otherwise. Draws are axiom-bench's.
    """
    trace = explanation.trace
    model = trace.cut_model.finetuned
    numbers = [torch.rand(SAMPLES, 12, 12, generator=draw) for draw in trace.generators(0)]
    means = []
    for row, order in enumerate(pixel_ranks(explanation, first).flatten(1)):
        image = explanation.images[row : row + 1]
        target = trace.targets[row]
        answers = []
        for fraction in FRACTIONS:
            size = int(fraction * 144)
            mask = (order >= size).float().view(12, 12)
            ratio = ALPHA if fraction * ALPHA <= BETA else BETA / fraction
            for sample in numbers[row]:
                kept = mask + (1 - mask) * (sample >= ratio)
                probabilities = model(image * kept).softmax(1)[0]
                if output == "accuracy":
                    answers.append(float(probabilities.argmax() == target))
                else:
                    answers.append(probabilities[target].item())
        means.append(sum(answers) / len(answers))
    return torch.tensor(means, dtype=torch.float64)


@pytest.mark.parametrize("output", ["accuracy", "probability"])
def test_it_is_the_authors_of_the_copy(trace, explain, output):
    """Check two images of the class that the copy predicts and two of another class.

    With both, the accuracies differ.
    """
    trace = trace.again(images=20 * trace.images)  # otherwise biases decide
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
    """Check that plus equals minus if the fraction is 1.

    With alpha and beta of 1, the copy sees only zeros.
    """
    targets = explanation.trace.targets
    model = explanation.trace.cut_model.finetuned
    blank = torch.zeros_like(explanation.images)
    before = model(explanation.images).softmax(1)[range(4), targets]
    after = model(blank).softmax(1)[range(4), targets]

    plus, minus = values(explanation, fractions=[1.0], alpha=1.0, beta=1.0, output="probability")

    close(plus, before - after)
    close(minus, before - after)


def test_a_network_without_a_copy_has_no_value(explanation):
    cut_model = ab.cut(networks.load("scenes_vgg"), "features.13")
    without_copy = replace(explanation, trace=cut_model.trace(torch.randn(4, 3, 96, 96)))
    assert statuses("f_fidelity", without_copy) == dict.fromkeys(SIGNS, ("no_finetuned",) * 4)


@pytest.mark.slow
def test_a_run_asks_the_copy_and_another_copy_makes_its_values_anew_alone(tmp_path, capsys):
    """Check the weights `masked` that are committed, and the network's own file as a copy."""
    run = ["model=scenes_vgg", "data.size=4", "method=[grad_cam,random]", "runtime.repeats=0"]
    run += ["metric=[f_fidelity,single_deletion]", f"results={tmp_path}"]

    def column(name, *overrides):
        assert main([*run, *overrides]) == 0
        rows = ab.read_run(tmp_path / "quick" / "scenes_vgg")
        index = ["image_id", "target_class", "method"]
        return rows.pivot(index=index, columns="metric", values=name)

    with_masked = column("value")
    with_own_file = column("value", f"model.finetuned={networks.weights_file('scenes_vgg')}")
    assert with_masked["single_deletion"].equals(with_own_file["single_deletion"])
    assert not any(with_masked[name].equals(with_own_file[name]) for name in SIGNS)

    without_copy = column("status", "model.finetuned=null")
    assert set(without_copy["single_deletion"]) == {"ok"}
    for name in SIGNS:
        assert set(without_copy[name]) == {"no_finetuned"}

    message = "model.finetuned: There are no weights of 'scenes_vgg': nothing.pth is not a file"
    assert main([*run, "model.finetuned=nothing.pth"]) != 0
    assert message in capsys.readouterr().out


def test_a_copy_is_read_as_other_weights_are_and_has_the_network_s_classes(tmp_path):
    """Check a checkpoint of a training on several devices, with its optimizer's state.

    A copy of other classes is refused.
    """
    path = tmp_path / "copy.pth"
    network = ab.load_model("resnet18", weights=None, classes=4)
    state = {f"module.{name}": tensor + 1 for name, tensor in network.state_dict().items()}
    torch.save({"model": state, "optimizer": {"lr": 0.1}}, path)

    model = ab.load_model("resnet18", weights=None, classes=4, finetuned=str(path))
    assert model.loaded.finetuned.fc.bias.equal(network.fc.bias + 1)

    message = r"finetuned: .*copy.pth don't fit resnet18 \(of the wrong shape: fc"
    with pytest.raises(ab.BenchError, match=message):
        ab.load_model("resnet18", weights=None, classes=3, finetuned=str(path))


def test_a_loaded_network_has_its_copy_in_python():
    batches = [(torch.randn(2, 3, 96, 96), torch.tensor([0, 1]))]
    rows = ab.evaluate(ab.load_model("scenes_vgg"), None, batches, ["grad_cam"], ["f_fidelity"])
    assert set(rows["status"]) == {"ok"}

    without_copy = ab.load_model("scenes_vgg", finetuned=None)
    rows = ab.evaluate(without_copy, None, batches, ["grad_cam"], ["f_fidelity"])
    assert set(rows["status"]) == {"no_finetuned"}


class TwoInputs(nn.Module):
    """A network whose inputs are an image and two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3)
        self.image_head = nn.Linear(4, 3)
        self.number_head = nn.Linear(2, 3)

    def forward(self, image, numbers):
        pooled = self.features(image).relu().mean((2, 3))
        return self.image_head(pooled) + self.number_head(numbers)


@torch.no_grad()
def test_a_copy_gets_each_image_s_other_inputs(explain):
    torch.manual_seed(0)
    network = TwoInputs().double().eval()
    copy = TwoInputs().double().eval()
    cut_model = ab.cut(network, "features")
    cut_model.finetuned = copy
    images = torch.randn(4, 3, 12, 12).double()
    numbers = torch.randn(4, 2).double()
    trace = cut_model.trace((images, numbers), explained=0)
    before = copy(images, numbers).softmax(1)[range(4), trace.targets]
    after = copy(0 * images, numbers).softmax(1)[range(4), trace.targets]

    plus, _ = values(explain(trace), fractions=[1.0], alpha=1.0, beta=1.0, output="probability")

    close(plus, before - after)
    assert plus.abs().min() > 1e-6
