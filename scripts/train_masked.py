"""Fine-tune embedded networks on images without some of their pixels, for `f_fidelity`.

    python scripts/train_masked.py [scenes_vgg scenes_resnet]

The trainings are seeded, and take minutes each on one core.

Zheng et al., F-Fidelity: A Robust Framework for Faithfulness Evaluation of Explainable AI, ICLR
2025, arXiv:2410.02970. An image that misses pixels looks like none of the training images. So a
network's answer to it says as much about this difference as about the pixels. A copy that is
fine-tuned on images without a share `REMOVED` of their pixels, drawn at random, judges the maps of
the network itself. A removed pixel is 0 in all channels of the normalised input, as the metric
removes it. (The authors' training code sets only the first channel to 0, and their metric all
channels.)

A copy starts from the committed network and learns by that network's own loss. train_embedded.py,
whose helpers this script uses, says what a seed draws. The copy is written in float16 as the
weights `masked` of the network, and measured as stored. Accuracies on 2,000 scenes of "validation"
and "evaluation" go to training.json: of the copy and of the network itself, on whole images and
without a share of the pixels.

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
    """Return images (B, 3, H', W') with a share of each one's pixels set to 0 in all channels.

    The pixels are drawn at random.
    """
    num_pixels = images[0, 0].numel()
    order = torch.rand(len(images), num_pixels).argsort(1)
    order = order.view(len(images), 1, *images.shape[2:])
    return images * (order >= int(share * num_pixels))


def loss_without_pixels(loss: Loss, network: nn.Module, images: Tensor, present: Tensor) -> Tensor:
    """Return the network's own loss on images without REMOVED of their pixels."""
    return loss(network, without_pixels(images, REMOVED), present)


@torch.inference_mode()
def accuracies(network: nn.Module, images: Tensor, present: Tensor, name: str) -> dict[str, float]:
    """Return the accuracy on whole images, and without REMOVED of the pixels.

    It is the share of scenes whose predicted class is an object of the scene. `name` is the prefix
    of the keys.
    """
    values = {}
    for share, suffix in ((0.0, ""), (REMOVED, "_without_pixels")):
        torch.manual_seed(0)  # the same pixels for the copy and the network
        logits = [network(without_pixels(normalised(part), share)) for part in images.split(250)]
        hits = present.gather(1, torch.cat(logits).argmax(1, keepdim=True))
        values[f"{name}accuracy{suffix}"] = round(hits.mean().item(), 4)
    return values


def main() -> None:
    """Train, measure and save a copy of each named network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(LOSSES), metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    for name in options.names:
        start = time.perf_counter()
        images, present = draw_presence(RECIPE, RECIPE.split, RECIPE.scenes, 0)
        torch.manual_seed(0)  # for the pixels that are removed
        network = networks.load(name)
        loss = partial(loss_without_pixels, LOSSES[name])
        train(network, loss, images, present, RECIPE.epochs, seed=0, rate=RATE)
        network = network.half().float()
        cost = {"seconds": round(time.perf_counter() - start), "threads": torch.get_num_threads()}
        values = {}
        for part, (split, seed) in MEASURED.items():
            test_images, test_present = draw_presence(RECIPE, split, HELD_OUT, seed)
            values[part] = accuracies(network, test_images, test_present, "")
            values[part] |= accuracies(networks.load(name), test_images, test_present, "network_")
        masked_name = f"{name}_masked"
        file = networks.weights_file(masked_name)
        save(file, masked_name, network.half(), {**values, **cost})


if __name__ == "__main__":
    main()
