"""Networks of signals, volumes and videos from other libraries, and recorded signals.

They need the extra `axes`.
"""

import copy

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config

METHODS = ["grad_cam", "xgrad_cam", "ablation_cam_axiomatic"]
METRICS = ["sensitivity_error", "conservation_error"]


def medians(model, layer, images, labels=None):
    """Return the median by metric and method, and check each status."""
    values = ab.evaluate(model, layer, [(images, labels)], METHODS, METRICS)
    assert {*values["status"]} <= {"ok", "zero_map"}
    return values.groupby(["metric", "method"])["value"].median()


def drops_one_by_one(model, layer, image, channels):
    """Return the drops of these channels, computed in float64 and one by one."""
    trace = ab.trace(copy.deepcopy(model).double(), layer, image.double())
    drops = []
    for channel in channels:
        ablated = trace.activations.clone()
        ablated[:, channel] = 0
        drops.append(trace.scores[0] - trace.head(ablated)[0, trace.targets[0]])
    return torch.stack(drops)


def check_drops(model, layer, image):
    drops = ab.trace(model, layer, image).ablation_drops[0].double()
    largest = drops.abs().topk(3).indices.tolist()
    expected = drops_one_by_one(model, layer, image, largest)
    atol = 1e-5 * expected.abs().max().item()  # the rounding of float32
    torch.testing.assert_close(drops[largest], expected, rtol=0, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["load_gunpoint", "load_arrow_head", "load_basic_motions"])
def test_recorded_signals(name):
    datasets = pytest.importorskip("aeon.datasets")
    load = getattr(datasets, name)
    train, train_labels = load(split="train")
    test, test_labels = load(split="test")
    classes = sorted({*train_labels})
    train_targets = torch.tensor([classes.index(label) for label in train_labels])
    test_targets = torch.tensor([classes.index(label) for label in test_labels])
    train = torch.tensor(train, dtype=torch.float32)
    test = torch.tensor(test, dtype=torch.float32)
    mean = train.mean((0, 2), keepdim=True)
    std = train.std((0, 2), keepdim=True)
    train = (train - mean) / std
    test = (test - mean) / std

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv1d(train.shape[1], 16, 7, padding=3),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Conv1d(16, 32, 5, padding=2),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(8),
        nn.Flatten(),
        nn.Linear(256, 32),
        nn.ReLU(),
        nn.Linear(32, len(classes)),
    )
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(train), train_targets).backward()
        optimiser.step()
    network.eval()

    with torch.no_grad():
        is_right = network(test).argmax(1) == test_targets
    assert is_right.float().mean() > 0.6  # there are two to four classes
    median = medians(network, None, test[:40], test_targets[:40])
    assert median["sensitivity_error", "xgrad_cam"] < median["sensitivity_error", "grad_cam"]
    check_drops(network, "5", test[:1])


@pytest.mark.slow
def test_a_network_of_scans():
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    network = nets.DenseNet121(3, 1, 2).eval()
    scan = torch.randn(1, 1, 64, 64, 64)
    layer = ab.explain(network, images=scan, methods=["grad_cam"]).layer
    assert layer == "class_layers.relu"  # the last layer with maps, before the pooling
    assert medians(network, layer, scan)["sensitivity_error", "ablation_cam_axiomatic"] < 1e-4
    check_drops(network, layer, scan)


@pytest.mark.slow
def test_a_residual_network_of_signals_by_name():
    pytest.importorskip("monai.networks.nets")
    kwargs = {"spatial_dims": 1, "n_input_channels": 1, "num_classes": 4}
    settings = {"architecture": "monai.networks.nets:resnet18", "weights": None, "kwargs": kwargs}
    loaded = load_model({**model_config("user"), **settings}, (1, 256))
    assert loaded.layer == "layer4"
    assert loaded.number_of_classes == 4
    assert loaded.preprocessing.shape == (1, 256)
    check_drops(loaded.module, loaded.layer, torch.randn(1, 1, 256))


class ChannelsFirst:
    """The conversion of Swin3D's grid (B, D, H, W, K) to maps."""

    def to_maps(self, grid, size):
        """Return the maps (B, K, D, H, W), and no rest."""
        return grid.movedim(-1, 1).contiguous(), None

    def from_maps(self, maps, rest):
        """Return the grid (B, D, H, W, K)."""
        return maps.movedim(1, -1).contiguous()


@pytest.mark.slow
def test_a_transformer_of_videos_with_its_channels_last():
    torch.manual_seed(0)
    network = torchvision.models.video.swin3d_t().eval()
    video = torch.randn(1, 3, 8, 64, 64)
    maps = ab.explain(network, "norm", video, ["grad_cam", "xgrad_cam"], reshape=ChannelsFirst())
    assert maps["xgrad_cam"].shape == (1, 8, 64, 64)
