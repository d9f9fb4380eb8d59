"""Vision-language networks of transformers as networks of images and texts, for `WordScores`.

The processor makes a network's inputs from a prompt and an image once. Only the pixels and the text
after the prompt change afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from axiom_bench.errors import BenchError

PIXELS = "pixel_values"
GRID = "image_grid_thw"  # the numbers of patches of an image: frames, rows and columns
TOWERS = ("vision_tower", "visual", "vision_model")  # names of the part that reads the image
# Settings of processors that cut an image into tiles, which have no common grid.
TILES = ("crop_to_patches", "do_image_splitting", "do_pan_and_scan")
# Types of networks that take an image of zeros for padding, and leave it out.
ZEROS_ARE_PADDING = ("idefics3", "smolvlm")


class VisionLanguage(nn.Module):
    """A network of transformers that says a text about an image.

    It maps images (B, 3, H', W') and texts (B, L) to the logits (B, L, V) of each position.

    Args:
        network: The network, such as a LlavaForConditionalGeneration.
        processor: Its processor.
        prompt: The question or instruction, in the processor's template.
        inputs: What the processor makes from the prompt and an image.

    Raises:
        BenchError: If the tokenizer has no token that ends a text.
    """

    def __init__(
        self, network: Any, processor: Any, prompt: str, inputs: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.module = network
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.prompt = prompt
        self.num_axes = inputs[PIXELS].ndim
        self.image_token = _image_token(network)
        tokens = inputs["input_ids"][0]
        self.image_tokens = tuple((tokens == self.image_token).nonzero()[:, 0].tolist())
        self.start = len(tokens) - 1
        self.default_layer = f"module.{_last_block(network)}"
        self.ends = _ends(network, self.tokenizer)
        self.end = self.ends[0]
        self.names = tuple(name for name in inputs if name != PIXELS)
        for name in self.names:
            self.register_buffer(f"input_{name}", inputs[name], persistent=False)

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Compute the logits (B, L, V) of each token of a text, given the tokens before it."""
        return self._text_logits(self._inputs(images, text), text.shape[1])

    def _text_logits(self, inputs: Mapping[str, object], length: int) -> Tensor:
        """Run the network, and return the logits of the last `length` tokens, each of which is
        scored by the token before it.
        """
        output = self.module(**inputs, use_cache=False, logits_to_keep=length + 1)
        logits: Tensor = output.logits[:, :length]
        return logits

    def answer(self, images: Tensor, length: int) -> list[list[int]]:
        """Return the tokens that the network says about each image by greedy decoding."""
        answers: list[list[int]] = []
        for image in images.split(1):
            tokens = self._generated(image, length)[0, self.start + 1 :].tolist()
            answers.append([*takewhile(lambda token: token not in self.ends, tokens)])
        return answers

    def _generated(self, image: Tensor, length: int) -> Tensor:
        """Return the tokens of the prompt and of the text about an image, (1, P + at most L)."""
        from transformers import GenerationConfig

        # The checkpoint's own settings may sample, or change the scores of repeated words.
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=length, eos_token_id=self.ends, pad_token_id=self.end
        )
        inputs = self._inputs(image, torch.zeros(1, 0, dtype=torch.long, device=image.device))
        tokens: Tensor = self.module.generate(**inputs, generation_config=settings)
        return tokens

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token of the network's vocabulary, also of those without a text."""
        size = self.module.config.get_text_config().vocab_size
        texts = self.tokenizer.batch_decode([[token] for token in range(size)])
        return tuple(text.strip() for text in texts)

    def _inputs(self, images: Tensor, text: Tensor) -> dict[str, Tensor]:
        """Return the network's inputs for images and the texts after the prompt."""
        rows = len(images)
        # a cut asks for made-up texts, and an image's token would ask for another image
        size = self.module.get_input_embeddings().num_embeddings
        text = text.clamp(0, size - 1)
        text = torch.where(text == self.image_token, self.end, text)
        inputs: dict[str, Tensor] = {}
        for name in self.names:
            value = self.get_buffer(f"input_{name}")
            value = value.expand(rows, *value.shape[1:])
            if name == "input_ids":
                value = torch.cat([value, text], 1)
            elif value.shape == (rows, self.get_buffer("input_input_ids").shape[1]):
                value = torch.cat([value, self._of_text(name, value).expand(text.shape)], 1)
            inputs[name] = value
        inputs[PIXELS] = self._pixels(images)
        return inputs

    def _pixels(self, images: Tensor) -> Tensor:
        """Return the network's input for images."""
        if self.module.config.model_type in ZEROS_ARE_PADDING:
            are_zero = (images == 0).flatten(1).all(1)
            smallest = torch.finfo(images.dtype).tiny
            images = images + are_zero[:, None, None, None] * smallest
        between = [1] * (self.num_axes - images.ndim)
        return images.reshape(len(images), *between, *images.shape[1:])

    def _of_text(self, name: str, value: Tensor) -> Tensor:
        """Return what a mask or type of tokens (B, P) is for the text after the prompt, (B, 1)."""
        last = value[:, -1:]
        if name == "token_type_ids" and self.module.config.model_type == "paligemma":
            # Tokens of its prompt see each other, and those of its text only earlier ones.
            return torch.ones_like(last)
        return last

    def extra_repr(self) -> str:
        """Return the settings for torch's description of the module."""
        return f"prompt={self.prompt!r}"


