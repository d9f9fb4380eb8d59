"""Wrap a network of transformers that says a text about an image, by what its processor makes."""

from __future__ import annotations

from typing import Any

from PIL import Image

from axiom_bench.data.preprocessing import RGB
from axiom_bench.errors import BenchError
from axiom_bench.models.of_blip import BLIP, BlipCaptions
from axiom_bench.models.of_patch_sequences import SIZE, PatchSequences
from axiom_bench.models.of_tiles import IMAGE_SIZES, PackedTiles, Tiles, tiled_size
from axiom_bench.models.of_vision_language import GRID, PIXELS, VisionLanguage, processed

SIDE = 224  # pixels of the picture that shows what a processor makes of an image


def vision_language(
    network: Any, processor: Any, prompt: str, size: tuple[int, int] | None
) -> VisionLanguage:
    """Return a network of transformers as one of images and texts.

    Args:
        network: The network.
        processor: Its processor.
        prompt: The question or instruction.
        size: The height and width of images, for networks that take a sequence of patches.

    Raises:
        BenchError: If the processor gives pixels in another form than images or patches, or if the
            network has an encoder for its prompt.
    """
    if network.config.get_text_config().is_encoder_decoder:
        raise BenchError(
            f"{type(network).__name__} reads its prompt by an encoder. Words are explained for "
            "networks whose decoder reads it, such as LLaVA; choose one of these."
        )
    prompt = _filled_template(processor, prompt)
    picture = Image.new("RGB", (SIDE, SIDE), "gray")
    inputs = processed(network, processor, prompt, picture)
    if GRID in inputs:
        return PatchSequences(network, processor, prompt, size or SIZE)
    tiled = tiled_size(getattr(processor, "image_processor", processor), size)
    if tiled is not None:
        kind = PackedTiles if IMAGE_SIZES in inputs else Tiles
        return kind(network, processor, prompt, tiled)
    if size is not None:
        raise BenchError(
            f"The images of {type(network).__name__} have the size of its processor; leave out "
            "size (model.kwargs.size)."
        )
    pixels = inputs[PIXELS]
    if pixels.ndim not in (4, 5) or pixels[..., 0, 0].numel() != RGB:
        raise BenchError(
            f"The processor of {type(network).__name__} makes pixels {tuple(pixels.shape)} of an "
            "image. Words are explained for networks that take the whole image (1, 3, H, W), such "
            "as LLaVA, PaliGemma, InternVL and SmolVLM, and for Qwen2-VL; choose one of these."
        )
    if network.config.model_type == BLIP:
        return BlipCaptions(network, processor, prompt, inputs)
    return VisionLanguage(network, processor, prompt, inputs)


def _filled_template(processor: Any, prompt: str) -> str:
    """Return the prompt in the processor's chat template, or after the image's token."""
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        messages = [{"role": "user", "content": content}]
        text: str = processor.apply_chat_template(messages, add_generation_prompt=True)
        return text
    # The processor of BLIP-2 puts the tokens of its queries before the prompt itself.
    adds_itself = hasattr(processor, "num_query_tokens")
    token = None if adds_itself else getattr(processor, "image_token", None)
    return prompt if token is None else f"{token}{prompt}"
