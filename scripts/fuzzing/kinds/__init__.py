"""The kinds of damaged input, by name; one file each."""

from __future__ import annotations

from ..case import Kind
from . import baselines, settings

KINDS: dict[str, Kind] = {
    "baselines": baselines.KIND,
    "settings": settings.KIND,
}
