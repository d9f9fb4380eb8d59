"""Tests of every method of conf/method: the common suite, inner layers, and its YAML's claims."""

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.embedded.scenes import draw
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config
from axiom_bench.testing import CASES, METHOD_CHECKS, accepted_cases, exemptions
from axiom_bench.testing.cases import Case, Check
from tests import copies
from tests.methods.plain import CHECKS_OF_ANY_NETWORK, run_each, with_fewer

ROOT = Path(__file__).parents[2]


@cache
def accepted_by(name: str) -> dict[str, Case]:
    """Return the networks that the method accepts. They are tried once for all checks."""
    return accepted_cases(with_fewer(name))


def quick_cases(name: str, check: Check[Case]) -> dict[str, Case]:
    """Return the networks that catch most.

    The last network is the hardest: it has signed maps before an in-place ReLU. Checks that depend
    on the head also get the first network, because the second has the last one's head. A check that
    must fail gets all networks, because it may fail on any of them.
    """
    networks = accepted_by(name)
    if check.__name__ in exemptions(with_fewer(name)):
        return networks
    first = next(iter(networks))
    last = list(networks)[-1]
    if check in CHECKS_OF_ANY_NETWORK:
        return {last: networks[last]}
    return {first: networks[first], last: networks[last]}


@pytest.mark.parametrize("name", methods.names())
def test_method(name):
    assert accepted_by(name)
    assert name != "cam" or set(accepted_by(name)) == {"pooled"}
    run_each(with_fewer(name), METHOD_CHECKS, lambda check: quick_cases(name, check))


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_method_on_the_other_networks(name):
    def others(check: Check[Case]) -> dict[str, Case]:
        quick = quick_cases(name, check)
        return {
            network: case for network, case in accepted_by(name).items() if network not in quick
        }

    run_each(with_fewer(name), METHOD_CHECKS, others)


@pytest.fixture(scope="module")
def shifted_traces() -> tuple[ab.Trace, ab.Trace]:
    """A trace, and that of images plus 1, which the first layer's bias takes back.

    The first convolution has no padding, because a bias can't compensate for the shift at a padded
    border.
    """
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU()]
    classifier = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)]
    net = nn.Sequential(*features, *classifier).double()
    shifted = copy.deepcopy(net)
    with torch.no_grad():
        shifted[0].bias -= shifted[0].weight.sum((1, 2, 3))
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    others = images.roll(1, 0)
    trace = replace(ab.trace(net, "3", images), other_images=others)
    shifted_trace = replace(trace.again(images=images + 1, model=shifted), other_images=others + 1)
    return trace, shifted_trace


@pytest.mark.parametrize("name", methods.names())
def test_a_shift_of_images_that_the_first_layer_takes_back_changes_few_methods_maps(
    name, shifted_traces
):
    """Check the input shift of Kindermans et al. 2017.

    Each method gets a trace in which nothing is computed yet.
    """
    trace = replace(shifted_traces[0])
    shifted_trace = replace(shifted_traces[1])
    method = with_fewer(name)

    before = Explanation.of(trace, method(trace)).raw_map
    after = Explanation.of(shifted_trace, method(shifted_trace)).raw_map

    difference = float((before - after).abs().max())
    largest = float(before.abs().max())
    has_changed = not difference <= 1e-9 * largest  # True also for NaN
    claims_a_change = "input_shift" in method.spec.changes_under
    write_claim = 'Write `changes_under: {input_shift: "the reason"}`.'
    fix = "Remove `changes_under`." if claims_a_change else write_claim
    assert has_changed == claims_a_change, (
        f"conf/method/{name}.yaml: the map changes by {difference:.3g} of {largest:.3g} if a "
        f"constant is added to all pixels and the first layer takes it back. {fix}"
    )


# Methods other than controls also need `reference`.
REQUIRED_KEYS = ("_target_", "params", "title", "on_score_scale")


@pytest.mark.parametrize("name", methods.names())
def test_yaml_metadata_is_complete(name):
    place = f"conf/method/{name}.yaml"
    entry = read_yaml(conf_folder() / "method" / f"{name}.yaml")[name]
    required = REQUIRED_KEYS if entry.get("control") else (*REQUIRED_KEYS, "reference")
    missing = [key for key in required if key not in entry]
    assert not missing, f"{place} has no {missing[0]!r}; write `{missing[0]}: ...`"
    method = methods.get(name)
    assert method.target.startswith("axiom_bench.methods."), (
        f"{place}: {method.target} isn't in methods/"
    )
    assert method.description, (
        f"{method.target} has no docstring; its first line is shown in docs/methods.md"
    )
    reference = method.spec.reference
    listed = (ROOT / "conf" / "references.bib").read_text()
    assert reference is None or f"{{{reference},\n" in listed, (
        f"conf/references.bib has no entry {reference!r}; add it"
    )


