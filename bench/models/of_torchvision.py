"""torchvision's detectors and segmenters as networks of objects (see cutting.objects), on
normalised images.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from http.client import HTTPException
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx, nn

from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError
from axiom_bench.models.spec import AS_BUILT

BACKGROUND, UNUSED = 0, "N/A"  # the output that is no object; an id of COCO's without a category


class Detector(nn.Module):
    """A one-stage detector before suppression: (B, 3, H, W) -> boxes (B, N, 4) and logits (B, N, C)
    as `BoxScores` takes them.

    network: torchvision's FCOS, RetinaNet or SSD, whose layers keep their names. size: of the
    images, a side or (H, W). names: of its outputs; None: unknown. Logits are those of real
    classes, in the order of their ids: outputs without a category are left out, and of a softmax
    they are the background, logit 0, together. Raises BenchError for Faster R-CNN and its like.
    """

    def __init__(
        self, network: Any, size: int | Sequence[int], names: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        if not hasattr(network, "head"):
            raise BenchError(
                f"{type(network).__name__} scores regions that it proposes anew for each image; "
                "explain what it detects, output=ab.outputs.detection(boxes, labels), or take a "
                "detector of one stage, as FCOS."
            )
        self.backbone, self.head, self.coder = network.backbone, network.head, network.box_coder
        self.exclusive = isinstance(network, torchvision.models.detection.ssd.SSD)
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        shape_of = (
            copy.deepcopy(nn.ModuleDict({"backbone": network.backbone, "head": network.head}))
            .to("meta", torch.float32)
            .eval()
        )
        features = list(shape_of["backbone"](torch.empty(1, 3, *self.size, device="meta")).values())
        count = shape_of["head"](features)["cls_logits"].shape[2]
        maps = [torch.empty(1, 1, *each.shape[2:]) for each in features]
        images = torchvision.models.detection.image_list.ImageList(
            torch.empty(1, 3, *self.size), [self.size]
        )
        known = names if names is not None and len(names) == count else None
        used = [
            place
            for place in range(count)
            if place != BACKGROUND and not (known and known[place] == UNUSED)
        ]
        self.register_buffer("anchors", network.anchor_generator(images, maps)[0], persistent=False)
        self.register_buffer("used", torch.tensor(used), persistent=False)
        self.register_buffer(
            "others", torch.tensor(sorted({*range(count)} - {*used})), persistent=False
        )
        if known:
            shown = ["background"] * self.exclusive + [known[place] for place in used]
            self.config = SimpleNamespace(
                id2label=dict(enumerate(shown))
            )  # where transformers has names of classes

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Boxes, x0 y0 x1 y1 in pixels within the image, and logits. torch.fx follows the logits
        alone: no score reads boxes. Raises BenchError for images of another size.
        """
        found = self.head([*self.backbone(images).values()])
        logits = found["cls_logits"].index_select(2, self.used)
        if self.exclusive:
            others = found["cls_logits"].index_select(2, self.others)
            logits = torch.cat([others.logsumexp(2, keepdim=True), logits], 2)
        if isinstance(images, fx.Proxy):
            return None, logits
        if images.shape[2:] != self.size:
            raise BenchError(
                f"This detector is built for images of {self.size}, not {tuple(images.shape[2:])} "
                "pixels."
            )
        codes, anchors = found["bbox_regression"], self.get_buffer("anchors")
        decode = getattr(self.coder, "decode_single", self.coder.decode)  # of FCOS one image's, too
        boxes = torch.stack([decode(each, anchors) for each in codes])
        return torchvision.ops.clip_boxes_to_image(boxes, self.size), logits


def detector(
    name: str, size: int | Sequence[int], weights: str | None = AS_BUILT, **kwargs: Any
) -> Detector:
    """torchvision's detector of this name. size: as `Detector` has it. weights: `as_built` for
    torchvision's own, else random ones, which a file may replace. Raises BenchError where they
    can't be downloaded.
    """
    network, names = _of(name, weights, **kwargs)
    return Detector(network, size, names)


def segmenter(name: str, weights: str | None = AS_BUILT, **kwargs: Any) -> nn.Module:
    """torchvision's segmenter of this name; see `detector`."""
    network, names = _of(name, weights, **kwargs)
    network.config = SimpleNamespace(id2label=dict(enumerate(["background", *names[1:]])))
    return network


def _of(name: str, weights: str | None, **kwargs: Any) -> tuple[Any, list[str]]:
    """The network, and the names of its outputs where it has as many as the published weights."""
    published = torchvision.models.get_model_weights(name).DEFAULT
    kwargs = {
        "weights": published if weights == AS_BUILT else None,
        "weights_backbone": None,
        **kwargs,
    }
    try:
        return torchvision.models.get_model(name, progress=False, **kwargs), list(
            published.meta["categories"]
        )
    except (OSError, HTTPException) as error:
        raise BenchError(
            f"The weights of {name} can't be downloaded from {published.url} "
            f"({str(error).splitlines()[0]}); set model.weights to a local file of them, or "
            "model.weights=null for random ones."
        ) from error


fcos_resnet50_fpn = partial(detector, "fcos_resnet50_fpn")
retinanet_resnet50_fpn = partial(detector, "retinanet_resnet50_fpn")
retinanet_resnet50_fpn_v2 = partial(detector, "retinanet_resnet50_fpn_v2")
ssd300_vgg16 = partial(detector, "ssd300_vgg16")
ssdlite320_mobilenet_v3_large = partial(detector, "ssdlite320_mobilenet_v3_large")
deeplabv3_resnet50 = partial(segmenter, "deeplabv3_resnet50")
lraspp_mobilenet_v3_large = partial(segmenter, "lraspp_mobilenet_v3_large")
