"""BLIP's captioning network as one of images and texts, for `WordScores`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from axiom_bench.models.of_vision_language import VisionLanguage

BLIP = "blip"  # its model_type


class BlipCaptions(VisionLanguage):
    """A BlipForConditionalGeneration (Li et al. 2022, arXiv:2201.12086).

    Its decoder reads the image by cross-attention, so none of its tokens is the image's. The text
    begins with a token of its own, and continues the prompt, which may be empty.

    Args:
        network: The network.
        processor: Its processor.
        prompt: The beginning of each caption.
        inputs: What the processor makes from the prompt and an image.
    """

    def __init__(
        self, network: Any, processor: Any, prompt: str, inputs: Mapping[str, Tensor]
    ) -> None:
        settings = network.config.text_config
        # the processor ends the prompt with the token that ends a text
        cut = {
            name: value[:, :-1] if value.shape == inputs["input_ids"].shape else value
            for name, value in inputs.items()
        }
        cut["input_ids"] = cut["input_ids"].clone()
        cut["input_ids"][:, 0] = settings.bos_token_id
        super().__init__(network, processor, prompt, cut)
        self.end = settings.sep_token_id
        self.ends = [self.end]

    def _generated(self, image: Tensor, length: int) -> Tensor:
        """Return the tokens of the prompt and of the text about an image, (1, P + at most L)."""
        # the network's own code leaves out the last token of these, and sets the tokens of the end
        inputs = self._inputs(image, torch.full((1, 1), self.end, device=image.device))
        tokens: Tensor = self.module.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=length
        )
        return tokens
