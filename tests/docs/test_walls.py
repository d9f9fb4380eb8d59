"""A test of the example in docs/findings.md whose network can't see the bottom of the image."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = (Path(__file__).resolve().parents[2] / "docs/findings.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_pixel_behind_the_wall_changes_a_logit_and_methods_show_it_all_the_same():
    """Check two networks and four images: rows behind the wall change no logit.

    The last row before the wall does.
    """
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.partition("## Behind a wall\n")[2], re.DOTALL)
    example: dict[str, Any] = {}
    exec(compile(code.replace("= 62, 20, 64", "= 62, 2, 4"), "docs/findings.md", "exec"), example)
    assert list(example["tables"]) == [0, 1]
    for seed in (0, 1):
        network = example["walled"](seed).double()  # where a last bit stays visible
        images = example["images"][0].images.double()
        noise = (
            100 * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)).double()
        )
        for row, is_same in ((example["WALL"], True), (example["WALL"] - 1, False)):
            changed = torch.cat([images[:, :, :row], noise[:, :, row:]], 2)
            assert torch.equal(network(changed), network(images)) == is_same
    largest = example["shares"].max(axis=1)
    local_methods = ["hires_cam", "layer_cam"]  # they show only what is before the wall
    assert (largest[local_methods] == 0).all()
    assert (largest.drop(local_methods) > 0.01).all()
