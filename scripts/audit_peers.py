"""Writes docs/audit.md: what grad-cam, torchcam and captum compute beside the formulas, how fast, and what they leave.

    python scripts/audit_peers.py [--output docs/audit.md]

Needs the extra `peers` (make peers); some minutes on two cores. Whatever the page says was measured in this run: a
case that isn't seen any more is said to be gone. The cases are the files of scripts/peer_cases/, each runnable alone.
"""

from __future__ import annotations

import axiom_bench as ab  # before torchvision, which grad-cam imports

# isort: split
import os
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

import torch
from audit_page import Finding, page
from peer_measures import (
    Network,
    Pair,
    batch_dependence,
    degenerate,
    left_behind,
    pairs,
    times,
    values,
    without_gradients,
)
from torch import nn

from axiom_bench import methods
from axiom_bench.data.base import subset
from axiom_bench.data.loading import batches
from axiom_bench.data.registry import load_dataset
from axiom_bench.models.load import load_model
from axiom_bench.run.sweep import configuration

ROOT = Path(__file__).resolve().parents[1]
CASES = Path(__file__).with_name("peer_cases")
REAL_ROOT = Path(os.environ.get("AXIOM_BENCH_REAL", ROOT.parent / "shared"))
ROUNDS, ROUNDS_OF_MANY_PASSES = 5, 3
BATCH = 8


def tiny() -> Network:
    """Two 2 x 2 maps and a ReLU head in small integers, worked out by hand in `worked_out`; float64."""
    model = nn.Sequential(
        nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 2)
    ).double()
    numbers: list[list[object]] = [
        [[[[1]], [[0]], [[0]]], [[[0]], [[1]], [[0]]]],  # F_1 = relu(red + 1), F_2 = relu(green)
        [1, 0],
        [[1, 1, 1, 1, 0, 1, 0, 0], [1, -1, 0, 1, -1, 0, 2, 0], [-1, 0, -1, 0, 0, 0, 0, -1]],
        [0, -1, 1],
        [[2, -1, 5], [1, 2, 0]],
        [1, 0],
    ]
    with torch.no_grad():
        for parameter, number in zip(model.parameters(), numbers, strict=True):
            parameter.copy_(torch.tensor(number))
    first = [[[0, -1], [1, 0]], [[0, 3], [1, 0]], [[0, 0], [0, 0]]]  # F_1 = 1 0 / 2 1, F_2 = 0 3 / 1 0
    second = [[[1, 0], [2, -1]], [[2, 0], [0, 1]], [[1, 1], [0, 0]]]
    images = torch.tensor([first, second], dtype=torch.float64)
    return Network("tiny", model.eval(), "1", images, torch.tensor([0, 0]))


def worked_out(network: Network) -> None:
    """The first image by hand: h = (7, 3, 0), S = 2 * 7 - 3 + 1; g = 2 W_1 - W_2, since the third ReLU is off."""
    found = ab.trace(network.model, network.layer, network.images, network.targets)[:1]
    assert found.scores.tolist() == [12]
    assert found.gradients.tolist() == [[[[1, 3], [2, 1]], [[1, 2], [-2, 0]]]]
    assert found.ablation_drops.tolist() == [[12 - 11, 12 - 8]]
    for name, by_hand in {
        "grad_cam": [7 / 4, 1 / 4],
        "xgrad_cam": [6 / 4, 4 / 4],
        "ablation_cam": [1 / 12, 4 / 12],
    }.items():
        torch.testing.assert_close(methods.get(name)(found).flatten(), torch.tensor(by_hand, dtype=torch.float64))


def tiny_pooled(network: Network) -> Network:
    """The same layer behind global average pooling and one linear layer, for CAM."""
    head = nn.Linear(2, 2).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1, 2], [-1, 1]]))
    model = nn.Sequential(*network.model[:2], nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    return Network("tiny, pooled", model, "1", network.images, network.targets)


def trained(name: str, count: int) -> Network:
    """A trained network at its default layer on its own data: photographs below real_root, or scenes. float32."""
    data_set = "imagenet" if name == "own_model" else "scenes"
    config = configuration([f"model={name}", f"data={data_set}", f"real_root={REAL_ROOT}"])
    loaded, images = load_model(config["model"]), load_dataset(config["data"])
    rows = batches(images, subset(images, count, 0), loaded.preprocessing, "label", count, 0)
    batch = next(row for row in rows if isinstance(row, ab.Batch))
    assert batch.targets is not None
    return Network(f"{name} at {loaded.layer}", loaded.module, loaded.layer, batch.images, batch.targets)


def networks_for(pair: Pair, known: dict[str, Network]) -> tuple[Network, Network]:
    """The tiny and the trained network: CAM's head is pooled, and two passes a channel take the small embedded one."""
    if pair.ours.name == "cam":
        return known["tiny, pooled"], known["scenes_resnet"]
    return known["tiny"], known["scenes_vgg" if pair.passes_per_channel > 1 else "real"]


def finding(pair: Pair, small: Network, large: Network) -> Finding:
    """Measures a pair. Methods of many passes take one photograph, and are batched on the tiny network only."""
    many = pair.passes_per_channel > 0
    exact = large.to(torch.float64).first(1 if many else 2)
    return Finding(
        pair=pair,
        network=large.title,
        by_hand=values(pair, small),
        trained=values(pair, exact),
        batch=max(batch_dependence(pair, small), 0 if many else batch_dependence(pair, exact)),
        times=times(pair, large.first(1 if many else BATCH), ROUNDS_OF_MANY_PASSES if many else ROUNDS),
        zero_layer=degenerate(pair, with_layer(small, 0, -1)),
        zero_score=degenerate(pair, with_zero_head(small)),
        constant_layer=degenerate(pair, with_layer(small, 0, 1)),
        left=left_behind(pair, small),
        without_gradients=without_gradients(pair, small),
    )


def with_layer(network: Network, weight: float, bias: float) -> Network:
    """The tiny network with constant maps relu(bias)."""
    changed = network.fresh()
    nn.init.constant_(changed.model[0].weight, weight)
    nn.init.constant_(changed.model[0].bias, bias)
    return changed


def with_zero_head(network: Network) -> Network:
    """The tiny network with scores and gradients of 0."""
    changed = network.fresh()
    nn.init.zeros_(changed.model[-1].weight)
    nn.init.zeros_(changed.model[-1].bias)
    return changed


def main() -> None:
    """Measures, and writes the page."""
    arguments = ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--output", type=Path, default=ROOT / "docs" / "audit.md")
    output = arguments.parse_args().output
    sys.unraisablehook = lambda _: None  # grad-cam's ShapleyCAM fails once more when it is deleted; a case tells of it
    small = tiny()
    worked_out(small)
    real = "own_model" if (REAL_ROOT / "own_model").is_dir() else "scenes_vgg"
    known = {"tiny": small, "tiny, pooled": tiny_pooled(small), "real": trained(real, BATCH)}
    known |= {name: trained(name, BATCH) for name in ("scenes_vgg", "scenes_resnet")}
    findings = []
    for pair in pairs():
        start = time.perf_counter()
        findings.append(finding(pair, *networks_for(pair, known)))
        print(f"{pair.name}: {time.perf_counter() - start:.1f} s", flush=True)
    output.write_text(page(findings, sorted(CASES.glob("*.py")), os.getloadavg()[1]))
    print(f"page: {output}")


if __name__ == "__main__":
    main()
