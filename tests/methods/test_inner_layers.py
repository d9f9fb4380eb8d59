"""Inner layers: each method explains them, or refuses with an error message."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.embedded.scenes import draw
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config
from tests.methods.fewer import with_fewer

LAYERS = (("scenes_vgg", "features.7"), ("scenes_resnet", "layer2"), ("scenes_resnet", "layer3.conv2"))
REFUSES = {"cam"}  # behind an inner layer there is more than pooling and one linear layer


@pytest.fixture(scope="module", params=LAYERS, ids="-".join)
def trace(request) -> ab.Trace:
    """One scene at an inner layer, the last one a convolution inside a residual block, in float32."""
    network, layer = request.param
    loaded = load_model({**model_config(network), "layer": layer})
    scene = torch.from_numpy(draw("evaluation", 0, 0).image).permute(2, 0, 1)[None].float() / 255
    traced = ab.trace(loaded.module, layer, (scene - 0.5) / 0.25)
    return replace(traced, other_images=traced.images.flip(3))


@pytest.mark.parametrize("name", methods.names())
def test_method_at_an_inner_layer(name, trace):
    if name in REFUSES:
        with pytest.raises(BenchError, match="not global average pooling"):
            methods.get(name)(trace)
        return
    explanation = Explanation.of(trace, with_fewer(name)(trace))
    assert explanation.raw_map is not None
    assert explanation.raw_map.isfinite().all()
    assert explanation.raw_map.any(), "the map is zero everywhere"
    assert explanation.heatmap.shape == (1, *trace.images.shape[-2:])
