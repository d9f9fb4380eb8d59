r"""Any text as LaTeX: escaped, and typeset by pdfLaTeX without packages or font encodings of a document's own."""

from __future__ import annotations

import re

_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "[": "{[}",  # after a row's end, the bare sign opens an option
    "]": "{]}",
    "*": "{*}",  # there as well
    "\n": " ",
    "\N{EN DASH}": "--",
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{NO-BREAK SPACE}": "~",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{LEFTWARDS ARROW}": r"$\leftarrow$",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\le$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\ge$",
    "\N{INFINITY}": r"$\infty$",
    "\N{DAGGER}": r"\dag{}",
    **{chr(0x3B1 + i): f"$\\{name}$" for i, name in enumerate(("alpha", "beta", "gamma", "delta", "epsilon", "zeta"))},
}
# Of the Latin letters, those that LaTeX's own font encoding (OT1) doesn't have.
_NOT_IN_OT1 = "«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ"
_PUNCTUATION = "‐‑‒—‘’“”‡•…"  # noqa: RUF001 - dashes and quotation marks that LaTeX typesets
LONG_WORD = 24  # letters: a word that is longer may break anywhere


def escape(text: str) -> str:
    """Text with every character that LaTeX would take for its own; what pdfLaTeX can't typeset becomes U+ and its code.

    >>> escape("xgrad_cam, 5 %")
    'xgrad\\\\_cam, 5 \\\\%'
    """
    return "".join(map(_escaped, text))


def breakable(text: str) -> str:
    """As `escape`; words may break after an underscore, and long ones anywhere."""
    return " ".join(map(_breakable_word, text.split(" ")))


def number(text: str) -> str:
    r"""A number's text, escaped: a true minus, powers of ten, no break inside but before a bracket.

    >>> number("<1e-6 (-0.5)")
    '$<10^{-6}$ ($-$0.5)'
    """
    escaped = escape(text).replace("$<$1e-6", "$<10^{-6}$")
    escaped = re.sub(r"(\d)e(-?\d+)", r"\1$\\cdot10^{\2}$", escaped)
    escaped = re.sub(r"(^|[( ]|\{\[\})-(?=\d)", r"\1$-$", escaped)
    return re.sub(r" (?![(]|\{\[\})", "~", escaped)


def _breakable_word(word: str) -> str:
    if len(word) > LONG_WORD:
        return r"\allowbreak{}".join(map(_escaped, word))
    return re.sub(r"\\_(?=.)", r"\\_\\allowbreak{}", escape(word))


def _escaped(sign: str) -> str:
    if sign in _SPECIAL:
        return _SPECIAL[sign]
    is_plain = " " <= sign <= "~" or sign in _PUNCTUATION or ("\xa1" <= sign <= "\u017f" and sign not in _NOT_IN_OT1)
    return sign if is_plain else f"U+{ord(sign):04X}"
