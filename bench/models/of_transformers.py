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
    """Load a network of images with a classifier.

    Args:
        checkpoint: A folder, or a name on the Hugging Face Hub, whose cache is used if it has the
            files.

    Raises:
        BenchError: if the files can't be loaded.
    """
    network: nn.Module = _from_pretrained("AutoModelForImageClassification", checkpoint)
    return network


def clip(checkpoint: str, captions: Sequence[str]) -> nn.Module:
    """Load the image tower of a CLIP, (B, 3, H', W') -> logits of each caption (B, n).

    Args:
        checkpoint: See `image_classifier`.
        captions: The captions, which are the classes.

    Raises:
        BenchError: if the files can't be loaded, or if there are no captions.
    """
    if not captions or isinstance(captions, str):
        raise BenchError(
            "A CLIP needs captions, which are its classes: set "
            '"model.kwargs.captions=[a cat,a dog]".'
        )
    network = _from_pretrained("CLIPModel", checkpoint)
    tokenizer = _from_pretrained("AutoTokenizer", checkpoint)
    return Captioned(network, tokenizer, [*map(str, captions)])


class Captioned(nn.Module):
    """A CLIP that classifies images by captions, whose embeddings are computed once.

    See Radford et al. 2021, arXiv:2103.00020, section 3.1.
    """

    def __init__(self, network: Any, tokenizer: Any, captions: list[str]) -> None:
        super().__init__()
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        with torch.no_grad():
            pooled = network.eval().text_model(**tokens).pooler_output
            texts = normalize(network.text_projection(pooled), dim=1) * network.logit_scale.exp()
        self.vision_model = network.vision_model
        self.visual_projection = network.visual_projection
        self.register_buffer("texts", texts)
        # transformers keeps the names of classes under this name, too.
        self.config = SimpleNamespace(id2label=dict(enumerate(captions)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, n) of images (B, 3, H', W')."""
        embeddings = self.visual_projection(self.vision_model(pixel_values=images).pooler_output)
        return normalize(embeddings, dim=1) @ self.get_buffer("texts").T


def segmenter(checkpoint: str) -> nn.Module:
    """Load a network of maps of classes, of an image's own size or smaller.

    Args:
        checkpoint: See `image_classifier`.

    Raises:
        BenchError: if the files can't be loaded.
    """
    network: nn.Module = _from_pretrained("AutoModelForSemanticSegmentation", checkpoint)
    return network


def detr(checkpoint: str) -> nn.Module:
    """Load a DETR as a network of boxes.

    Args:
        checkpoint: See `image_classifier`.

    Raises:
        BenchError: if the files can't be loaded.
    """
    return Detr(_from_pretrained("DetrForObjectDetection", checkpoint))


class Detr(nn.Module):
    """A DETR, (B, 3, H, W) -> boxes (B, N, 4) and logits (B, N, C) of each query.

    Boxes are x0 y0 x1 y1 in pixels. The last logit stands for no object and for all of COCO's ids
    without a category, so that a softmax gives all other classes their probability.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.model = network.model
        self.bbox_predictor = network.bbox_predictor
        self.class_labels_classifier = network.class_labels_classifier
        names = network.config.id2label
        self.used = [index for index in range(len(names)) if names[index] != "N/A"]
        self.others = [index for index in range(len(names) + 1) if index not in self.used]
        labels = [*(names[index] for index in self.used), "no object"]
        self.config = SimpleNamespace(id2label=dict(enumerate(labels)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the boxes and the logits."""
        queries = self.model(pixel_values=images).last_hidden_state
        logits = self.class_labels_classifier(queries)
        width_and_height = images.shape[:1:-1]
        boxes = self.bbox_predictor(queries).sigmoid() * images.new_tensor(width_and_height * 2)
        centres, sides = boxes.split(2, 2)
        corners = torch.cat([centres - sides / 2, centres + sides / 2], 2)
        others = logits[..., self.others].logsumexp(2, keepdim=True)
        return corners, torch.cat([logits[..., self.used], others], 2)


def _from_pretrained(kind: str, checkpoint: str) -> Any:
    """Return an object of a class of transformers that is loaded from a checkpoint."""
    # transformers needs torchvision, which takes seconds, so only its networks import it.
    import axiom_bench.data.torchvision_import  # noqa: F401

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
