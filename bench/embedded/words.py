"""The texts of networks whose tokens are whole words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from axiom_bench.errors import unknown_name

PART = re.compile(r"\w+|[^\w\s]")  # a word or a punctuation mark


def encode_words(text: str, words: Sequence[str]) -> list[int]:
    """Return the positions, among `words`, of each word and punctuation mark of a text.

    Raises:
        BenchError: If a word isn't among them.
    """
    tokens = []
    for word in PART.findall(text):
        if word not in words:
            raise unknown_name("word", word, words, place="in this network")
        tokens.append(words.index(word))
    return tokens


def decode_words(tokens: Sequence[int], words: Sequence[str]) -> str:
    """Return the text of the words at these positions."""
    return " ".join(words[token] for token in tokens).replace(" ,", ",")
