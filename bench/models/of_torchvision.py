"""torchvision's detectors and segmenters as networks of objects (see cutting.objects), on
normalised images.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from http.client import HTTPException
from math import log2
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.functional import avg_pool2d, grid_sample

from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError
from axiom_bench.models.spec import AS_BUILT

BACKGROUND = 0  # the output that stands for no object
FEW_REGIONS = 100  # the most regions that are pooled at a time
UNUSED = "N/A"  # the name of COCO's ids without a category


class AnchoredDetector(nn.Module):
    """The parts that detectors of one and of two stages share.

    Args:
        network: torchvision's network, whose layers keep their names.
        size: The size of the images in pixels, a side or (H, W).
    """

    anchors: Tensor
    used: Tensor  # the outputs that are classes
    others: Tensor  # the outputs that are joined in the background

    def __init__(self, network: Any, size: int | Sequence[int]) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def _keep_anchors(self, generator: nn.Module) -> dict[str, Tensor]:
        """Keep the anchors, and return the features of an image on the meta device, which have only
        shapes.
        """
        backbone = copy.deepcopy(self.backbone).to("meta", torch.float32).eval()
        features: dict[str, Tensor] = backbone(torch.empty(1, 3, *self.size, device="meta"))
        maps = [torch.empty(1, 1, *feature.shape[2:]) for feature in features.values()]
        images = torchvision.models.detection.image_list.ImageList(
            torch.empty(1, 3, *self.size), [self.size]
        )
        self.register_buffer("anchors", generator(images, maps)[0], persistent=False)
        return features

    def _keep_outputs(self, names: Sequence[str] | None, count: int, exclusive: bool) -> None:
        """Keep which of the outputs are classes, and their names."""
        used, others = _used_outputs(names, count)
        self.register_buffer("used", torch.tensor(used), persistent=False)
        self.register_buffer("others", torch.tensor(others), persistent=False)
        self.config = _named_outputs(names, count, used, exclusive)

    def _joined(self, scores: Tensor, axis: int) -> Tensor:
        """Join the logits of the background and of outputs without a category."""
        others = scores.index_select(axis, self.others)
        used = scores.index_select(axis, self.used)
        return torch.cat([others.logsumexp(axis, keepdim=True), used], axis)

    def _check_size(self, images: Tensor) -> None:
        """Raise BenchError if images have another size."""
        if images.shape[2:] != self.size:
            raise BenchError(
                f"This detector is built for images of {self.size}, not {tuple(images.shape[2:])} "
                "pixels."
            )


class Detector(AnchoredDetector):
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
        super().__init__(network, size)
        if hasattr(network, "roi_heads"):
            raise BenchError(
                f"{type(network).__name__} proposes other regions for each image; make it "
                "ProposalScores(TwoStageDetector(network, size), exclusive=True, background=0) of "
                "axiom_bench.cutting.objects and axiom_bench.models.of_torchvision."
            )
        self.head = network.head
        self.coder = network.box_coder
        self.exclusive = isinstance(network, torchvision.models.detection.ssd.SSD)
        features = self._keep_anchors(network.anchor_generator)
        head = copy.deepcopy(network.head).to("meta", torch.float32).eval()
        count = head([*features.values()])["cls_logits"].shape[2]
        self._keep_outputs(names, count, self.exclusive)

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return boxes, x0 y0 x1 y1 in pixels inside the image, and logits.

        torch.fx follows only the logits, because no score reads boxes.

        Raises:
            BenchError: if the images have another size.
        """
        outputs = self.head([*self.backbone(images).values()])
        logits = outputs["cls_logits"]
        logits = self._joined(logits, 2) if self.exclusive else logits.index_select(2, self.used)
        if isinstance(images, fx.Proxy):
            return None, logits
        self._check_size(images)
        anchors = self.anchors
        # In RetinaNet and SSD, only `decode_single` decodes one image; in FCOS, `decode` does.
        decode = getattr(self.coder, "decode_single", self.coder.decode)
        boxes = torch.stack([decode(codes, anchors) for codes in outputs["bbox_regression"]])
        return torchvision.ops.clip_boxes_to_image(boxes, self.size), logits


