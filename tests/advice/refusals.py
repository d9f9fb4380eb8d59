"""The refusals of the product whose advice is a setting, a command or a function, read from its
source.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("bench", "methods", "metrics")
ERRORS = (
    "BenchError",
    "OtherScores",
    "Interference",
    "OtherFormat",
    "Damaged",
    "NoMap",
    "InvalidParameter",
)

SETTING = (
    r"(?:\b(?:model|data|device|report|metrics|metric|method|runtime|pictures|executor|params)\.[\w{]"
    r"|[\w}\]]=(?!=))"
)
OPTION = r"(?<![\w-])--[a-z]"
COMMAND = r"\baxiom-bench (?!is|isn)[\w{-]|\bpip install\b"
FUNCTION = r"(?:[\w)]\(|\bab\.\w|\baxiom_bench\.\w)"
VERBS = (
    "set|give|add|choose|use|run|lower|raise|leave|pass|name|write|start|play|install|take|put|"
    "explain|save|change|load|build|verify|get|make|let|return|wrap|move|say|list|describe|quote|"
    "type|read|submit"
)
EFFECTS = "makes|computes|shows|draws|draw|puts|names|scales|says|gives"
TOKEN = f"(?:{SETTING}|{OPTION}|{COMMAND}|{FUNCTION})"
ADVICE = re.compile(
    # "set model.reshape=tokens"
    rf"(?<![\w'`] )(?<![\w.])(?:{VERBS}|{VERBS.title()})\b(?!['`]).*?{TOKEN}"
    # "..., or set ..."
    rf"|(?:or|and|to|in Python|on the command line) (?:{VERBS})\b(?!['`]).*?{TOKEN}"
    rf"|(?:{COMMAND}|{FUNCTION}).*?\b(?:{EFFECTS})\b"  # "axiom-bench list shows them"
    rf"|^(?:{OPTION}|axiom-bench [\w(]|ab\.\w|pip install)"  # ": axiom-bench explain photo.jpg"
)
CLAUSES = re.compile(r"; |\. |: |\||\n")


@dataclass(frozen=True)
class Refusal:
    """A place in the source that makes an error for a mistake of the user."""

    file: str  # relative to the checkout
    first_line: int
    last_line: int
    # of the message: constants as they are, variables with the texts that they may hold, {} for the
    # rest
    text: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.first_line}"

    @property
    def advice(self) -> str:
        """The first part of the message that advises a setting, a command or a function, or ""."""
        problem, *rest = CLAUSES.split(self.text)
        clauses = [problem.lstrip("-"), *rest]
        return next((clause for clause in clauses if ADVICE.search(clause)), "")


@cache
def refusals() -> tuple[Refusal, ...]:
    """Return every refusal of the product, in the order of the files."""
    paths = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    return tuple(refusal for path in paths for refusal in _refusals_of(path))


@cache
def advising() -> tuple[Refusal, ...]:
    """Return the refusals whose advice is a setting, a command or a function."""
    return tuple(refusal for refusal in refusals() if refusal.advice)


def refusal_with(words: str) -> Refusal:
    """Return the only refusal with these words in "FILE: TEXT", its file and its text."""
    found = [refusal for refusal in advising() if words in f"{refusal.file}: {refusal.text}"]
    assert len(found) == 1, (
        f"{words!r} is in the text of {len(found)} refusals: {[refusal.place for refusal in found]}"
    )
    return found[0]


def refusal_at(file: str, line: int) -> Refusal | None:
    """Return the refusal at a line of a file, the innermost if one is an argument of another."""
    found = [
        refusal
        for refusal in refusals()
        if refusal.file == file and refusal.first_line <= line <= refusal.last_line
    ]
    return min(found, key=lambda refusal: refusal.last_line - refusal.first_line, default=None)


def _refusals_of(path: Path) -> Iterator[Refusal]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    module = _Texts({function.name: function for function in functions}, _assigned(tree.body))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args or _last_name(node.func) not in ERRORS:
            continue
        around = [
            function
            for function in functions
            if function.lineno <= node.lineno <= (function.end_lineno or 0)
        ]
        texts = module
        for function in around:
            texts = texts.inside(function)
        text = texts.text(node.args[0])
        yield Refusal(
            str(path.relative_to(ROOT)), node.lineno, node.end_lineno or node.lineno, text
        )


class _Texts:
    """The texts that expressions of a function may have."""

    def __init__(
        self, functions: Mapping[str, ast.FunctionDef], values: Mapping[str, list[ast.expr]]
    ):
        self.functions = functions
        self.values = values

    def inside(self, function: ast.FunctionDef) -> _Texts:
        return _Texts(self.functions, {**self.values, **_assigned(ast.walk(function))})

    def text(self, node: ast.expr, depth: int = 0) -> str:
        """Return the text of an expression; several that it may have are joined with |, an unknown
        one is {}.
        """
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else ""
        if isinstance(node, ast.JoinedStr):
            return "".join(self.text(part, depth) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self.text(node.value, depth) or "{}"
        if isinstance(node, ast.BinOp):
            return self.text(node.left, depth) + self.text(node.right, depth)
        if isinstance(node, ast.IfExp):
            return self._one_of((node.body, node.orelse), depth)
        if isinstance(node, ast.BoolOp):
            return self._one_of(node.values, depth)
        if isinstance(node, ast.Name) and depth < 4:
            return self._one_of(self.values.get(node.id, ()), depth + 1) or f"{{{node.id}}}"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in self.functions
            and depth < 4
        ):
            function = self.functions[node.func.id]
            returned = [
                part.value
                for part in ast.walk(function)
                if isinstance(part, ast.Return) and part.value
            ]
            return self.inside(function)._one_of(returned, depth + 1)
        return "{}"

    def _one_of(self, nodes: Iterable[ast.expr], depth: int) -> str:
        return "|".join(
            dict.fromkeys(
                text for node in nodes if (text := self.text(node, depth)) and text != "{}"
            )
        )


def _assigned(nodes: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    """Return the expressions that are assigned to each name, those of `a, b = x, y` each to its
    own.
    """
    values: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.NamedExpr):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        else:
            continue
        for target, value in pairs:
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                parts = list(zip(target.elts, value.elts, strict=False))
            else:
                parts = [(target, value)]
            for name, part in parts:
                if isinstance(name, ast.Name):
                    values.setdefault(name.id, []).append(part)
    return values


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
