"""Tests of captum's attributions of pixels: closed forms of linear networks, draws by image,
networks that the library refuses, and the methods of LATEC.
"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.environment import choice_names
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.run.composing.composition import composed
from axiom_bench.testing import CASES, method_checks
from tests.methods.plain import normal, seeded

pytest.importorskip("captum", reason="make peers")
MODULE = "axiom_bench.methods.peers.captum_pixels"
NAMES = [
    name for name in plugins.names(plugins.PEERS) if methods.get(name).target.startswith(MODULE)
]
EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64: sums of a few dozen terms


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", [method_checks.batch_invariant, method_checks.order_invariant])
def test_values_do_not_depend_on_the_batch(name, check):
    check(methods.get(name), CASES["dense"])


@pytest.fixture
def linear() -> ab.Trace:
    """A network that is linear in its image of 6 x 6 pixels."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(72, 4))

    return ab.trace(seeded(build), "0", normal(2, 3, 6, 6), torch.tensor([3, 1]))


def gradient(trace: ab.Trace) -> Tensor:
    leaf = trace.images.clone().requires_grad_()
    scores = trace.forward(leaf).gather(1, trace.targets[:, None])
    return torch.autograd.grad(scores.sum(), leaf)[0]


@pytest.mark.parametrize("name", ["deep_lift", "integrated_gradients_pixels"])
def test_maps_of_a_linear_network_are_input_times_gradient(name, linear):
    expected = (linear.images * gradient(linear)).sum(1)
    actual = methods.get(f"{name}@captum")(linear).raw
    # captum rounds the points of the integral to float32
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-8)


def test_maps_of_a_linear_network_average_over_baselines(linear):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(16, 3, 6, 6, generator=generator, dtype=torch.float64)
    expected = ((linear.images - noise.mean(0)) * gradient(linear)).sum(1)
    actual = methods.get("deep_lift_shap@captum")(linear).raw
    torch.testing.assert_close(actual, expected, **EXACT)


def summed_cells(values: Tensor, cells: int) -> Tensor:
    """Replace each value of maps (B, 6, 6) by its cell's sum."""
    side = values.shape[1] // cells
    sums = values.unflatten(1, (cells, side)).unflatten(3, (cells, side)).sum((2, 4))
    return sums.repeat_interleave(side, 1).repeat_interleave(side, 2)


def test_kernel_shap_of_a_linear_network_is_the_cells_own_share(linear):
    expected = summed_cells((linear.images * gradient(linear)).sum(1), 3)
    options = {"n_samples": 300}
    method = plugins.with_params("method", "kernel_shap@captum", {"grid": 3, "options": options})
    # captum weights the empty and the full coalition by 1e6 instead of infinity
    torch.testing.assert_close(method(linear).raw, expected, rtol=1e-4, atol=1e-4)


def test_occlusion_of_a_linear_network_is_the_windows_own_share(linear):
    expected = summed_cells((linear.images * gradient(linear)).sum(1), 3)
    in_pixels = {"window": 2, "stride": 2}
    as_shares = {"window": 1 / 3, "stride": 1 / 3}
    for params in (in_pixels, as_shares):
        method = plugins.with_params("method", "occlusion@captum", params)
        # captum averages windows in float32
        torch.testing.assert_close(method(linear).raw, expected, rtol=1e-6, atol=1e-6)


