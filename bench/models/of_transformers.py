"""Networks of transformers as networks of images: model=clip, dinov2, detr and segformer (extra
`transformers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from axiom_bench.errors import BenchError


def image_classifier(checkpoint: str) -> nn.Module:
    """A network of images with a classifier. checkpoint: a folder, or a name on the Hugging Face
    Hub, whose cache is used where it has the files. Raises BenchError where they can't be had.
    """
    network: nn.Module = _of("AutoModelForImageClassification", checkpoint)
    return network


def clip(checkpoint: str, captions: Sequence[str]) -> nn.Module:
    """A CLIP's image tower, (B, 3, H', W') -> its logits of each caption (B, n). Raises as
    `image_classifier` does, and without captions.
    """
    if not captions or isinstance(captions, str):
        raise BenchError(
            'A CLIP needs captions, which are its classes: set "model.kwargs.captions=[a cat,a dog]".'
        )
    return Captioned(
        _of("CLIPModel", checkpoint), _of("AutoTokenizer", checkpoint), [*map(str, captions)]
    )


class Captioned(nn.Module):
    """A CLIP that names images by captions, whose embeddings are computed once (Radford et al.
    2021, arXiv:2103.00020, section 3.1).
    """

    def __init__(self, network: Any, tokenizer: Any, captions: list[str]) -> None:
        super().__init__()
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        with torch.no_grad():
            of_text = network.eval().text_model(**tokens).pooler_output
            texts = normalize(network.text_projection(of_text), dim=1) * network.logit_scale.exp()
        self.vision_model, self.visual_projection = network.vision_model, network.visual_projection
        self.register_buffer("texts", texts)
        self.config = SimpleNamespace(
            id2label=dict(enumerate(captions))
        )  # where transformers has names of classes

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H', W') -> (B, n)."""
        embeddings = self.visual_projection(self.vision_model(pixel_values=images).pooler_output)
        return normalize(embeddings, dim=1) @ self.get_buffer("texts").T


def segmenter(checkpoint: str) -> nn.Module:
    """A network of maps of classes, of an image's own size or smaller. Raises as `image_classifier`
    does.
    """
    network: nn.Module = _of("AutoModelForSemanticSegmentation", checkpoint)
    return network


def detr(checkpoint: str) -> nn.Module:
    """A DETR as a network of boxes. Raises as `image_classifier` does."""
    return Detr(_of("DetrForObjectDetection", checkpoint))


class Detr(nn.Module):
    """(B, 3, H, W) -> boxes (B, N, 4), x0 y0 x1 y1 in pixels, and logits (B, N, C) of each query.
    The last logit is no object and all of COCO's ids without a category together, so that a softmax
    gives all others their probability.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.model, self.bbox_predictor = network.model, network.bbox_predictor
        self.class_labels_classifier = network.class_labels_classifier
        names = network.config.id2label
        self.used = [place for place in range(len(names)) if names[place] != "N/A"]
        self.others = [place for place in range(len(names) + 1) if place not in self.used]
        self.config = SimpleNamespace(
            id2label=dict(enumerate([*(names[place] for place in self.used), "no object"]))
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The boxes and the logits."""
        queries = self.model(pixel_values=images).last_hidden_state
        logits = self.class_labels_classifier(queries)
        centres, sides = (
            self.bbox_predictor(queries).sigmoid() * images.new_tensor(images.shape[:1:-1] * 2)
        ).split(2, 2)
        boxes = torch.cat([centres - sides / 2, centres + sides / 2], 2)
        return boxes, torch.cat(
            [logits[..., self.used], logits[..., self.others].logsumexp(2, keepdim=True)], 2
        )


def _of(kind: str, checkpoint: str) -> Any:
    import axiom_bench.data.torchvision_import  # noqa: F401 - here: it takes seconds, and transformers needs torchvision

    try:
        import transformers
    except ImportError as error:
        raise BenchError(
            "Networks of transformers need it: pip install '.[transformers]' in axiom-bench's "
            "checkout."
        ) from error
    try:
        return getattr(transformers, kind).from_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{checkpoint} can't be read, here or from the Hugging Face Hub "
            f"({str(error).splitlines()[0]}); set model.kwargs.checkpoint to a folder that "
            "save_pretrained wrote."
        ) from error
