"""The example of docs/findings.md whose network can't see the bottom of the image: it sees all that is above."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = (Path(__file__).resolve().parents[2] / "docs/findings.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """What the example defines, of two networks and four images."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.partition("## Behind a wall\n")[2], re.DOTALL)
    names: dict[str, Any] = {}
    small = code.replace("SEEDS, IMAGES = 62, 20, 64", "SEEDS, IMAGES = 62, 2, 4")
    assert small != code
    exec(compile(small, "docs/findings.md", "exec"), names)
    return names


def test_no_pixel_behind_the_wall_changes_a_logit_and_the_last_before_it_does(example):
    wall = example["WALL"]
    for seed in range(2):
        network = example["walled"](seed).double()  # where a last bit stays visible
        images = example["images"][0].images.double()
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)).double()
        logits = network(images)
        behind, one_more = images.clone(), images.clone()
        behind[:, :, wall:], one_more[:, :, wall - 1 :] = noise[:, :, wall:], 100 * noise[:, :, wall - 1 :]
        assert torch.equal(network(behind), logits)
        assert not torch.equal(network(one_more), logits)


def test_a_method_that_weights_each_position_by_its_gradient_stays_before_the_wall(example):
    shares = example["shares"]
    assert shares.loc[["hires_cam", "layer_cam"]].max(axis=None) == 0
    assert shares.loc["uniform"].min() > 0.1