def test_lrp_conserves_the_score_without_biases():
    def build() -> nn.Module:
        first = [nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        return nn.Sequential(*first, nn.Identity(), nn.Flatten(), nn.Linear(36, 3, bias=False))

    trace = ab.trace(seeded(build), "0", normal(2, 3, 8, 8), torch.tensor([2, 0]))
    actual = methods.get("lrp@captum")(trace).raw
    # captum adds 1e-9 to divisors
    torch.testing.assert_close(actual.sum((1, 2)), trace.scores, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["lime@captum", "kernel_shap@captum", "gradient_shap@captum"])
def test_draws_follow_the_seed_and_leave_global_states_alone(name):
    trace = CASES["dense"].trace()
    scaled = ab.trace(Scaled(CASES["dense"].model(), 100), "network.features.3", trace.images)
    method = methods.get(name)
    torch.manual_seed(5)
    np.random.seed(5)
    before = method(scaled).raw
    expected = (torch.rand(1).item(), np.random.rand())
    torch.manual_seed(5)
    np.random.seed(5)
    assert (torch.rand(1).item(), np.random.rand()) == expected

    other = plugins.with_params("method", name, {"seed": 1})
    assert not torch.equal(other(scaled).raw, before)


class Scaled(nn.Module):
    """A network with larger scores, which captum's lasso doesn't shrink to zero."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network = network
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.network(images)


class Reused(nn.Module):
    """A network that calls one ReLU twice, as torchvision's ResNets do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.classes = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.second(self.relu(self.first(images))))
        return self.classes(maps.mean((2, 3)))


class Unknown(Reused):
    """A network with a module that LRP has no rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.SiLU()


@pytest.mark.parametrize(
    ("name", "network", "reason"),
    [
        ("deep_lift", Reused, "captum's DeepLift fails .*being used more than once"),
        ("deep_lift_shap", Reused, "captum's DeepLiftShap fails .*being used more than once"),
        ("lrp", Unknown, "captum's LRP fails .*SiLU.* has no rule"),
    ],
)
def test_refused_network_gives_rows_with_a_status(name, network, reason):
    batches = [(normal(2, 3, 6, 6), None)]
    model = seeded(network)
    with pytest.warns(UserWarning, match=reason) as caught:
        rows = ab.evaluate(model, "second", batches, [f"{name}@captum"], ["confidence_drop"])
    assert set(rows["status"]) == {"not_applicable"}
    assert all("\n" not in str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("lime", {"grid": 0}, "Invalid grid=0"),
        ("deep_lift_shap", {"baselines": 1}, "Invalid baselines=1"),
        ("gradient_shap", {"sigma": -1.0}, "Invalid sigma=-1.0"),
        ("occlusion", {"window": 9.0}, "Invalid window=9.0; .* up to 8 pixels"),
        ("occlusion", {"stride": 0.0}, "Invalid stride=0.0"),
        ("occlusion", {"window": 2.0, "stride": 3.0}, "Invalid stride=3.0; .*window"),
    ],
)
def test_invalid_parameters(name, params, message):
    method = plugins.with_params("method", f"{name}@captum", params)
    with pytest.raises(BenchError, match=message):
        method(CASES["dense"].trace())


STUB = """\
{name}:
  _target_: axiom_bench.methods.saliency.saliency
  params: {{window: 0.5, stride: 0.5}}
"""


def test_latec_has_seventeen_methods_with_its_parameters(tmp_path):
    """Methods of the list that aren't in conf/ yet are written to the user's folder."""
    chosen = plugins.read_yaml(plugins.conf_folder() / "method/latec2024.yaml")["defaults"]
    (tmp_path / "method").mkdir()
    for name in {*chosen} - {*plugins.names("method"), "_self_"}:
        (tmp_path / f"method/{name}.yaml").write_text(STUB.format(name=name))

    with composed(["method=latec2024", "peers=latec2024"], tmp_path) as composition:
        entries = composition.plain()["method"]

    assert len(entries) == 17
    assert all("_target_" in entry for entry in entries.values())
    assert entries["integrated_gradients_pixels"]["params"]["steps"] == 30
    assert entries["expected_gradients"]["params"]["samples"] == 40
    assert entries["occlusion"]["params"]["window"] * 224 == pytest.approx(50, abs=0.1)
    assert entries["lime@captum"]["params"]["options"]["n_samples"] == 10


def test_choices_of_methods_are_no_methods():
    assert choice_names() >= {"all", "all_fast", "latec2024"}
    for kind in ("method", "metric", plugins.PEERS):
        assert not choice_names() & set(plugins.names(kind))
    assert plugins.is_left_out_of_all({"defaults": ["grad_cam"]})
