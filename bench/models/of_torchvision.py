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

BACKGROUND = 0  # the output that stands for no object
UNUSED = "N/A"  # the name of COCO's ids without a category


class Detector(nn.Module):
    """A one-stage detector before suppression, (B, 3, H, W) -> boxes (B, N, 4) and logits
    (B, N, C) as `BoxScores` takes them.

    The logits are those of real classes, in the order of their ids. Outputs without a category are
    left out. If the network has a softmax, they are joined in logit 0, the background.

    Args:
        network: torchvision's FCOS, RetinaNet or SSD, whose layers keep their names.
        size: The size of the images in pixels, a side or (H, W).
        names: The names of the network's outputs, or None if they are unknown.

    Raises:
        BenchError: if the detector has two stages, such as Faster R-CNN.
    """

    def __init__(
        self, network: Any, size: int | Sequence[int], names: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        if not hasattr(network, "head"):
            raise BenchError(
                f"{type(network).__name__} proposes other regions for each image, so it has "
                "no fixed scores; explain what it detects, "
                "output=ab.outputs.detection(boxes, labels), or take a "
                "detector of one stage, such as FCOS."
            )
        self.backbone = network.backbone
        self.head = network.head
        self.coder = network.box_coder
        self.exclusive = isinstance(network, torchvision.models.detection.ssd.SSD)
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        # A pass on the meta device tells the shapes of the features and the number of outputs.
        parts = nn.ModuleDict({"backbone": network.backbone, "head": network.head})
        meta_parts = copy.deepcopy(parts).to("meta", torch.float32).eval()
        meta_image = torch.empty(1, 3, *self.size, device="meta")
        features = list(meta_parts["backbone"](meta_image).values())
        count = meta_parts["head"](features)["cls_logits"].shape[2]
        maps = [torch.empty(1, 1, *feature.shape[2:]) for feature in features]
        images = torchvision.models.detection.image_list.ImageList(
            torch.empty(1, 3, *self.size), [self.size]
        )
        known = names if names is not None and len(names) == count else None
        used = []
        others = []
        for index in range(count):
            is_unused = known is not None and known[index] == UNUSED
            if index == BACKGROUND or is_unused:
                others.append(index)
            else:
                used.append(index)
        self.register_buffer("anchors", network.anchor_generator(images, maps)[0], persistent=False)
        self.register_buffer("used", torch.tensor(used), persistent=False)
        self.register_buffer("others", torch.tensor(others), persistent=False)
        if known:
            labels = [known[index] for index in used]
            if self.exclusive:
                labels.insert(0, "background")
            # transformers keeps the names of classes under this name, too.
            self.config = SimpleNamespace(id2label=dict(enumerate(labels)))

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return boxes, x0 y0 x1 y1 in pixels inside the image, and logits.

        torch.fx follows only the logits, because no score reads boxes.

        Raises:
            BenchError: if the images have another size.
        """
        outputs = self.head([*self.backbone(images).values()])
        logits = outputs["cls_logits"].index_select(2, self.used)
        if self.exclusive:
            others = outputs["cls_logits"].index_select(2, self.others)
            logits = torch.cat([others.logsumexp(2, keepdim=True), logits], 2)
        if isinstance(images, fx.Proxy):
            return None, logits
        if images.shape[2:] != self.size:
            raise BenchError(
                f"This detector is built for images of {self.size}, not {tuple(images.shape[2:])} "
                "pixels."
            )
        anchors = self.get_buffer("anchors")
        # In RetinaNet and SSD, only `decode_single` decodes one image; in FCOS, `decode` does.
        decode = getattr(self.coder, "decode_single", self.coder.decode)
        boxes = torch.stack([decode(codes, anchors) for codes in outputs["bbox_regression"]])
        return torchvision.ops.clip_boxes_to_image(boxes, self.size), logits


def detector(
    name: str, size: int | Sequence[int], weights: str | None = AS_BUILT, **kwargs: object
) -> Detector:
    """Load torchvision's detector of this name.

    Args:
        name: torchvision's name of the detector.
        size: The size of the images, as `Detector` takes it.
        weights: `as_built` for torchvision's own weights, otherwise random ones, which a file may
            replace.
        **kwargs: Further arguments of torchvision's function.

    Raises:
        BenchError: if the weights can't be downloaded.
    """
    network, names = _torchvision_network(name, weights, **kwargs)
    return Detector(network, size, names)


def segmenter(name: str, weights: str | None = AS_BUILT, **kwargs: object) -> nn.Module:
    """Load torchvision's segmenter of this name.

    Args:
        name: torchvision's name of the segmenter.
        weights: See `detector`.
        **kwargs: Further arguments of torchvision's function.

    Raises:
        BenchError: if the weights can't be downloaded.
    """
    network, names = _torchvision_network(name, weights, **kwargs)
    network.config = SimpleNamespace(id2label=dict(enumerate(["background", *names[1:]])))
    module: nn.Module = network
    return module


def _torchvision_network(name: str, weights: str | None, **kwargs: object) -> tuple[Any, list[str]]:
    """Return the network, and the names of the outputs for which its published weights were
    trained.
    """
    published = torchvision.models.get_model_weights(name).DEFAULT
    kwargs.setdefault("weights", published if weights == AS_BUILT else None)
    kwargs.setdefault("weights_backbone", None)
    try:
        network = torchvision.models.get_model(name, progress=False, **kwargs)
        return network, list(published.meta["categories"])
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