@pytest.mark.parametrize("library", ["", "@torchcam"])
def test_unknown_method(library):
    with pytest.raises(BenchError, match=f"did you mean 'xgrad_cam{library}'"):
        methods.get(f"xgrad_can{library}")


def test_assumptions_about_the_tiny_networks():
    """Check that the networks have no dead channels, zero scores or unused channels. Only the
    signed layer has negative values.
    """
    for name, case in CASES.items():
        trace = case.trace()
        assert (trace.activations.sum((2, 3)) != 0).all()
        assert (trace.scores != 0).all()
        assert (trace.activations.min() < 0) == (name == "signed")
        assert trace.gradients.abs().amax((2, 3)).min() > 0
        assert torch.equal(trace.activations, case.trace().activations)


@pytest.mark.parametrize(
    "name", [name for name in methods.names() if "rows" not in methods.get(name).spec.differs_on]
)
def test_a_row_s_place_in_the_batch_changes_no_bit(name):
    """Check that copies of an image in one batch have the same bits, so that shards can't change
    them. The method has its default number of runs, because runs are summed up.
    """
    trace = copies.of_first_image(replace(CASES["pooled"], channels=5))
    answer = methods.get(name)(trace)
    values = answer.raw if isinstance(answer, ab.Map) else answer
    assert copies.rows_apart(values) == []


LAYERS = (
    ("scenes_vgg", "features.7"),
    ("scenes_resnet", "layer2"),
    ("scenes_resnet", "layer3.conv2"),
)


@cache
def trace_at(network: str, layer: str) -> ab.Trace:
    """Return a trace of one scene at an inner layer, in float32. The last of LAYERS is a
    convolution inside a residual block.
    """
    loaded = load_model({**model_config(network), "layer": layer})
    scene = torch.from_numpy(draw("evaluation", 0, 0).image).permute(2, 0, 1)[None].float() / 255
    traced = ab.trace(loaded.module, layer, (scene - 0.5) / 0.25)
    return replace(traced, other_images=traced.images.flip(3))


# Each method in turn has one of the layers. The slow tests have the others.
AT_LAYERS = []
for number, method_name in enumerate(methods.names()):
    for place, names in enumerate(LAYERS):
        is_in_turn = place == number % len(LAYERS)
        marks = [] if is_in_turn else [pytest.mark.slow]
        row = pytest.param(method_name, *names, id="-".join([method_name, *names]), marks=marks)
        AT_LAYERS.append(row)


@pytest.mark.parametrize(("name", "network", "layer"), AT_LAYERS)
def test_method_at_an_inner_layer(name, network, layer):
    trace = replace(trace_at(network, layer))
    if "dense" not in accepted_by(name):
        # The method needs a head of only pooling and one linear layer.
        with pytest.raises(BenchError):
            methods.get(name)(trace)
        return
    explanation = Explanation.of(trace, with_fewer(name)(trace))
    assert explanation.raw_map.isfinite().all()
    assert explanation.raw_map.any(), "the map is zero everywhere"
    assert explanation.heatmap.shape == (1, *trace.images.shape[-2:])


CLAIMS = [
    (name, metric)
    for name in methods.names()
    for metric in methods.get(name).spec.wins_by_construction
]


@pytest.mark.parametrize(("name", "metric"), CLAIMS)
def test_wins_by_construction(name, metric):
    """Check that the value is only rounding on a head with a ReLU, where other methods have
    errors.
    """
    head = [nn.Flatten(), nn.Linear(6 * 16, 12), nn.ReLU(), nn.Linear(12, 4)]
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*features, *head).eval()
    batch = (torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]))

    table = ab.evaluate(model, "2", [batch], methods=[name, "grad_cam"], metrics=[metric])

    values = table[table["metric"] == metric].set_index("method")["value"]
    assert (values[name].abs() < 1e-5).all()
    assert (values["grad_cam"] > 1e-3).all()


def test_some_method_claims_it():
    assert CLAIMS
