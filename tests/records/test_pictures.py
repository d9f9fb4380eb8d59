"""The arrays of picture figures: an archive that would fill the memory is refused before it is unpacked."""

from __future__ import annotations

import io
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from axiom_bench.records import sealed, store


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_arrays(tmp_path / "a.npz", {"a": np.zeros(200_000)})
    assert (tmp_path / "a.npz").stat().st_size < 10_000
    assert len(store.read_arrays(tmp_path / "a.npz")["a"]) == 200_000
    monkeypatch.setattr(store, "MAX_UNPACKED", 2**20)
    with pytest.raises(sealed.Damaged, match=r"it would unpack to 1,600,128 bytes"):
        store.read_arrays(tmp_path / "a.npz")


def test_an_array_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**17,)})
    with ZipFile(tmp_path / "a.npz", "w", ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(80))
        archive.comment = store.EMPTY_SEAL
    sealed.write(tmp_path / "a.npz", (tmp_path / "a.npz").read_bytes())
    with pytest.raises(sealed.Damaged, match="can't be read"):
        store.read_arrays(tmp_path / "a.npz")
