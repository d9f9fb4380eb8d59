"""Networks of ultralytics (YOLO) as networks of boxes or classes, loaded by the user's own
installation.

Boxes are computed from the convolutions of the head, whose names are the same from YOLOv8 to
YOLO26. Layers are named as ultralytics does, such as model.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError

# Heads whose boxes are those of `DenseHead`; masks and keypoints aren't explained.
BOX_HEADS = ("Detect", "v10Detect", "Segment", "Segment26", "Pose", "Pose26")
CLASS_HEAD = "Classify"
OVERLAP = 0.7  # the highest IoU of two boxes of a class, by ultralytics' default
SIDE = 640  # pixels, for a checkpoint that doesn't say the size of its images
NO_MEAN = (0.0, 0.0, 0.0)
NO_STD = (1.0, 1.0, 1.0)


class DenseHead(nn.Module):
    """The head of a YOLO before suppression: maps of several scales -> boxes and logits.

    Args:
        head: The last layer of a network of ultralytics.
        is_end_to_end: Whether boxes come from the head's convolutions for one box per object.
    """

    def __init__(self, head: Any, is_end_to_end: bool) -> None:
        super().__init__()
        prefix = "one2one_" if is_end_to_end else ""
        self.cv2 = getattr(head, f"{prefix}cv2")  # distances, one module per scale
        self.cv3 = getattr(head, f"{prefix}cv3")  # logits
        self.strides = [int(stride) for stride in head.stride]
        self.bins = head.reg_max
        # ultralytics' loop over layers reads these.
        self.i = head.i
        self.f = head.f
        self.type = head.type  # type: ignore[method-assign]
        self.np = head.np

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor | None, Tensor]:
        """Return boxes (B, N, 4), x0 y0 x1 y1 in pixels, and logits (B, N, C).

        torch.fx follows only the logits, because no score reads boxes.
        """
        scales = range(len(self.strides))
        logits = torch.cat([self.cv3[scale](maps[scale]).flatten(2) for scale in scales], 2)
        if isinstance(logits, fx.Proxy):
            return None, logits.transpose(1, 2)
        boxes = [self._boxes(scale, maps[scale]) for scale in scales]
        return torch.cat(boxes, 1), logits.transpose(1, 2)

    def _boxes(self, scale: int, features: Tensor) -> Tensor:
        """Return the boxes (B, H W, 4) of a scale.

        The distances of a box's sides from the centre of its position are means over bins, whose
        probabilities the network gives (Li et al. 2020, arXiv:2006.04388).
        """
        codes = self.cv2[scale](features).flatten(2).unflatten(1, (4, self.bins))
        distances = codes[:, :, 0]
        if self.bins > 1:
            bins = torch.arange(self.bins).to(codes)
            distances = torch.einsum("bsnp,n->bsp", codes.softmax(2), bins)
        height, width = features.shape[2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres = (torch.stack([x, y]).flatten(1) + 0.5).to(codes)
        starts = centres - distances[:, :2]
        ends = centres + distances[:, 2:]
        return torch.cat([starts, ends], 1).transpose(1, 2) * self.strides[scale]


class YoloBoxes(nn.Module):
    """A YOLO, (B, 3, H, W) -> boxes (B, N, 4) and logits (B, N, C), as `BoxScores` takes them.

    Args:
        network: A network of ultralytics that finds boxes; its last layer is replaced.
        nms: False for the head of one box per object, which needs no suppression (YOLO26); True
            for the other one; None for the one that ultralytics uses by default.

    Raises:
        BenchError: if the network has no such head.
    """

    def __init__(self, network: Any, nms: bool | None = None) -> None:
        super().__init__()
        head = network.model[-1]
        is_end_to_end = bool(getattr(head, "end2end", False)) if nms is None else not nms
        if getattr(head, "one2one_cv2" if is_end_to_end else "cv2", None) is None:
            raise BenchError(
                f"This {type(head).__name__} head has no boxes with nms={nms}; leave out "
                "model.kwargs.nms."
            )
        dense_head = DenseHead(head, is_end_to_end)
        network.model[-1] = dense_head
        self.module = network
        self.stride = max(dense_head.strides)
        # as `BoxScores` reads them
        self.has_one_class = not is_end_to_end
        self.most_overlap = 1.0 if is_end_to_end else OVERLAP

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the boxes and the logits.

        Raises:
            BenchError: if the sides of the images aren't multiples of the largest stride.
        """
        if not isinstance(images, fx.Proxy):
            for side in images.shape[2:]:
                if side % self.stride:
                    above = side + self.stride - side % self.stride
                    raise BenchError(
                        f"A YOLO takes images whose sides are multiples of {self.stride} pixels, "
                        f"not {side}; set model.resize={above}."
                    )
        boxes, logits = self.module(images)
        return boxes, logits


