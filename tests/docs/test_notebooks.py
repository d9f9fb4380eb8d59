"""The notebooks of docs/notebooks run from top to bottom without a network."""

from pathlib import Path

import nbformat
import pytest
from docs_hook import executed
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[2] / "docs/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_stored_without_outputs():
    cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    assert cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each ends with assertions of its own, and writes nothing beside itself."""
    for name in ("http_proxy", "https_proxy"):  # a download fails
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    before = sorted(FOLDER.iterdir())
    code = [cell for cell in executed(path).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert "assert" in code[-1].source
    assert {"image/png", "text/html"} & {kind for cell in code for out in cell.outputs for kind in out.get("data", {})}
    assert sorted(FOLDER.iterdir()) == before


@pytest.mark.slow
def test_a_failing_command_fails_the_notebook(tmp_path: Path):
    cell = nbformat.v4.new_code_cell("%%sh\naxiom-bench list nothing")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "wrong.ipynb")
    with pytest.raises(CellExecutionError):
        executed(tmp_path / "wrong.ipynb")
