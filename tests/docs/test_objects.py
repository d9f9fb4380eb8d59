"""The examples of docs/objects.md run."""

import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).resolve().parents[2] / "docs/objects.md").read_text(encoding="utf-8")


def test_examples_run() -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert examples
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, "docs/objects.md", "exec"), names)
    assert len(names["heatmaps"]) == 2
