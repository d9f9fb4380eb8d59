"""Small bugs at random places, and which tests see them: how much a suite catches, before and after it was changed.

    python scripts/random_bugs.py draw TABLE.csv --seed 26 --count 60
    python scripts/random_bugs.py probe TABLE.csv HITS      # then the suite: HITS/ gets who enters where
    python scripts/random_bugs.py unprobe TABLE.csv
    python scripts/random_bugs.py judge TABLE.csv HITS --column before [--markers 'not slow']
    python scripts/random_bugs.py carry TABLE.csv --commit 2b344ca --to NOW.csv   # the places of the code as it is now
    python scripts/random_bugs.py tell TABLE.csv   # of columns before, now and harmless (why a bug changes nothing)

All of them change the checkout that one stands in: use a copy. `judge` puts one bug in at a time, runs the tests that
enter its place (those whose fixtures did count with their file) up to the first failure, and writes it into the table.
`draw --rooms statistics data` draws as many in each of these, and `judge --rooms` runs the tests of a bug's own room.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

FOLDERS = ("bench", "methods", "metrics")
SWAPS: dict[type[ast.AST], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.In: "not in",
    ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is", ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*",
    ast.FloorDiv: "/", ast.Mod: "*", ast.Pow: "*", ast.And: "or", ast.Or: "and",
}  # fmt: skip
PROBE = "(__import__('probe_hits').hit({0}) or ({1}))"
PROBE_MODULE = """import os
seen = set()
def hit(number):
    test = os.environ.get("PYTEST_CURRENT_TEST", "-")
    if (number, test) not in seen:
        seen.add((number, test))
        with open(f"{os.environ['PROBE_HITS']}/{os.getpid()}.tsv", "a") as file:
            file.write(f"{number}\\t{test}\\n")
