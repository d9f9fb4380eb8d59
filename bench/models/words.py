"""Explain the words that a vision-language network says about an image, one word at a time.

A word's place is a second input of the network: the text up to the word's end. So scores are
(B, V), one for each token of the vocabulary, as for any network with several inputs. The explained
score is that of the word's last token, with the scores of its earlier tokens added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from axiom_bench.cutting.joined import JoinedRows
from axiom_bench.cutting.model_copy import shared_copy
from axiom_bench.cutting.objects import (
    DecoderTokens,
    Found,
    PlacedScores,
    rows_of_equal,
    select_positions,
)
from axiom_bench.cutting.passes import full_precision
from axiom_bench.errors import BenchError, unknown_name

LENGTH = 32  # the most tokens of a text
# A generated token's logit may be smaller than the largest one by this share of it. In bfloat16, a
# pass over the whole text is rounded otherwise than a pass for each token.
TIE = 0.02
WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*")
# Words that need no image: English articles, prepositions, pronouns, conjunctions and auxiliaries.
FUNCTION_WORDS = frozenset((
    "a", "about", "an", "and", "are", "as", "at", "be", "been", "being", "but", "by", "can",
    "could", "did", "do", "does", "down", "for", "from", "had", "has", "have", "he", "her", "here",
    "his", "i", "if", "in", "into", "is", "it", "its", "may", "might", "near", "next", "no", "not",
    "of", "off", "on", "or", "our", "out", "over", "she", "should", "so", "than", "that", "the",
    "their", "them", "there", "these", "they", "this", "those", "to", "under", "up", "very", "was",
    "we", "were", "what", "where", "which", "who", "will", "with", "would", "you", "your",
))  # fmt: skip
SCORES = ("logits", "log_probabilities")
# the columns of a place before its tokens
FIRST = 0
COUNT = 1
TOKENS = slice(2, None)


class TextNetwork(Protocol):
    """A network that says a text about an image.

    It is an nn.Module in eval mode, and runs the same modules for each image.
    """

    end: int
    """The token that ends a text."""
    default_layer: str
    """The layer that is explained if none is chosen."""
    vocabulary: tuple[str, ...]
    """The text of each token."""
    image_tokens: tuple[int, ...]
    """The positions of the image's tokens among all tokens that the decoder reads; none if no
    attention reads them.
    """
    start: int
    """The position, among all tokens that the decoder reads, of the one before the text."""

    def __call__(self, images: Tensor, text: Tensor) -> Tensor:
        """Compute the logits (B, L, V) of each position of texts (B, L), given the image, the
        prompt and the tokens before the position.
        """

    def answer(self, images: Tensor, length: int) -> list[list[int]]:
        """Return the tokens of the text that the network says about each image, at most `length`
        of them, by greedy decoding.
        """

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""


@dataclass(frozen=True)
class Word:
    """A word of a text."""

    text: str
    first: int  # the position of its first token
    count: int  # the number of its tokens


class WordScores(PlacedScores):
    """A vision-language network whose scores belong to one word of a text about each image.

    A place, (B, 2 + length), is the position of the word's first token, the number of its tokens,
    and the tokens of the text up to the word's end. Later tokens are the one that ends a text.

    Args:
        module: A vision-language network of transformers with its processor, such as LLaVA. Or a
            `TextNetwork` without a processor.
        processor: The processor of transformers for this network.
        prompt: The question or instruction. The processor's template is applied to it.
        text: The text whose words are explained; None: what the network says.
        output: "logits": a word's score is the sum of its tokens' logits. "log_probabilities": it
            is the logarithm of the word's probability, given the text before it.
        length: The most tokens of a text; None: those that the network knows as its `longest`, or
            32. Scores of any text cost passes of this length.
        size: The height and width of the images, for networks that take images of any size, such
            as Qwen2-VL; None: 448 x 448.

    Raises:
        BenchError: If the network or its processor isn't of a supported kind, or if the text has no
            word or too many tokens.
    """

    of_words = True
    # transformers' networks read elements only to check them
    has_one_path = True

    def __init__(
        self,
        module: nn.Module,
        processor: object | None = None,
        prompt: str = "",
        text: str | None = None,
        output: str = "logits",
        length: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        if output not in SCORES:
            raise unknown_name("score of words", output, SCORES)
        if processor is not None:
            # transformers takes seconds, so only its networks import it
            from axiom_bench.models.speakers import vision_language

            module = vision_language(module, processor, prompt, size and (size[0], size[1]))
        super().__init__(module)
        self.prompt: str = getattr(module, "prompt", prompt)
        self.output = output
        longest: int = getattr(module, "longest", LENGTH)
        self.length = length or longest
        self.text = None if text is None else self._checked_text(text)

    def forward(self, images: Tensor, place: Tensor) -> Tensor:
        """Compute scores (B, V) of the place's last token."""
        text = place[:, TOKENS].long()
        scores, own = token_scores(self._network, images, text, self.output)
        first = place[:, FIRST].long()
        last = first + place[:, COUNT].long() - 1
        positions = torch.arange(text.shape[1], device=text.device)
        is_earlier = (positions >= first[:, None]) & (positions < last[:, None])
        earlier = torch.where(is_earlier, own, 0).sum(1, keepdim=True)
        return select_positions(scores, last) + earlier

    def joined(self, images: Tensor, places: Tensor) -> list[JoinedRows]:
        """Join the neighbouring words of each text about an image.

        A word's score is the sum of its tokens' scores. Tokens after a word don't change it, since
        the decoder of each token reads only the tokens before.
        """
        network = TextScores(self.module, self.output)
        positions = torch.arange(self.length, device=places.device)
        joined = []
        for same_image in rows_of_equal(images):
            for rows in _rows_of_texts(places, same_image):
                first = places[rows, FIRST, None]
                ends = first + places[rows, COUNT, None]
                text = places[rows][ends[:, 0].argmax(), TOKENS]
                joined.append(
                    JoinedRows(
                        network=network,
                        image=images[rows][:1],
                        inputs=text[None],
                        own=text.long(),
                        places=ends[:, 0].long() - 1,
                        earlier=(positions >= first) & (positions < ends - 1),
                    )
                )
        return joined

    @torch.no_grad()
    def ends(self, image: Tensor) -> Tensor:
        """Return the place of the first token of a text."""
        place = torch.full((1, 2 + self.length), float(self._network.end), device=image.device)
        place[0, FIRST] = 0
        place[0, COUNT] = 1
        return place

    @torch.no_grad()
    def found(self, images: Tensor, least: float, whole: bool = False) -> list[list[Found]]:
        """Return the words of each image's text in their order, with their probabilities.

        Words below the probability `least` are left out.
        """
        network = shared_copy(self)
        assert isinstance(network, WordScores)
        found: list[list[Found]] = []
        for row, image in enumerate(images.split(1)):
            # the rows of an image's words follow one another
            is_same = row > 0 and torch.equal(image[0], images[row - 1])
            found.append(found[-1] if is_same else network._words(image, least))
        return found

    def other(self, objects: Sequence[Found], place: Tensor) -> Found | None:
        """Return the first word of another spelling that isn't a function word, or, without one,
        the first function word of another spelling.
        """
        own = next((found.name for found in objects if torch.equal(found.place, place.cpu())), None)
        others = [found for found in objects if found.name != own]
        content = (found for found in others if not is_function_word(str(found.name)))
        return next(content, next(iter(others), None))

    def decoder_tokens(self, place: Tensor) -> DecoderTokens | None:
        """Return the token before the word's last one, and those of the image; None if the decoder
        reads no tokens of the image.
        """
        network = self._network
        if not network.image_tokens:
            return None
        last = place[:, FIRST] + place[:, COUNT] - 1
        without_last = network.start + place.shape[1] - TOKENS.start
        return DecoderTokens(
            queries=network.start + last.long(),
            image=torch.tensor(network.image_tokens, device=place.device),
            totals=(without_last, without_last + 1),
        )

    def text_of(self, found: Sequence[Found]) -> str:
        """Return the text up to the last of the words, "" if there is none."""
        if not found:
            return ""
        place = found[-1].place
        end = int(place[FIRST] + place[COUNT])
        tokens = place[TOKENS][:end].long().tolist()
        return self._network.decode(tokens).strip()

    @full_precision()
    def _words(self, image: Tensor, least: float) -> list[Found]:
        """Return the words of the text about one image, (1, C', H', W')."""
        tensor = next(iter(self.parameters()), image)
        image = image.to(tensor.device, tensor.dtype)
        tokens = self.text or self._network.answer(image, self.length)[0]
        padded = [*tokens, *[self._network.end] * (self.length - len(tokens))]
        logits = self._network(image, torch.tensor([padded], device=image.device))[0].double()
        logits = logits[: len(tokens)].cpu()
        own = logits[range(len(tokens)), tokens]
        ranks = 1 + (logits > own[:, None]).sum(1)
        log_probabilities = own - logits.logsumexp(1)
        best = logits.amax(1)
        if self.text is None and bool((best - own > TIE * best.abs().clamp(min=1)).any()):
            network = type(getattr(self.module, "module", self.module)).__name__
            raise BenchError(
                f"{network} generates other tokens than the most probable ones of a "
                "pass over its text, so no score says why it generates them; give a text: "
                "text='a cat on a mat' (model.kwargs.text)."
            )
        height, width = image.shape[2:]
        box = torch.tensor([0, 0, width, height], dtype=torch.float32)
        found: list[Found] = []
        for word in words_of(tokens, self._network):
            positions = slice(word.first, word.first + word.count)
            probability = float(log_probabilities[positions].sum().exp())
            if probability < least:
                continue
            rest = [self._network.end] * (self.length - positions.stop)
            place = [word.first, word.count, *tokens[: positions.stop], *rest]
            found.append(
                Found(
                    label=tokens[positions.stop - 1],
                    probability=probability,
                    box=box,
                    place=torch.tensor(place, dtype=torch.float32),
                    name=word.text,
                    rank=int(ranks[positions].max()),
                )
            )
        return found

    @property
    def default_layer(self) -> str:
        """The layer that is explained if none is chosen.

        It is the last block of the vision tower that the text is computed from.
        """
        layer: str = self._network.default_layer
        return f"module.{layer}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The text of each token of the vocabulary."""
        return self._network.vocabulary

    @property
    def _network(self) -> TextNetwork:
        """The network, whose methods `nn.Module` doesn't declare."""
        return cast(TextNetwork, self.module)

    def _checked_text(self, text: str) -> list[int]:
        """Return the tokens of a given text. Raise BenchError if it has no word or too many."""
        tokens = self._network.encode(text)
        if len(tokens) > self.length:
            raise BenchError(
                f"The text has {len(tokens)} tokens; set length={len(tokens)}, or give a shorter "
                "text."
            )
        if not words_of(tokens, self._network):
            raise BenchError(f"The text {text!r} has no word; give the text that is explained.")
        return tokens

    def extra_repr(self) -> str:
        """Return the settings for torch's description of the module."""
        return f"text={self.text}, output={self.output}, length={self.length}"


