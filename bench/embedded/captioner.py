"""Small vision-language networks that describe the scenes of `embedded.captions`.

As in LLaVA, a vision tower makes a token of each position of its last maps, 12 x 12, and a decoder
reads these tokens and the words so far, and scores the next word. The tower of `scenes_vlm` has
five convolutions, and that of `scenes_vlm_vit` two transformer blocks after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from axiom_bench.embedded.captions import WORDS
from axiom_bench.embedded.networks import convolution_layers
from axiom_bench.embedded.words import decode_words, encode_words

LONGEST = 9  # words of a sentence
END = len(WORDS)  # the token that ends a sentence, and that stands before its first word
GRID = (12, 12)
WIDTH = 96  # of a token
HEADS = 4


class Block(nn.Module):
    """A transformer block: attention over tokens, then two linear layers for each token. Both are
    residual, after a layer norm.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.queries_keys_values = nn.Linear(WIDTH, 3 * WIDTH)
        self.outputs = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map tokens (B, N, WIDTH) to tokens.

        Args:
            tokens: The tokens.
            mask: (N, N), True where a token, a row, reads another one. None: all read all.
        """
        projected = self.queries_keys_values(self.norm1(tokens))
        query, key, value = projected.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        read = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        tokens = tokens + self.outputs(read.transpose(1, 2).flatten(2))
        changed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return changed


class Tower(nn.Module):
    """Five 3 x 3 convolutions with ReLUs, the first strided, and two max-pools.

    It maps images (B, 3, 96, 96) to maps (B, width, 12, 12), and these to tokens.

    Args:
        batch_norm: Add the batch norm of training.
        width: The channels of the last convolution.
    """

    layer = "features.11"

    def __init__(self, batch_norm: bool = False, width: int = 64) -> None:
        super().__init__()
        self.width = width
        widths = ((24, 3, False), (32, 3, True), (48, 3, True), (64, 3, False), (width, 3, False))
        self.features = convolution_layers(2, 3, widths, batch_norm)

    def forward(self, images: Tensor) -> Tensor:
        """Return the positions as tokens, (B, 144, width), row by row."""
        tokens: Tensor = self.features(images).flatten(2).mT
        return tokens


class TransformerTower(Tower):
    """The convolutions of a `Tower`, then two transformer blocks on its tokens."""

    layer = "blocks.1"

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__(batch_norm, WIDTH)
        self.places = nn.Parameter(torch.randn(GRID[0] * GRID[1], WIDTH) * 0.1)
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens after the blocks, (B, 144, WIDTH)."""
        tokens: Tensor = self.blocks(super().forward(images) + self.places)
        return tokens


class Captioner(nn.Module):
    """A network that describes a scene. It is a `TextNetwork` for `WordScores`.

    It maps images (B, 3, 96, 96) and texts (B, L), L at most `longest`, to the logits (B, L, V) of
    each position, given the words before it.

    Args:
        tower: The vision tower.
        blocks: The number of the decoder's blocks.
    """

    end = END
    longest = LONGEST + 1
    vocabulary = (*WORDS, "")
    image_tokens = tuple(range(GRID[0] * GRID[1]))
    start = GRID[0] * GRID[1]

    def __init__(self, tower: Tower, blocks: int) -> None:
        super().__init__()
        self.tower = tower
        self.default_layer = f"tower.{tower.layer}"
        self.projector = nn.Linear(tower.width, WIDTH)
        num_positions = len(self.image_tokens)
        self.places = nn.Parameter(torch.randn(num_positions, WIDTH) * 0.1)
        self.words = nn.Embedding(END + 1, WIDTH)
        self.times = nn.Parameter(torch.randn(self.longest, WIDTH) * 0.1)
        self.blocks = nn.ModuleList([Block() for _ in range(blocks)])
        self.norm = nn.LayerNorm(WIDTH)
        self.logits = nn.Linear(WIDTH, END + 1)
        # Each token reads all positions of the image. A word reads also the words before it.
        total = num_positions + self.longest
        mask = torch.ones(total, total).tril().bool()
        mask[:num_positions, :num_positions] = True
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Compute the logits (B, L, V) of each word of texts (B, L), given the words before it."""
        return self.say(self.see(images), text)

    def see(self, images: Tensor) -> Tensor:
        """Return the image's tokens for the decoder, (B, 144, WIDTH)."""
        tokens: Tensor = self.projector(self.tower(images)) + self.places
        return tokens

    def say(self, seen: Tensor, text: Tensor) -> Tensor:
        """Compute the logits (B, L, V) of a text from the image's tokens."""
        before = torch.cat([torch.full_like(text[:, :1], END), text[:, :-1]], 1)
        words = self.words(before) + self.times[: text.shape[1]]
        tokens = torch.cat([seen, words], 1)
        total = tokens.shape[1]
        mask = self.get_buffer("mask")[:total, :total]
        for block in self.blocks:
            tokens = block(tokens, mask)
        logits: Tensor = self.logits(self.norm(tokens[:, seen.shape[1] :]))
        return logits

    def answer(self, images: Tensor, length: int) -> list[list[int]]:
        """Return the words of the sentence about each image, at most `length` of them."""
        seen = self.see(images)
        text = torch.full((len(images), length), END, device=images.device)
        for position in range(length):
            text[:, position] = self.say(seen, text)[:, position].argmax(1)
        return [[*takewhile(lambda word: word != END, row)] for row in text.tolist()]

    def encode(self, text: str) -> list[int]:
        """Return the words of a text. Raise BenchError if the network doesn't know one."""
        return encode_words(text, WORDS)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return decode_words([token for token in tokens if token != END], WORDS)


def scenes_vlm(batch_norm: bool = False) -> Captioner:
    """Return a network with a tower of convolutions and a decoder of three blocks.

    Args:
        batch_norm: Add the batch norm of training. In the committed weights it is folded into the
            layer before it.
    """
    return Captioner(Tower(batch_norm), blocks=3)


def scenes_vlm_vit(batch_norm: bool = False) -> Captioner:
    """Return a network with transformer blocks in its tower and a decoder of two blocks.

    Args:
        batch_norm: See `scenes_vlm`.
    """
    return Captioner(TransformerTower(batch_norm), blocks=2)


BUILDERS = {"scenes_vlm": scenes_vlm, "scenes_vlm_vit": scenes_vlm_vit}
