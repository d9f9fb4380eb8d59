"""The number of spatial axes that methods and metrics are made for.

For other numbers they aren't called, and a sentence says so.
"""

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.evaluation import plugins
from axiom_bench.notes import MethodLeftOut
from axiom_bench.testing import Case

CASES = {1: Case("pooled", size=(12,)), 3: Case("pooled", size=(4, 6, 5))}


def of_images(trace):
    """Return a mean that is wrong, without an error, unless there are two axes of space.

    It averages over the channels of signals, and over two axes of three of volumes.
    """
    return trace.gradients.mean((-2, -1), keepdim=True)


def of_any(trace):
    return trace.gradients.flatten(2).mean(2)


of_any.dimensions = (1, 2, 3)


def mass(explanation):
    return explanation.heatmap.double().mean((-2, -1))


@pytest.mark.parametrize("axes", CASES)
def test_what_is_made_for_images_has_a_status_and_a_reason_elsewhere(axes):
    data = [(CASES[axes].images(), None)]
    data = [(CASES[axes].images(), None)]
    metrics = [mass, "grid_pointing_game"]
    kind = "signals" if axes == 1 else "volumes"
    with pytest.warns(MethodLeftOut) as caught:
        values = ab.evaluate(CASES[axes].model(), "features", data, [of_images, of_any], metrics)
    assert set(values.status) == {"not_applicable"}
    assert values.value.isna().all()
    sentences = " ".join(str(warning.message) for warning in caught)
    for name in ("of_images", "mass", "grid_pointing_game"):
        assert f"'{name}' is made for images, and these are {kind}" in sentences
    assert "'of_any'" not in sentences
    with pytest.raises(ab.BenchError, match=f"set dimensions: .{axes}"):
        plugins.plugin_for("method", of_images)(CASES[axes].trace())


@pytest.mark.parametrize("axes", CASES)
def test_a_function_says_what_it_is_made_for_by_its_attribute_or_its_entry(axes):
    trace = CASES[axes].trace()
    expected = (of_any(trace)[..., None] * trace.activations.flatten(2)).sum(1)
    by_entry = plugins.from_config("method", "mine", {"_target_": f"{__name__}.of_any"})
    for method in (of_any, by_entry):
        raw_map = ab.Explanation.of(trace, plugins.plugin_for("method", method)(trace)).raw_map
        torch.testing.assert_close(raw_map.flatten(1), expected)
    entry = {"_target_": f"{__name__}.of_images", "dimensions": [axes]}
    assert plugins.from_config("method", "mine", entry).dimensions == {axes}
    with pytest.raises(ab.BenchError, match="dimensions"):
        plugins.from_config("method", "mine", entry | {"dimensions": [4]})


@pytest.mark.parametrize("axes", CASES)
def test_maps_have_the_size_of_the_input_and_are_drawn(axes, tmp_path):
    case = CASES[axes]
    maps = ab.explain(case.model(), images=case.images()[0], methods=[of_any])
    assert maps.layer == "features.3"
    assert maps["of_any"].shape == (1, *case.size)
    maps.save(tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 1000
    assert maps._repr_html_().count("<img") == 2
    with pytest.raises(ab.BenchError, match=r"maps\.save"):
        maps.picture(0)


class Last(nn.Module):
    """A network that takes (B, L, C) for one axis and computes (B, D, H, W, K) for three."""

    def __init__(self, axes):
        super().__init__()
        self.conv = getattr(nn, f"Conv{axes}d")(2, 6, 3)
        self.norm = nn.LayerNorm(6)
        self.axes = axes
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        if self.axes == 1:
            maps = self.conv(x.transpose(1, 2))
            return self.head(maps.mean(2))
        grid = self.norm(self.conv(x).movedim(1, -1))
        return self.head(grid.mean((1, 2, 3)))


def test_channels_last_are_refused():
    with pytest.raises(ab.BenchError, match="a side is longer than the input"):
        ab.trace(Last(1), "conv", torch.randn(1, 8, 2))
    with pytest.raises(ab.BenchError, match="its channels are last"):
        ab.trace(Last(3), "norm", torch.randn(1, 2, 9, 8, 7))
