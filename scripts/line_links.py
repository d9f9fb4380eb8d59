"""Links from a page of docs/ to the line where a function or class is defined.

Such a link names the definition in code and ends with its line, as in
[`run`](../bench/run/spine.py#L61).
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from axiom_bench.errors import BenchError

LINE_LINK = re.compile(r"(\[`([\w.]+)`\]\((\.\./[\w./]+\.py)#L)\d+\)")

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def with_lines(page: Path, text: str) -> str:
    """Return the text of a page with the line of its definition at the end of every link.

    Raises:
        BenchError: If a file that the page links doesn't define the name.
    """

    def link(match: re.Match[str]) -> str:
        start, name, target = match.groups()
        line = defined_lines(page.parent / target).get(name)
        if line is None:
            raise BenchError(
                f"{page.name} links {name} in {target}, which doesn't define it; write the name "
                "and the file of its definition."
            )
        return f"{start}{line})"

    return LINE_LINK.sub(link, text)


@cache
def defined_lines(path: Path) -> dict[str, int]:
    """Return {name: line} of a file's functions and classes, and of a class's methods as
    Class.method.
    """
    lines: dict[str, int] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, Definition):
            continue
        lines[node.name] = node.lineno
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, Definition):
                    lines[f"{node.name}.{member.name}"] = member.lineno
    return lines