"""


class Bug(NamedTuple):
    """A change of one expression: `old` at a place of a file becomes `new`."""

    file: str
    function: str
    line: int
    column: int  # in bytes, as ast counts
    old: str
    new: str

    def put_in(self, text: str, new: str) -> str:
        """The file's text with `new` in the place of `old`. Raises ValueError where `old` doesn't stand there."""
        lines = text.encode().splitlines(keepends=True)
        start = sum(len(line) for line in lines[: self.line - 1]) + self.column
        data, old = text.encode(), self.old.encode()
        if data[start : start + len(old)] != old:
            raise ValueError(f"{self.file}:{self.line}: {self.old!r} doesn't stand there")
        return (data[:start] + new.encode() + data[start + len(old) :]).decode()


def changed(node: ast.AST, source: str) -> str | None:
    """The text of an expression with a small bug in it, or None where it has no place for one."""

    def text(part: ast.AST) -> str:
        return ast.get_source_segment(source, part) or ""

    match node:
        case ast.Compare(ops=[operator], comparators=[second]) if type(operator) in SWAPS:
            return f"{text(node.left)} {SWAPS[type(operator)]} {text(second)}"
        case ast.BinOp(op=operator) if type(operator) in SWAPS and "Constant(value='" not in ast.dump(node):
            return f"{text(node.left)} {SWAPS[type(operator)]} {text(node.right)}"
        case ast.BoolOp(op=operator):
            return f" {SWAPS[type(operator)]} ".join(map(text, node.values))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            return f"({text(operand)})"
        case ast.Constant(value=bool() as value):
            return str(not value)
        case ast.Constant(value=int() | float() as number):
            return str(number + 1)
        case ast.IfExp(test=test, body=body, orelse=other):
            return f"{text(other)} if {text(test)} else {text(body)}"
    return None


def places(path: Path) -> Iterator[Bug]:
    """Every bug that could be put into the functions of a file; annotations, f-strings and docstrings apart."""
    source = path.read_text()

    def visit(node: ast.AST, function: str) -> Iterator[Bug]:
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list") or isinstance(value, ast.JoinedStr):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr):
                    continue
                name = f"{function}.{child.name}".strip(".") if hasattr(child, "name") else function
                if function and isinstance(child, ast.expr):
                    new, old = changed(child, source), ast.get_source_segment(source, child)
                    if new is not None and old is not None and new != old:
                        yield Bug(str(path), function, child.lineno, child.col_offset, old, new)
                is_scope = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                yield from visit(child, name if is_scope else function)

    yield from visit(ast.parse(source), "")


def draw(folders: Sequence[str], count: int, seed: int) -> list[Bug]:
    """Bugs at random lines, each line that has a place for one as likely as another; at most one a line."""
    by_line: dict[tuple[str, int], list[Bug]] = {}
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.py")):
        for bug in places(path):
            by_line.setdefault((bug.file, bug.line), []).append(bug)
    chosen = random.Random(seed)
    return [chosen.choice(by_line[line]) for line in sorted(chosen.sample(sorted(by_line), count))]


def carried(bug: Bug, commit: str) -> Bug | None:
    """The same bug, drawn at a commit, where its line stands now: in a function of the same name, else anywhere. None
    where the line is gone, or stands at several places."""
    shown = subprocess.run(["git", "show", f"{commit}:{bug.file}"], capture_output=True, text=True, check=True)
    line = shown.stdout.splitlines()[bug.line - 1]
    column, found = bug.column - (len(line) - len(line.lstrip())), list[Bug]()
    for path in (path for folder in FOLDERS for path in Path(folder).rglob("*.py")):
        if line.strip() not in path.read_text():
            continue
        for now in places(path):
            text = path.read_text().splitlines()[now.line - 1]
            is_there = text.strip() == line.strip() and now.column == column + len(text) - len(text.lstrip())
            if is_there and (now.old, now.new) == (bug.old, bug.new):
                found.append(now)
    named = [now for now in found if now.function == bug.function] or found
    return named[0] if len(named) == 1 else None


def read(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def write(table: Path, rows: list[dict[str, str]]) -> None:
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def row_of(bug: Bug) -> dict[str, str]:
    return {key: str(value) for key, value in bug._asdict().items()}


def bug_of(row: dict[str, str]) -> Bug:
    return Bug(row["file"], row["function"], int(row["line"]), int(row["column"]), row["old"], row["new"])


def probe(rows: list[dict[str, str]], hits: Path) -> None:
    """Wrap each place, from the last to the first of a file, in a call that notes the test that enters it."""
    hits.mkdir(parents=True, exist_ok=True)
    (hits / "probe_hits.py").write_text(PROBE_MODULE)
    bugs = sorted(enumerate(map(bug_of, rows)), key=lambda pair: (pair[1].line, pair[1].column), reverse=True)
    for number, bug in bugs:
        text = Path(bug.file).read_text()
        if "numba" in text:  # compiled code can't note who enters it: its room's tests run instead
            (hits / f"compiled{number}.tsv").write_text(f"{number}\ttests/{bug.file.split('/')[0]}::all (setup)\n")
            continue
        Path(bug.file).write_text(bug.put_in(text, PROBE.format(number, bug.old)))


def tests_that_enter(hits: Path) -> dict[int, list[str]]:
    """{number of a bug: tests to run}: those that enter its place, those first that enter few others, then the files
    of those whose fixtures do."""
    entering: dict[int, dict[str, None]] = {}
    for path in sorted(hits.glob("*.tsv")):
        for line in path.read_text().splitlines():
            number, _, test = line.partition("\t")
            name, _, phase = test.rpartition(" ")
            if "::" not in name or not name.startswith("tests/"):  # of a suite that a test started
                continue
            tests = entering.setdefault(int(number), {})
            tests[name if phase == "(call)" else name.partition("::")[0]] = None
    places = Counter(test for tests in entering.values() for test in tests)
    return {bug: sorted(tests, key=lambda test: ("::" not in test, places[test])) for bug, tests in entering.items()}


def first_failure(tests: list[str], marker: str, seconds: float) -> str:
    """The first test that fails, "" where none does; tests that never end count as failures."""
    for start in range(0, len(tests), 400):
        some = tests[start : start + 400]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", marker, "-rfE", *some]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"no end in {seconds:.0f} s"
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
        if failed or done.returncode in (1, 2):
            return failed[1] if failed else "collection"
        if done.returncode not in (0, 5):  # 5: the marker leaves none of them
            raise RuntimeError(f"pytest ended with {done.returncode}: {done.stderr[-500:]}")
    return ""


def judge(table: Path, hits: Path, column: str, markers: Sequence[str], by_room: bool, seconds: float) -> None:
    """Fill a column of the table; rows that have a verdict are kept, so that a stopped command goes on."""
    rows, entering = read(table), tests_that_enter(hits)
    for number, row in enumerate(rows):
        if row.get(column):
            continue
        bug, tests = bug_of(row), entering.get(number, [])
        if by_room:  # all of its tests, where none enters: a default is computed when its module is imported
            room = Path(bug.file).parts[1]
            tests = [test for test in tests if Path(test).parts[1] == room] or [f"tests/{room}"]
        path = Path(bug.file)
        text = path.read_text()
        try:
            path.write_text(bug.put_in(text, bug.new))
            failures = (first_failure(tests, marker, seconds) for marker in markers)
            row[column] = next(filter(None, failures), f"not seen by {len(tests)}")
        finally:
            path.write_text(text)
        print(f"{number} {bug.file}:{bug.line} {bug.old!r} -> {bug.new!r}: {row[column]}", flush=True)
        write(table, [{column: "", **other} if column not in other else other for other in rows])


def told(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """How many of each room's bugs that change anything are seen, and what became of those that weren't before."""
    yield from ("| room | bugs | change nothing | seen before | seen now |", "|:---|---:|---:|---:|---:|")
    for room in (*dict.fromkeys(Path(row["file"]).parts[1] for row in rows), "all"):
        of_room = [row for row in rows if room in (Path(row["file"]).parts[1], "all")]
        counted = [row for row in of_room if not row["harmless"]]
        before, now = (sum(not row[name].startswith("not seen") for row in counted) for name in ("before", "now"))
        shares = f"{before} ({before / len(counted):.0%}) | {now} ({now / len(counted):.0%}) |"
        yield f"| {room} | {len(of_room)} | {len(of_room) - len(counted)} | {shares}"
    yield from ("", "| place | bug | now |", "|:---|:---|:---|")
    for row in rows:
        if row["harmless"] or row["before"].startswith("not seen"):
            verdict = f"nothing changes: {row['harmless']}" if row["harmless"] else row["now"]
            cells = (f"`{row['file']}`, `{row['function']}`", f"`{row['old']}`: `{row['new']}`", verdict)
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["draw", "carry", "probe", "unprobe", "judge", "tell"])
    parser.add_argument("table", type=Path)
    parser.add_argument("hits", type=Path, nargs="?", help="a folder, which becomes PROBE_HITS and goes on PYTHONPATH")
    parser.add_argument("--commit", default="2b344ca", help="at which the table was drawn")
    parser.add_argument("--to", type=Path, help="the table of the places of now")
    parser.add_argument("--seed", type=int, default=26)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--column", default="before")
    parser.add_argument("--markers", nargs="+", default=["not slow", "slow"], help="of tests, as pytest's -m, in order")
    parser.add_argument("--rooms", nargs="*", default=[], help="folders of bench/")
    parser.add_argument("--seconds", type=float, default=1200.0, help="of one bug's tests")
    options = parser.parse_args()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    rows = read(options.table) if options.step != "draw" else []
    if options.step == "draw":
        parts: list[tuple[str, ...]] = [(f"bench/{room}",) for room in options.rooms] or [FOLDERS]
        write(options.table, [row_of(bug) for part in parts for bug in draw(part, options.count, options.seed)])
    elif options.step == "carry":
        pairs = [(row, carried(bug_of(row), options.commit)) for row in rows]
        write(options.to, [row | row_of(now) for row, now in pairs if now])
        for row in (row for row, now in pairs if now is None):
            print(f"not carried: {row['file']}:{row['line']} {row['old']!r} -> {row['new']!r}")
    elif options.step == "probe":
        probe(rows, options.hits)
    elif options.step == "unprobe":
        subprocess.run(["git", "checkout", "-q", "--", *{row["file"] for row in rows}], check=True)
    elif options.step == "tell":
        print(*told(rows), sep="\n")
    else:
        judge(options.table, options.hits, options.column, options.markers, bool(options.rooms), options.seconds)


if __name__ == "__main__":
    main()
