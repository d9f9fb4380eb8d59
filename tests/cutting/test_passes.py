"""Rows of a pass follow from what the model's operations return, and from nothing that an image shows."""

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting.passes import LIVE_OUTPUTS, measured_outputs

SIZE = 8


class Regions(nn.Module):
    """Like a detector: as many regions as the image has pixels above 0."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images):
        maps = self.conv(images)
        regions = maps.flatten(2).mT[0][images[0, 0].flatten() > 0]
        return maps.mean((2, 3)) + (regions.repeat_interleave(50, dim=0) ** 2).sum()


def net(width):
    layers = (nn.Conv2d(3, width, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(width, 5)).eval()


def traced(width, size):
    images = torch.rand(2, 3, size, size)
    return ab.cut(net(width), "0").trace(images), images[0]


def test_sizes_are_counted_once_for_each_result():
    image = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad(), measured_outputs(image) as sizes:
        net(12)(image)
    # A convolution of 12 maps, to which ReLU writes in place; 12 means; 5 logits. Flattening gives a view.
    assert sizes.widest == 4
    assert sizes.total == pytest.approx(1 + 4 + (12 + 5) / (3 * SIZE * SIZE))


def test_a_network_with_sparse_tensors_is_measured():
    def network(images):
        return torch.sparse.mm(images.flatten(1).to_sparse(), torch.ones(3 * SIZE * SIZE, 5))

    image = torch.rand(1, 3, SIZE, SIZE)
    with measured_outputs(image) as sizes:
        network(image)
    assert sizes.widest == 1


def test_what_an_image_shows_does_not_count():
    model = Regions().eval()
    sizes = []
    for image in (torch.ones(1, 3, SIZE, SIZE), -torch.ones(1, 3, SIZE, SIZE)):
        with torch.no_grad(), measured_outputs(image) as measured:
            model(image)
        sizes.append(measured)
    assert sizes[0] == sizes[1]
    assert sizes[0].widest == 4 / 3


@pytest.mark.parametrize(("width", "expected"), [(12, 32), (12 * 32, 10), (12 * 32 * 32, 1)])
def test_a_pass_holds_what_fits_into_memory_and_a_cpu_has_use_for(width, expected):
    """12 maps are four times an image of 3 KiB, and a pass holds three such tensors of each image."""
    trace, image = traced(width, 16)
    trace.cut_model.limits.memory = 370 * 2**15
    assert trace.cut_model.rows_at_once(image) == expected


def test_memory_bounds_a_pass_and_a_gradient_keeps_all_outputs():
    trace, image = traced(12, SIZE)
    size = image.numel() * image.element_size()
    trace.cut_model.limits.memory = int(7.5 * LIVE_OUTPUTS * 4 * size)
    assert trace.cut_model.rows_at_once(image) == 7
    assert trace.cut_model.rows_at_once(image, with_gradient=True) == 17  # 90 sizes over 5.09, all outputs
    trace.cut_model.limits.memory = 1
    assert trace.cut_model.rows_at_once(image) == trace.cut_model.limits.head_rows_at_once(trace.activations[0]) == 1


def test_other_models_of_the_same_network_have_equal_passes():
    trace, image = traced(24, 224)
    trace.cut_model.limits.memory = 100 * 2**20
    other = trace.cut_model.on(net(24)).trace(image[None])
    assert other.cut_model.rows_at_once(image) == trace.cut_model.rows_at_once(image) == 7
