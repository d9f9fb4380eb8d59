"""Every method of conf/method: the common suite, inner layers, and what its YAML claims."""

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
from tests.methods.plain import OF_ANY_NETWORK, run_each, with_fewer

ROOT = Path(__file__).parents[2]


@cache
def accepted_by(name: str) -> dict[str, Case]:
    """The networks that the method takes: tried once for all checks."""
    return accepted_cases(with_fewer(name))


def quick_cases(name: str, check: Check[Case]) -> dict[str, Case]:
    """The hardest network, with signed maps before an in-place ReLU; what depends on the head also
    on the first one, since the second has the last one's head. Of a check that must fail, all: it
    may fail on any.
    """
    networks = accepted_by(name)
    if check.__name__ in exemptions(with_fewer(name)):
        return networks
    chosen = (
        list(networks)[-1:]
        if check in OF_ANY_NETWORK
        else (next(iter(networks)), list(networks)[-1])
    )
    return {each: networks[each] for each in chosen}


@pytest.mark.parametrize("name", methods.names())
def test_method(name):
    assert accepted_by(name)
    assert name != "cam" or set(accepted_by(name)) == {"pooled"}
    run_each(with_fewer(name), METHOD_CHECKS, lambda check: quick_cases(name, check))


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_method_on_the_other_networks(name):
    def others(check: Check[Case]) -> dict[str, Case]:
        return {
            each: case
            for each, case in accepted_by(name).items()
            if each not in quick_cases(name, check)
        }

    run_each(with_fewer(name), METHOD_CHECKS, others)


@pytest.mark.parametrize("name", sorted({*methods.names()} - {"other_image"}))
def test_a_shift_of_images_that_the_first_layer_takes_back_changes_few_methods_maps(name):
    """Kindermans et al. 2017; behind a convolution without padding, whose border a bias can't take
    back.
    """
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    ).double()  # fmt: skip
    shifted = copy.deepcopy(net)
    with torch.no_grad():
        shifted[0].bias -= shifted[0].weight.sum((1, 2, 3))
    trace, method = (
        ab.trace(net, "3", torch.randn(3, 3, 16, 16, dtype=torch.float64)),
        with_fewer(name),
    )
    after = trace.again(images=trace.images + 1, model=shifted)
    first, second = (Explanation.of(each, method(each)).raw_map for each in (trace, after))
    difference, largest = float((first - second).abs().max()), float(first.abs().max())
    claims_a_change = "input_shift" in method.spec.changes_under
    has_changed = not difference <= 1e-9 * largest  # also if it isn't a number
    assert has_changed == claims_a_change, (
        f"conf/method/{name}.yaml: the map changes by {difference:.3g} of {largest:.3g} if a "
        "constant is added to all pixels and the first layer takes it back. "
        + (
            "Remove `changes_under`."
            if claims_a_change
            else 'Write `changes_under: {input_shift: "the reason"}`.'
        )
    )


# and, except of controls, `reference`
REQUIRED_KEYS = (
    "_target_",
    "params",
    "title",
    "on_score_scale",
)


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
        f"{method.target} has no docstring; its first line stands in docs/methods.md"
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
    """Without dead channels or zero scores, with both signs where the layer is signed, and with
    hidden units off.
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
    """So that neither do shards. With as many runs as the method has by default: they are summed
    up.
    """
    answer = methods.get(name)(copies.of_first_image(replace(CASES["pooled"], channels=5)))
    assert copies.rows_apart(answer.raw if isinstance(answer, ab.Map) else answer) == []


LAYERS = (
    ("scenes_vgg", "features.7"),
    ("scenes_resnet", "layer2"),
    ("scenes_resnet", "layer3.conv2"),
)


@pytest.fixture(scope="module", params=LAYERS, ids="-".join)
def trace(request) -> ab.Trace:
    """One scene at an inner layer, the last one a convolution inside a residual block, in
    float32.
    """
    network, layer = request.param
    loaded = load_model({**model_config(network), "layer": layer})
    scene = torch.from_numpy(draw("evaluation", 0, 0).image).permute(2, 0, 1)[None].float() / 255
    traced = ab.trace(loaded.module, layer, (scene - 0.5) / 0.25)
    return replace(traced, other_images=traced.images.flip(3))


@pytest.mark.parametrize("name", methods.names())
def test_method_at_an_inner_layer(name, trace):
    # behind an inner layer there is more than pooling and one linear layer
    if "dense" not in accepted_by(name):
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
    """The value is rounding, behind a ReLU, where other methods have errors."""
    head = (nn.Flatten(), nn.Linear(6 * 16, 12), nn.ReLU(), nn.Linear(12, 4))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), *head).eval()
    batch = (torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]))
    table = ab.evaluate(model, "2", [batch], methods=[name, "grad_cam"], metrics=[metric])
    values = table[table["metric"] == metric].set_index("method")["value"]
    assert (values[name].abs() < 1e-5).all()
    assert (values["grad_cam"] > 1e-3).all()


def test_some_method_claims_it():
    assert CLAIMS
