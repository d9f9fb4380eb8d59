"""Networks of transformers as networks of images, boxes and maps (extra `transformers`).

`checkpoints` loads and wraps them. Layers are named with or without `module.` before them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from axiom_bench.errors import BenchError

UNUSED = "N/A"  # the name of COCO's ids without a category
# Types of detectors whose logits have a softmax with "no object"; those of others have sigmoids.
SOFTMAX_DETECTORS = ("detr", "table-transformer", "yolos")
SIGMOID_CAPTIONS = ("siglip",)  # types of CLIPs whose captions don't exclude each other


def is_exclusive(config: Any) -> bool:
    """Return whether the classes of a detector of transformers exclude each other."""
    return config.model_type in SOFTMAX_DETECTORS


class Captioned(nn.Module):
    """A CLIP or SigLIP that classifies images by captions, whose embeddings are computed once.

    It maps images (B, 3, H', W') to logits of each caption (B, n). See Radford et al. 2021,
    arXiv:2103.00020, section 3.1.

    If words of a caption are given, these are the classes. A word's logit is what the caption's
    logit loses without the word.

    Args:
        network: A CLIP or SigLIP of transformers.
        tokenizer: Its tokenizer.
        captions: The captions.
        words: Words of the only caption, or none.

    Raises:
        BenchError: If the network can't tell two captions apart, or if the caption lacks a word.
    """

    def __init__(
        self, network: Any, tokenizer: Any, captions: Sequence[str], words: Sequence[str] = ()
    ) -> None:
        super().__init__()
        names = list(words or captions)
        captions = [*captions, *(_without(word, captions) for word in words)]
        # SigLIP was trained on captions of one length, and has a bias instead of projections.
        padding = "max_length" if network.config.model_type in SIGMOID_CAPTIONS else True
        most = network.config.text_config.max_position_embeddings
        tokens = tokenizer(
            captions, padding=padding, truncation=True, max_length=most, return_tensors="pt"
        )
        if len(tokens["input_ids"].unique(dim=0)) < len(captions):
            raise BenchError(
                f"Two captions have the same first {most} tokens, and the network reads no more; "
                "set model.kwargs.captions to captions that differ earlier."
            )
        with torch.no_grad():
            pooled = network.eval().text_model(**tokens).pooler_output
            projected = getattr(network, "text_projection", nn.Identity())(pooled)
            texts = normalize(projected, dim=1) * network.logit_scale.exp()
        bias = getattr(network, "logit_bias", torch.zeros(1)).detach()
        if words:
            texts = texts[:1] - texts[1:]
            bias = torch.zeros_like(bias)
        self.vision_model = network.vision_model
        self.visual_projection = getattr(network, "visual_projection", nn.Identity())
        self.register_buffer("texts", texts)
        self.register_buffer("bias", bias)
        # transformers keeps the names of classes under this name, too.
        self.config = SimpleNamespace(id2label=dict(enumerate(names)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, n) of images (B, 3, H', W')."""
        embeddings = self.visual_projection(self.vision_model(pixel_values=images).pooler_output)
        similarities = normalize(embeddings, dim=1) @ self.get_buffer("texts").T
        return similarities + self.get_buffer("bias")


def _without(word: str, captions: Sequence[str]) -> str:
    """Return the only caption without a word.

    Raises:
        BenchError: If there are several captions, or if the caption lacks the word or is this word.
    """
    caption = captions[0]
    if len(captions) > 1:
        raise BenchError(
            f"The words of one caption are explained, not of {len(captions)}; set "
            "model.kwargs.captions to one caption, or leave out model.kwargs.words."
        )
    pattern = rf"(?<!\w){re.escape(word)}(?!\w)"
    rest = " ".join(re.sub(pattern, " ", caption).split())
    if not re.search(pattern, caption):
        raise BenchError(
            f"The caption {caption!r} has no word {word!r}; choose model.kwargs.words among its "
            "own."
        )
    if not re.search(r"\w", rest):
        raise BenchError(
            f"Nothing is left of the caption {caption!r} without {word!r}; give a longer caption, "
            "or leave out model.kwargs.words."
        )
    return rest


@dataclass(frozen=True)
class PatchTokens:
    """The patches among the tokens of a YOLOS: after the class token, before those of detections.

    See `Reshape` of cutting.tokens.
    """

    patch: tuple[int, int]  # pixels, (height, width)
    detections: int  # the last tokens

    def to_maps(self, output: Tensor, image_size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return maps (B, K, H, W) of the patches, and the other tokens (B, n, K)."""
        height, width = (
            side // pixels for side, pixels in zip(image_size, self.patch, strict=True)
        )
        patches_end = output.shape[1] - self.detections
        start = patches_end - height * width
        patches = output[:, start:patches_end]
        maps = patches.transpose(1, 2).unflatten(2, (height, width)).contiguous()
        return maps, torch.cat([output[:, :start], output[:, patches_end:]], 1)

    def from_maps(self, maps: Tensor, rest: Tensor | None) -> Tensor:
        """Return the layer's output again."""
        assert rest is not None
        patches = maps.flatten(2).transpose(1, 2)
        start = rest.shape[1] - self.detections
        return torch.cat([rest[:, :start], patches, rest[:, start:]], 1)


class QueryBoxes(nn.Module):
    """A detector, (B, 3, H, W) -> boxes (B, N, 4) and logits (B, N, C) of each query.

    Boxes are x0 y0 x1 y1 in pixels. COCO's ids without a category are left out. With a softmax,
    the last logit stands for them and for no object, so that all other classes keep their
    probability.

    Args:
        network: A network of transformers for object detection.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.module = network
        names = network.config.id2label
        self.exclusive = is_exclusive(network.config)
        self.count = len(names) + self.exclusive
        self.used = [index for index in range(len(names)) if names[index] != UNUSED]
        self.others = [index for index in range(self.count) if index not in self.used]
        labels = [names[index] for index in self.used]
        if self.exclusive:
            labels.append("no object")
        # transformers keeps the names of classes under this name, too.
        self.config = SimpleNamespace(id2label=dict(enumerate(labels)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the boxes and the logits.

        Raises:
            BenchError: if the logits aren't those of the configured classes.
        """
        output = self.module(pixel_values=images)
        logits = output.logits
        if logits.shape[2] != self.count:
            raise BenchError(
                f"{type(self.module).__name__} has {logits.shape[2]} logits for "
                f"{self.count} outputs, so it isn't known which is no object; set model=user and "
                "model.read."
            )
        width_and_height = images.shape[:1:-1]
        boxes = output.pred_boxes * images.new_tensor(width_and_height * 2)
        centres, sides = boxes.split(2, 2)
        corners = torch.cat([centres - sides / 2, centres + sides / 2], 2)
        used = logits[..., self.used]
        if not self.exclusive:
            return corners, used
        others = logits[..., self.others].logsumexp(2, keepdim=True)
        return corners, torch.cat([used, others], 2)


class QueryMaps(nn.Module):
    """A segmenter of masks with classes, (B, 3, H, W) -> log scores (B, C, h, w).

    A class's score at a position is the sum over queries of the query's probability of the class
    times that of its mask (Cheng et al. 2021, arXiv:2107.06278, section 3.4).

    Args:
        network: A network such as MaskFormer or Mask2Former.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.module = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithms of the scores."""
        output = self.module(pixel_values=images)
        classes = output.class_queries_logits.softmax(2)[..., :-1]  # the last one is no object
        masks = output.masks_queries_logits.sigmoid()
        scores = torch.einsum("bqc,bqhw->bchw", classes, masks)
        return scores.clamp(min=torch.finfo(scores.dtype).tiny).log()