def _rows_of_texts(places: Tensor, rows: slice) -> Iterator[slice]:
    """Divide neighbouring rows into those of one text.

    A place has the text up to its word's end.
    """
    start = rows.start
    text: list[float] = []
    for row in range(rows.start, rows.stop):
        end = int(places[row, FIRST] + places[row, COUNT])
        own = places[row, TOKENS][:end].tolist()
        shared = min(len(own), len(text))
        if own[:shared] != text[:shared]:
            yield slice(start, row)
            start = row
            text = []
        text = max(text, own, key=len)
    yield slice(start, rows.stop)


class TextScores(nn.Module):
    """A vision-language network whose scores are those of each token of the vocabulary at each
    position of a text, (B, L * V).

    Its second input is the text's tokens, (B, L). One pass serves all words of the text.

    Args:
        module: A `TextNetwork`.
        output: See `WordScores`.
    """

    explained_dimensions = WordScores.explained_dimensions
    has_one_path = WordScores.has_one_path

    def __init__(self, module: nn.Module, output: str) -> None:
        super().__init__()
        self.module = module
        self.output = output

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Compute the scores of each position, given the tokens before it."""
        network = cast(TextNetwork, self.module)
        return token_scores(network, images, text.long(), self.output)[0].flatten(1)


def token_scores(
    network: TextNetwork, images: Tensor, text: Tensor, output: str
) -> tuple[Tensor, Tensor]:
    """Compute the scores of all tokens (B, L, V) at each position of texts (B, L), and those of the
    texts' own tokens (B, L).
    """
    scores = network(images, text)
    if output == "log_probabilities":
        scores = scores.log_softmax(2)
    # a cut asks for made-up places
    text = text.clamp(0, scores.shape[2] - 1)
    return scores, scores.gather(2, text[:, :, None])[:, :, 0]


def is_function_word(word: str) -> bool:
    """Return True for a word of English grammar, such as "the", which needs no image."""
    return word.lower() in FUNCTION_WORDS


def words_of(tokens: Sequence[int], network: TextNetwork) -> list[Word]:
    """Return the words of a text, without punctuation. A token that two words share counts for
    both.
    """
    text = network.decode(tokens)
    lengths = [len(network.decode(tokens[:count])) for count in range(len(tokens) + 1)]
    # Part of a character may be decoded to more characters than all of it.
    ends = [min(length, len(text)) for length in accumulate(lengths, max)]
    words: list[Word] = []
    for match in WORD.finditer(text):
        positions = [
            position
            for position in range(len(tokens))
            if ends[position] < match.end() and ends[position + 1] > match.start()
        ]
        words.append(Word(match[0], positions[0], len(positions)))
    return words