class TwoStageDetector(AnchoredDetector):
    """torchvision's Faster, Mask or Keypoint R-CNN before suppression, as `ProposalScores` takes
    it.

    Logit 0 stands for the background and for outputs without a category. A region's box is that of
    its most probable class.

    Args:
        network: torchvision's network, whose layers keep their names.
        size: The size of the images in pixels, a side or (H, W).
        names: The names of the network's outputs, or None if they are unknown.
    """

    has_two_stages = True
    steps: Tensor

    def __init__(
        self, network: Any, size: int | Sequence[int], names: Sequence[str] | None = None
    ) -> None:
        super().__init__(network, size)
        self.rpn = network.rpn
        # All of it, also the heads of masks and keypoints, so that a file of the network fits.
        self.roi_heads = network.roi_heads
        pool = network.roi_heads.box_roi_pool
        self.side = pool.output_size[0]
        self.samples = pool.sampling_ratio
        self.canonical = (pool.canonical_scale, pool.canonical_level)
        features = self._keep_anchors(self.rpn.anchor_generator)
        self.pooled_maps = [name for name in pool.featmap_names if name in features]
        self.strides = []
        for name in self.pooled_maps:
            height, width = features[name].shape[2:]
            self.strides.append(2 ** round(-log2(height / self.size[0])))
            limits = torch.tensor([float(max(width - 1, 1)), float(max(height - 1, 1))])
            self.register_buffer(f"limits_{name}", limits, False)
        steps = torch.arange(self.side * self.samples) + 0.5
        self.register_buffer("steps", steps / len(steps), False)
        count = self.roi_heads.box_predictor.cls_score.out_features
        self._keep_outputs(names, count, exclusive=True)

    def forward(
        self, images: Tensor, regions: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Return the logits (B, C) of regions (B, 4), or what the network proposes for images.

        These are boxes (B, N, 4), logits (B, N, C) and regions (B, N, 4).

        Raises:
            BenchError: if the images have another size.
        """
        features = self.backbone(images)
        if regions is not None:
            vectors = self._vectors(features, regions[:, None])
            return self._joined(self.roi_heads.box_predictor(vectors)[0], 1)
        self._check_size(images)
        found = []
        for row, proposals in enumerate(self._proposals(features)):
            # Few regions at a time, since each has a map of all channels.
            own = {name: feature[row : row + 1] for name, feature in features.items()}
            parts = [self._boxes(own, part) for part in proposals.split(FEW_REGIONS)]
            found.append([torch.cat(values) for values in zip(*parts, strict=True)])
        most = max(len(boxes) for boxes, _, _ in found)
        # Suppression removes the repeated regions of images with fewer ones.
        rows = [[_repeated(value, most) for value in values] for values in found]
        boxes, logits, regions = (torch.stack(values) for values in zip(*rows, strict=True))
        return boxes, logits, regions

    def _boxes(
        self, features: Mapping[str, Tensor], regions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the boxes, the logits and the regions themselves of regions (n, 4) of an image."""
        scores, codes = self.roi_heads.box_predictor(self._vectors(features, regions[None]))
        best = scores[:, 1:].argmax(1) + 1
        boxes = self.roi_heads.box_coder.decode(codes, [regions])[torch.arange(len(regions)), best]
        boxes = torchvision.ops.clip_boxes_to_image(boxes, self.size)
        return boxes, self._joined(scores, 1), regions

    def _vectors(self, features: Mapping[str, Tensor], regions: Tensor) -> Tensor:
        """Return the vectors (B n, d) of the box head for n regions (B, n, 4) of each image.

        They are pooled as by torchvision's RoIAlign. All levels are sampled, and the one that fits
        the region's size counts, so that torch.fx can follow.
        """
        sides = regions[..., 2:] - regions[..., :2]
        scale, level = self.canonical
        levels = (level + torch.log2(sides.prod(2).sqrt() / scale) + 1e-6).floor()
        levels = levels.clamp(log2(self.strides[0]), log2(self.strides[-1]))
        steps = self.steps
        pooled = []
        for name, stride in zip(self.pooled_maps, self.strides, strict=True):
            lengths = (sides / stride).clamp(min=1)
            # (B, n, samples of a side, x y), in positions of the level's map
            points = regions[:, :, None, :2] / stride + lengths[:, :, None] * steps[:, None]
            limits = self.get_buffer(f"limits_{name}")
            x, y = (2 * points / limits - 1).unbind(3)
            grid = torch.stack(torch.broadcast_tensors(x[:, :, None], y[..., None]), 4)
            sampled = grid_sample(
                features[name], grid.flatten(1, 2), "bilinear", "border", align_corners=True
            )
            cells = avg_pool2d(sampled, self.samples).unflatten(2, (-1, self.side))
            is_level = (levels == log2(stride)).to(cells)
            pooled.append(cells * is_level[:, None, :, None, None])
        joined = sum(pooled[1:], pooled[0])
        vectors: Tensor = self.roi_heads.box_head(joined.transpose(1, 2).flatten(0, 1))
        return vectors

    def _proposals(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the regions (n, 4) that the network proposes in each image, as torchvision does.

        torchvision's own function needs compiled operators, which some installations lack.
        """
        rpn = self.rpn
        objectness, codes = rpn.head([*features.values()])
        counts = [scores[0].numel() for scores in objectness]
        anchors = self.anchors
        rows = []
        for row in range(len(objectness[0])):
            kept = []
            kept_scores = []
            start = 0
            for scores, code, count in zip(objectness, codes, counts, strict=True):
                flat = scores[row].permute(1, 2, 0).flatten()
                own = code[row].unflatten(0, (len(scores[row]), 4)).permute(2, 3, 0, 1)
                best = flat.topk(min(rpn.pre_nms_top_n(), count)).indices
                boxes = rpn.box_coder.decode(
                    own.reshape(-1, 4)[best], [anchors[start : start + count][best]]
                )[:, 0]
                boxes = torchvision.ops.clip_boxes_to_image(boxes, self.size)
                is_large = ((boxes[:, 2:] - boxes[:, :2]) >= rpn.min_size).all(1)
                boxes, flat = boxes[is_large], flat[best][is_large]
                chosen = _suppressed(boxes, rpn.nms_thresh)
                kept.append(boxes[chosen])
                kept_scores.append(flat[chosen])
                start += count
            order = torch.cat(kept_scores).argsort(descending=True, stable=True)
            regions = torch.cat(kept)[order[: rpn.post_nms_top_n()]].detach()
            if not len(regions):  # the whole image, such as in a network with random weights
                height, width = self.size
                regions = regions.new_tensor([[0, 0, width, height]])
            rows.append(regions)
        return rows


def _suppressed(boxes: Tensor, most: float) -> Tensor:
    """Return the positions of boxes, sorted by falling score, whose IoU with no earlier kept one
    exceeds `most`.
    """
    is_near = (torchvision.ops.box_iou(boxes, boxes) > most).cpu().numpy()
    is_suppressed = np.zeros(len(boxes), bool)
    kept = []
    for position in range(len(boxes)):
        if not is_suppressed[position]:
            kept.append(position)
            is_suppressed |= is_near[position]
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)


def _repeated(values: Tensor, count: int) -> Tensor:
    """Return `count` rows, of which the last one is repeated."""
    return torch.cat([values, values[-1:].expand(count - len(values), -1)])


def _used_outputs(names: Sequence[str] | None, count: int) -> tuple[list[int], list[int]]:
    """Return the outputs that are classes, and the others: the background, and COCO's ids without a
    category.
    """
    known = names if names is not None and len(names) == count else None
    used = []
    others = []
    for index in range(count):
        is_unused = known is not None and known[index] == UNUSED
        if index == BACKGROUND or is_unused:
            others.append(index)
        else:
            used.append(index)
    return used, others


def _named_outputs(
    names: Sequence[str] | None, count: int, used: Sequence[int], exclusive: bool
) -> SimpleNamespace:
    """Return the names of the outputs as transformers keeps them, in `config.id2label`."""
    if names is None or len(names) != count:
        return SimpleNamespace(id2label=None)
    labels = [names[index] for index in used]
    if exclusive:
        labels.insert(0, "background")
    return SimpleNamespace(id2label=dict(enumerate(labels)))


def detector(
    name: str, size: int | Sequence[int], weights: str | None = AS_BUILT, **kwargs: object
) -> Detector | TwoStageDetector:
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
    has_two_stages = hasattr(network, "roi_heads")
    return (TwoStageDetector if has_two_stages else Detector)(network, size, names)


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


fasterrcnn_resnet50_fpn = partial(detector, "fasterrcnn_resnet50_fpn")
maskrcnn_resnet50_fpn = partial(detector, "maskrcnn_resnet50_fpn")
keypointrcnn_resnet50_fpn = partial(detector, "keypointrcnn_resnet50_fpn")
fcos_resnet50_fpn = partial(detector, "fcos_resnet50_fpn")
retinanet_resnet50_fpn = partial(detector, "retinanet_resnet50_fpn")
retinanet_resnet50_fpn_v2 = partial(detector, "retinanet_resnet50_fpn_v2")
ssd300_vgg16 = partial(detector, "ssd300_vgg16")
ssdlite320_mobilenet_v3_large = partial(detector, "ssdlite320_mobilenet_v3_large")
deeplabv3_resnet50 = partial(segmenter, "deeplabv3_resnet50")
lraspp_mobilenet_v3_large = partial(segmenter, "lraspp_mobilenet_v3_large")
