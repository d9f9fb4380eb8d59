"""The bibliography, conf/references.bib: how a work is cited, and where it is read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError, unknown

ACCENTS = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303"}
LINKS = {"eprint": ("arXiv:", "https://arxiv.org/abs/"), "doi": ("doi:", "https://doi.org/"), "url": ("", "")}


@dataclass(frozen=True)
class Reference:
    """authors: family names of at most two, or the first with "et al.". label: "arXiv:2008.02312", "doi:..." or "".

    url: empty where the entry names none.
    """

    authors: str
    year: str
    title: str
    label: str = ""
    url: str = ""

    @property
    def cited(self) -> str:
        """ "Fu et al. 2020, arXiv:2008.02312"."""
        return ", ".join(filter(None, (f"{self.authors} {self.year}", self.label)))


def get(key: str) -> Reference:
    """The reference of a key. Raises BenchError, with the nearest keys, where there is none."""
    if key not in bibliography():
        raise unknown("entry in conf/references.bib", key, bibliography())
    return bibliography()[key]


@cache
def bibliography() -> Mapping[str, Reference]:
    """All references by key."""
    return parse((conf_folder() / "references.bib").read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Reference]:
    """The entries of a BibTeX text in which each field is one line, as `name = {text},`.

    Raises BenchError for a key that stands there twice.
    """
    references: dict[str, Reference] = {}
    for key, body in re.findall(r"^@\w+\{([^,\s]+),\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        if key in references:
            raise BenchError(f"conf/references.bib has two entries {key!r}; remove one.")
        found = re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", body, re.MULTILINE)
        references[key] = _reference({name.lower(): _plain(value) for name, value in found})
    return references


def _reference(entry: Mapping[str, str]) -> Reference:
    link = next((name for name in LINKS if name in entry), None)
    shown, start = LINKS[link] if link else ("", "")
    label = f"{shown}{entry[link]}" if link and shown else ""
    url = f"{start}{entry[link]}" if link else ""
    return Reference(_authors(entry.get("author", "")), entry.get("year", ""), entry.get("title", ""), label, url)


def _authors(names: str) -> str:
    family = [name.partition(",")[0] for name in re.split(r"\s+and\s+", names)]
    return " and ".join(family) if len(family) < 3 else f"{family[0]} et al."


def _plain(text: str) -> str:
    """TeX's accents as letters, without braces."""
    accented = re.sub(r"\\(['`\"^~])\{?(\w)\}?", lambda match: match[2] + ACCENTS[match[1]], text)
    return unicodedata.normalize("NFC", re.sub(r"[{}]", "", accented))