@dataclass(frozen=True)
class YoloCheckpoint:
    """A checkpoint of ultralytics, which its own code loads."""

    file: Path
    head: str  # the name of the class of the last layer
    classes: tuple[str, ...]
    side: int  # pixels, of the images on which it was trained
    layers: tuple[str, ...]  # those from which the head reads, of small to large objects

    @staticmethod
    def of(file: Path) -> YoloCheckpoint:
        """Read a checkpoint.

        Raises:
            BenchError: if ultralytics isn't installed or can't read the file, or if the network's
                head is of another kind.
        """
        network = _load(file)
        head = type(network.model[-1]).__name__
        if head not in (*BOX_HEADS, CLASS_HEAD):
            raise BenchError(
                f"{file} ends in a head {head}. model=yolo explains the boxes of YOLO's detection, "
                "segmentation and pose networks, and classifiers; for another network, write a "
                "function that builds it, and set model=user model.architecture=net.py:build."
            )
        names = network.names
        classes = tuple(str(names[index]) for index in range(len(names)))
        args = getattr(network, "args", None) or {}
        side = dict(args).get("imgsz") or SIDE
        before = network.model[-1].f
        layers = before if isinstance(before, list) else [len(network.model) - 2]
        return YoloCheckpoint(
            file,
            head,
            classes,
            side if isinstance(side, int) else max(side),
            tuple(f"model.{layer}" for layer in layers),
        )

    @property
    def output(self) -> str | None:
        """The value of model.output; None for a classifier, whose logits are recognised."""
        return None if self.head == CLASS_HEAD else "boxes"

    @property
    def note(self) -> str:
        """A sentence on the default layer; "" for a classifier."""
        if self.head == CLASS_HEAD:
            return ""
        *small, large = self.layers
        return (
            f"the boxes of small to large objects are read from {', '.join(small)} and {large}. "
            "The default layer's maps explain the scores of large objects only in part; set "
            f"model.layer={large} for these."
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of ultralytics for a batch of images of several sizes."""
        is_classifier = self.head == CLASS_HEAD
        crop = self.side if is_classifier else None
        return Preprocessing(self.side, crop, NO_MEAN, NO_STD, letterbox=not is_classifier)

    def build(self, nms: bool | None = None) -> nn.Module:
        """Return the network with the file's weights.

        Args:
            nms: See `YoloBoxes`.
        """
        network = _load(self.file)
        if self.head == CLASS_HEAD:
            return YoloClasses(network)
        return YoloBoxes(network, nms)


def _load(file: Path) -> Any:
    """Return the network of a checkpoint, loaded by ultralytics."""
    import axiom_bench.data.torchvision_import  # noqa: F401

    try:
        from ultralytics import YOLO
    except ImportError as error:
        raise BenchError(
            "model=yolo needs ultralytics, whose licence is AGPL-3.0, so axiom-bench doesn't "
            "install it; type pip install ultralytics."
        ) from error
    try:
        return YOLO(str(file)).model.float()
    except Exception as error:  # a file of any content, and ultralytics' versions differ
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise BenchError(
            f"ultralytics can't load {file} ({reason}); set model.weights to a .pt file that it "
            "saved."
        ) from error


class YoloClasses(nn.Module):
    """A classifier of ultralytics, (B, 3, H, W) -> logits (B, C)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.module = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, or what a version of ultralytics without them returns."""
        output = self.module(images)
        logits: Tensor = output[1] if isinstance(output, tuple) else output
        return logits
