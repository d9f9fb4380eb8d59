"""Advice of the classes that replace those of pytorch-grad-cam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from axiom_bench.compat import AblationCAM, BaseCAM, FinerCAM, FullGrad, GradCAM
from axiom_bench.compat.utils.image import show_cam_on_image
from axiom_bench.compat.utils.model_targets import (
    ClassifierOutputTarget,
    RawScoresOutputTarget,
    SemanticSegmentationTarget,
    Target,
)
from tests.advice.nets import Small
from tests.advice.user import User, advice_in, follows

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def follow(
    user: User,
    mistake: Any,
    targets: Sequence[Target] | None = None,
    cam_class: type[BaseCAM] = GradCAM,
) -> None:
    """Call the mistake, then the class with these targets, and check that there are maps."""
    user.error(mistake)
    network = Small()
    maps = cam_class(network, [network.features])(IMAGES, targets)
    assert maps.shape == (2, 16, 16)


def call(targets: Any) -> np.ndarray:
    network = Small()
    return GradCAM(network, [network.features])(IMAGES, targets)


@follows("give a list of the model's modules, such as")
def layers_that_are_no_list(user: User) -> None:
    network = Small()
    follow(user, lambda: GradCAM(network, network.features))  # type: ignore[arg-type]


@follows("that isn't a module of this model; give modules")
def layer_of_another_network(user: User) -> None:
    follow(user, lambda: GradCAM(Small(), [nn.ReLU()]))


@follows("so pytorch-grad-cam sets channels to about")
def ablation_of_signed_maps(user: User) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    user.error(lambda: AblationCAM(network, [network[0]], reading="grad-cam")(IMAGES))
    assert AblationCAM(network, [network[0]])(IMAGES).shape == (2, 16, 16)


@follows("FullGrad leaves out biases of ReLU6")
def full_grad_of_relu6(user: User) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    user.error(lambda: FullGrad(network, [], reading="grad-cam")(IMAGES))
    assert FullGrad(network, [])(IMAGES).any()


@follows("Only the most similar classes are compared")
def finer_cam_of_another_rank(user: User) -> None:
    network = Small()
    cam = FinerCAM(network, [network.features])
    message = user.error(lambda: cam(IMAGES, comparison_categories=[2]))
    ranks = eval(advice_in(message, r"comparison_categories=(\(.*?\))"))
    assert cam(IMAGES, comparison_categories=ranks).shape == (2, 16, 16)


@follows("not a list with a target for each image")
def one_target(user: User) -> None:
    target = ClassifierOutputTarget(0)
    follow(user, lambda: call(target), [ClassifierOutputTarget(0)] * 2)


@follows("isn't a function; give ")
def labels_for_targets(user: User) -> None:
    follow(user, lambda: call([0, 1]), [ClassifierOutputTarget(label) for label in (0, 1)])


@follows("give a list with a target for each image, such as")
def too_few_targets(user: User) -> None:
    follow(user, lambda: call([ClassifierOutputTarget(0)]), [ClassifierOutputTarget(0)] * 2)


@follows("for an image, not one score; choose a class")
def target_of_several_scores(user: User) -> None:
    raw = [RawScoresOutputTarget()] * 2
    follow(user, lambda: call(raw), [ClassifierOutputTarget(1)] * 2)
    follow(user, lambda: call(raw), [lambda output: output.sum()] * 2)


@follows("The network returns maps, so there is no predicted class")
def segmenter_without_targets(user: User) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1))
    cam = GradCAM(network, [network[0]])
    user.error(lambda: cam(IMAGES))
    target = SemanticSegmentationTarget(1, np.ones((16, 16), dtype=np.float32))
    assert cam(IMAGES, [target] * 2).shape == (2, 16, 16)


@follows("An operation in place follows the layer")
def layer_before_an_operation_in_place(user: User) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    user.error(lambda: GradCAM(network, [network[0]], reading="grad-cam")(IMAGES))
    for layer, reading in ((1, "grad-cam"), (0, "papers")):
        maps = GradCAM(network, [network[layer]], reading=reading)(IMAGES)  # type: ignore[arg-type]
        assert maps.shape == (2, 16, 16)


@follows("give the name of a colour map of matplotlib, such as")
def colour_map_of_opencv(user: User) -> None:
    image = np.full((4, 4, 3), 0.5)
    message = user.error(lambda: show_cam_on_image(image, image[..., 0], colormap=2))  # type: ignore[arg-type]
    name = advice_in(message, r'colormap="(\w+)"')
    assert show_cam_on_image(image, image[..., 0], colormap=name).any()