def _last_block(network: Any) -> str:
    """Return the name of the last block of the vision tower that the text is computed from.

    Raises:
        BenchError: If there is no list of blocks.
    """
    inner = getattr(network, "model", network)
    for tower in TOWERS:
        if not hasattr(inner, tower):
            continue
        lists = [
            (len(part), name)
            for name, part in getattr(inner, tower).named_modules()
            if isinstance(part, nn.ModuleList)
        ]
        if lists:
            blocks, name = max(lists)
            # LLaVA counts the states before and after each block.
            chosen = getattr(network.config, "vision_feature_layer", -1)
            if not isinstance(chosen, int):
                chosen = max(chosen)
            index = chosen - 1 if chosen >= 0 else blocks + chosen
            prefix = "model." if inner is not network else ""
            return f"{prefix}{tower}.{name}.{index}"
    raise BenchError(
        f"The vision tower of {type(network).__name__} has no list of blocks; set model.layer to "
        "one of its layers."
    )


def processed(
    network: Any, processor: Any, prompt: str, picture: Image.Image, has_tiles: bool = False
) -> dict[str, Tensor]:
    """Return the tensors that the processor makes from a prompt and a picture.

    With `has_tiles` it cuts the picture into tiles, if it can.

    Raises:
        BenchError: If the processor fails, or if it makes no pixels.
    """
    image_processor = getattr(processor, "image_processor", processor)
    settings = {name: has_tiles for name in TILES if hasattr(image_processor, name)}
    try:
        made: Mapping[str, Any] = processor(
            images=picture, text=prompt, return_tensors="pt", **settings
        )
    except Exception as error:  # processors differ in what they raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BenchError(
            f"The processor of {type(network).__name__} can't read the prompt {prompt!r} with an "
            f"image ({reason}); load the processor of this network's own checkpoint."
        ) from error
    inputs = {}
    for name, value in made.items():
        if isinstance(value, Tensor) and name != "labels":
            inputs[name] = value
    if PIXELS not in inputs:
        raise BenchError(
            f"The processor of {type(network).__name__} makes no pixels of an image; give what "
            "AutoProcessor loads from the network's checkpoint, not its tokenizer."
        )
    return inputs


def _image_token(network: Any) -> int:
    """Return the token in whose places the image stands, or -1."""
    for name in ("image_token_id", "image_token_index"):
        token = getattr(network.config, name, None)
        if token is not None:
            return int(token)
    return -1


def _ends(network: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end a text.

    Raises:
        BenchError: If there is none.
    """
    ends = getattr(network.generation_config, "eos_token_id", None)
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        raise BenchError(
            f"The tokenizer of {type(network).__name__} has no token that ends a text; set its "
            "eos_token."
        )
    return list(ends) if isinstance(ends, list) else [ends]
