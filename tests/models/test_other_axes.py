"""Networks of signals, volumes and videos as other libraries have them, and recorded signals (extra
`axes`).
"""

import copy

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config

METHODS, METRICS = (
    ["grad_cam", "xgrad_cam", "ablation_cam_axiomatic"],
    ["sensitivity_error", "conservation_error"],
)


def medians(model, layer, images, labels=None):
    """By method and metric, each value told."""
    values = ab.evaluate(model, layer, [(images, labels)], METHODS, METRICS)
    assert {*values["status"]} <= {"ok", "zero_map"}
    return values.groupby(["metric", "method"])["value"].median()


def loop(model, layer, image, channels):
    """The drops of these channels, in float64 and one by one."""
    trace = ab.trace(copy.deepcopy(model).double(), layer, image.double())
    drops = []
    for channel in channels:
        without = trace.activations.clone()
        without[:, channel] = 0
        drops.append(trace.scores[0] - trace.head(without)[0, trace.targets[0]])
    return torch.stack(drops)


def check_drops(model, layer, image):
    drops = ab.trace(model, layer, image).ablation_drops[0].double()
    largest = drops.abs().topk(3).indices.tolist()
    expected = loop(model, layer, image, largest)
    # of float32
    torch.testing.assert_close(
        drops[largest], expected, rtol=0, atol=1e-5 * expected.abs().max().item()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["load_gunpoint", "load_arrow_head", "load_basic_motions"])
def test_recorded_signals(name):
    datasets = pytest.importorskip("aeon.datasets")
    (train, labels), (test, others) = (
        getattr(datasets, name)(split=split) for split in ("train", "test")
    )
    classes = sorted({*labels})
    of_train, of_test = (
        torch.tensor([classes.index(label) for label in each]) for each in (labels, others)
    )
    train, test = (torch.tensor(each, dtype=torch.float32) for each in (train, test))
    mean, std = train.mean((0, 2), keepdim=True), train.std((0, 2), keepdim=True)
    train, test = (train - mean) / std, (test - mean) / std
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv1d(train.shape[1], 16, 7, padding=3), nn.BatchNorm1d(16), nn.ReLU()),
        *(
            nn.Conv1d(16, 32, 5, padding=2),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(8),
            nn.Flatten(),
        ),
        *(nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, len(classes))),
    )
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(train), of_train).backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        assert (network(test).argmax(1) == of_test).float().mean() > 0.6  # of two to four classes
    median = medians(network, None, test[:40], of_test[:40])
    assert median["sensitivity_error", "xgrad_cam"] < median["sensitivity_error", "grad_cam"]
    check_drops(network, "5", test[:1])


@pytest.mark.slow
def test_a_network_of_scans():
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    network, scan = nets.DenseNet121(3, 1, 2).eval(), torch.randn(1, 1, 64, 64, 64)
    layer = ab.explain(network, images=scan, methods=["grad_cam"]).layer
    assert layer == "class_layers.relu"  # the last with maps, before the pooling
    assert medians(network, layer, scan)["sensitivity_error", "ablation_cam_axiomatic"] < 1e-4
    check_drops(network, layer, scan)


@pytest.mark.slow
def test_a_residual_network_of_signals_by_name():
    pytest.importorskip("monai.networks.nets")
    kwargs = {"spatial_dims": 1, "n_input_channels": 1, "num_classes": 4}
    settings = {"architecture": "monai.networks.nets:resnet18", "weights": None, "kwargs": kwargs}
    loaded = load_model({**model_config("user"), **settings}, (1, 256))
    assert (loaded.layer, loaded.number_of_classes, loaded.preprocessing.shape) == (
        "layer4",
        4,
        (1, 256),
    )
    check_drops(loaded.module, loaded.layer, torch.randn(1, 1, 256))


class ChannelsFirst:
    """Of the grid (B, D, H, W, K) that Swin3D gives."""

    def to_maps(self, grid, size):
        """(B, K, D, H, W), and nothing beside them."""
        return grid.movedim(-1, 1).contiguous(), None

    def from_maps(self, maps, rest):
        """(B, D, H, W, K)."""
        return maps.movedim(1, -1).contiguous()


@pytest.mark.slow
def test_a_transformer_of_videos_with_its_channels_last():
    torch.manual_seed(0)
    network, video = torchvision.models.video.swin3d_t().eval(), torch.randn(1, 3, 8, 64, 64)
    maps = ab.explain(network, "norm", video, ["grad_cam", "xgrad_cam"], reshape=ChannelsFirst())
    assert maps["xgrad_cam"].shape == (1, 8, 64, 64)
