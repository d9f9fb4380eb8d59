"""JSON files with a checksum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from axiom_bench.records import files, sealed

CONTENT = {"experiment": "quick", "n": 3, "values": [0.25, 1e-5, float("nan")], "ids": {"caf\udce9.jpg": None}}


def test_content_comes_back(tmp_path: Path):
    sealed.write_json(tmp_path / "a.json", CONTENT)
    assert repr(sealed.read_json(tmp_path / "a.json")) == repr(CONTENT)
    sealed.write_json(tmp_path / "a.json", json.loads((tmp_path / "a.json").read_text()))  # with the old checksum in it
    assert repr(sealed.read_json(tmp_path / "a.json")) == repr(CONTENT)
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    with pytest.raises(ValueError, match="its checksum doesn't match"):
        sealed.read_json(tmp_path / "b.json")


def test_no_flipped_bit_gives_another_content(tmp_path: Path):
    """Every bit of the file."""
    raw = sealed.to_json("a.json", CONTENT)
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="checksum"):
            sealed.from_json("a.json", bytes(flipped))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"a": ' * 100_000, b"\xff", b"{} {}"])
def test_what_is_no_mapping_is_refused(raw: bytes):
    with pytest.raises(ValueError, match=r"."):
        sealed.mapping(raw)


def test_damage_is_told_and_absence_is_not(tmp_path: Path):
    assert sealed.read_json_or_none(tmp_path / "none.json") is None
    (tmp_path / "old.json").write_text("{}")
    for path in (tmp_path, tmp_path / "old.json"):
        with pytest.warns(files.DamagedFile, match=path.name):
            assert sealed.read_json_or_none(path) is None
