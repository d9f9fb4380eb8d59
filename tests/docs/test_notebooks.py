"""The notebooks of docs/notebooks as they are stored; test_site.py runs them."""

from pathlib import Path

import nbformat
import pytest
from docs_hook import executed
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[2] / "docs/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs_and_with_assertions_at_the_end(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    assert "assert" in [cell for cell in cells if cell.cell_type == "code"][-1].source


@pytest.mark.slow
def test_a_failing_command_fails_the_notebook(tmp_path: Path):
    cell = nbformat.v4.new_code_cell("%%sh\naxiom-bench list metodz")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "wrong.ipynb")
    with pytest.raises(CellExecutionError):
        executed(tmp_path / "wrong.ipynb")
