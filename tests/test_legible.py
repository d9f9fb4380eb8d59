"""Habits that make code hard to read don't come back to the product.

They are several unrelated values in one assignment, literals that are splatted, arguments collected
in a tuple, and a text times a condition.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = [
    path
    for folder in ("bench", "methods", "metrics", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
# "file:habit": the reason why this file may have it
ALLOWED = {
    "bench/cutting/ablation/graph.py:collected arguments": "torch.fx gives a node's arguments so",
    "bench/cutting/capture.py:collected arguments": "the two values of an image and of a batch",
}

# Each habit, and code that has it.
EXAMPLES = {
    "unrelated values": "folder, statuses = run_folder(config), Counter()",
    "splatted literal": "draw(**{'colour': 'red'})",
    "splatted dictionary": "settings = {**{'size': 1}, 'seed': 0}",
    "collected arguments": "def f():\n    options = (1, 2)\n    return compute(*options)",
    "text times a condition": "title = 's' * (count > 1)",
}
# Code that resembles a habit, and is none.
ACCEPTED = [
    "a, b = b, a",
    "x0, y0 = 0, 0",
    "low, high = interval(values)",
    "first, second = first + 1, first",
    "settings = {**defaults, 'seed': 0}",
    "def f(*options):\n    return compute(*options)",
    "line = '-' * width",
]


def habits(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, habit) for each habit in a syntax tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and has_unrelated_values(node):
            yield node.lineno, "unrelated values"
        if isinstance(node, ast.Dict):
            entries = zip(node.keys, node.values, strict=True)
            if any(key is None and isinstance(value, ast.Dict) for key, value in entries):
                yield node.lineno, "splatted dictionary"
        if isinstance(node, ast.Call):
            splatted = [keyword.value for keyword in node.keywords if keyword.arg is None]
            if any(isinstance(value, ast.Dict) for value in splatted):
                yield node.lineno, "splatted literal"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            sides = (node.left, node.right)
            has_condition = any(isinstance(side, ast.Compare | ast.BoolOp) for side in sides)
            has_text = any(isinstance(side, ast.Constant | ast.JoinedStr) for side in sides)
            if has_condition and has_text:
                yield node.lineno, "text times a condition"
        if isinstance(node, ast.FunctionDef):
            yield from collected_arguments(node)


def has_unrelated_values(node: ast.Assign) -> bool:
    """Return True for `a, b = f(), g()`, but not for a swap, an unpacking or literals of one
    type.
    """
    targets_are_tuples = all(isinstance(target, ast.Tuple) for target in node.targets)
    if not isinstance(node.value, ast.Tuple) or not targets_are_tuples:
        return False
    if assigned_names(node.targets) & assigned_names(node.value.elts):
        return False
    kinds = {
        type(value.value) if isinstance(value, ast.Constant) else None for value in node.value.elts
    }
    return len(kinds) > 1 or None in kinds


def assigned_names(nodes: list[ast.expr]) -> set[str]:
    return {child.id for node in nodes for child in ast.walk(node) if isinstance(child, ast.Name)}


def collected_arguments(function: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    """Yield the calls that splat a tuple that the same function makes."""
    tuples = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            tuples |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        splatted = [argument.value for argument in node.args if isinstance(argument, ast.Starred)]
        if any(isinstance(value, ast.Name) and value.id in tuples for value in splatted):
            yield node.lineno, "collected arguments"


@pytest.mark.parametrize("habit", EXAMPLES)
def test_each_habit_is_found(habit):
    assert [found for _, found in habits(ast.parse(EXAMPLES[habit]))] == [habit]


@pytest.mark.parametrize("code", ACCEPTED)
def test_what_only_resembles_a_habit_is_accepted(code):
    assert not list(habits(ast.parse(code)))


def test_no_module_has_a_habit():
    places = []
    found = set()
    for path in MODULES:
        name = path.relative_to(ROOT).as_posix()
        for line, habit in habits(ast.parse(path.read_text(encoding="utf-8"))):
            found.add(f"{name}:{habit}")
            if f"{name}:{habit}" not in ALLOWED:
                places.append(f"{name}:{line}: {habit}")
    assert not places, "\n".join(places)
    assert set(ALLOWED) <= found, "an exception that nothing needs"
