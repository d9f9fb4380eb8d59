"""Fine-tune embedded networks on images without some of their pixels, for `f_fidelity`; seeded,
minutes each on one core.

    python scripts/train_masked.py [scenes_vgg scenes_resnet]

Zheng et al., F-Fidelity: A Robust Framework for Faithfulness Evaluation of Explainable AI, ICLR
2025, arXiv:2410.02970: an image that misses pixels looks like none of the training, so that a
network's answer to it says as much of that as of the pixels; a copy that is fine-tuned on images
that miss a share `REMOVED` of their pixels, drawn at random, judges the maps of the network itself.
A removed pixel is 0 in all channels of the normalised input, as the metric removes it. (The
authors' training code sets the first channel alone to 0, and its metric all channels.)

A copy starts from the committed network and learns by that network's own loss. train_embedded.py,
whose helpers it uses, says what a seed draws. Written in float16 as the weights `masked` of the
network, measured as stored. Accuracies of 2,000 scenes of "validation" and "evaluation" go to
training.json: of the copy and of the network itself, on whole images and without a share of the
pixels.

The bar, set before the first training: on validation scenes the copy is at most 0.01 less accurate
than the network on whole images, and at most 0.02 less accurate on images without REMOVED of their
pixels than on whole ones.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import torch
from torch import Tensor, nn
from train_embedded import (
    HELD_OUT,
    MEASURED,
    RECIPES,
    THREADS,
    Loss,
    draw_presence,
    normalised,
    save,
    shares_loss,
    sparse_loss,
    train,
)

from axiom_bench.embedded import networks

REMOVED = 0.1  # of the pixels, the authors' beta
LOSSES: dict[str, Loss] = {"scenes_vgg": partial(sparse_loss, 0.05), "scenes_resnet": shares_loss}
RECIPE = RECIPES["scenes_vgg"]._replace(scenes=8_000, epochs=3)
RATE = 1e-3


def without_pixels(images: Tensor, share: float) -> Tensor:
    """Images (B, 3, H', W') with this share of each one's pixels, drawn at random, set to 0 in all
    channels.
    """
    order = (
        torch.rand(len(images), images[0, 0].numel())
        .argsort(1)
        .view(len(images), 1, *images.shape[2:])
    )
    return images * (order >= int(share * images[0, 0].numel()))


def loss_without_pixels(loss: Loss, network: nn.Module, images: Tensor, present: Tensor) -> Tensor:
    """The network's own loss, of images without REMOVED of their pixels."""
    return loss(network, without_pixels(images, REMOVED), present)


@torch.inference_mode()
def accuracies(network: nn.Module, images: Tensor, present: Tensor, name: str) -> dict[str, float]:
    """The share of scenes whose predicted class is an object of the scene, by what is removed of
    the pixels.
    """
    values = {}
    for share in (0.0, REMOVED):
        torch.manual_seed(0)  # the same pixels for the copy and the network
        logits = torch.cat(
            [network(without_pixels(normalised(part), share)) for part in images.split(250)]
        )
        hits = present.gather(1, logits.argmax(1, keepdim=True))
        values[f"{name}accuracy{'_without_pixels' if share else ''}"] = round(hits.mean().item(), 4)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(LOSSES), metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    for name in options.names:
        start = time.perf_counter()
        images, present = draw_presence(RECIPE, RECIPE.split, RECIPE.scenes, 0)
        torch.manual_seed(0)  # for the pixels that are removed
        network = networks.load(name)
        train(
            network,
            partial(loss_without_pixels, LOSSES[name]),
            images,
            present,
            RECIPE.epochs,
            0,
            rate=RATE,
        )
        network = network.half().float()
        cost = {"seconds": round(time.perf_counter() - start), "threads": torch.get_num_threads()}
        values = {}
        for part, (split, seed) in MEASURED.items():
            drawn = draw_presence(RECIPE, split, HELD_OUT, seed)
            values[part] = accuracies(network, *drawn, "") | accuracies(
                networks.load(name), *drawn, "network_"
            )
        save(
            networks.weights_file(f"{name}_masked"),
            f"{name}_masked",
            network.half(),
            {**values, **cost},
        )


if __name__ == "__main__":
    main()
