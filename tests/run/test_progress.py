"""How fast a computation is said to be."""

from __future__ import annotations

import pytest

from axiom_bench.run.progress import rate


@pytest.mark.parametrize(
    ("images", "seconds", "text"),
    [
        (64, 3.2, "20.0 images/s"),
        (3, 61, "20.3 s/image"),
        (1, 1, "1.0 images/s"),
        (0, 5, ""),
        (0.02, 1, "50.0 s/image"),
    ],
)
def test_a_slow_network_has_seconds_an_image(images: float, seconds: float, text: str):
    assert rate(images, seconds) == text
