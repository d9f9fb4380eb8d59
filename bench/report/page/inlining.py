"""Styles, scripts and data inside the page: what they must not contain, and the policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

STATIC = Path(__file__).parent / "static"
# What would end a script element, or change how its text is read, and line ends of JavaScript that JSON allows.
_IN_JSON = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


@cache
def style(name: str) -> Markup:
    """A stylesheet of static/."""
    return Markup((STATIC / name).read_text(encoding="utf-8"))


@cache
def script(name: str) -> Markup:
    """A script of static/; "<script", "</script" and "<!--" in its strings are written with an escape."""
    text = (STATIC / name).read_text(encoding="utf-8")
    return Markup(re.sub(r"<(?=/?script|!--)", r"\\x3c", text, flags=re.IGNORECASE))


def as_json(data: Any) -> Markup:
    """JSON for a script element, which no text in the data can end. Raises ValueError for NaN and infinity, which
    JSON doesn't have.

    >>> str(as_json({"name": "</script>"}))
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    return Markup(json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_IN_JSON))


def policy(scripts: Iterable[str]) -> str:
    """The page's Content-Security-Policy: nothing is loaded but pictures that lie beside the page or in it, and no
    script runs but these texts. No expression is evaluated either: Vega needs its interpreter (`ast: true`)."""
    hashes = (f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts)
    parts = {
        "default-src": "'none'",
        "script-src": " ".join(hashes),
        "style-src": "'unsafe-inline'",
        "img-src": "'self' file: data: blob:",
        "font-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())
