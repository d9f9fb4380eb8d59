"""Checks of the code for problems on other systems.

These are text in the system's encoding, calls that only some systems have, and file names that some
file systems can't hold. The tests read the code, since they can't run on those systems.
"""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for folder in ("bench", "methods", "metrics", "scripts")
    for path in (ROOT / folder).rglob("*.py")
]
TEXT = re.compile(
    r"(?<!\bentry)\.(read|write)_text$|(?<!\bImage)(?<!\bos)(?<!\btarfile)(^|\.)open$"
)
READING = ("read_text", "write_text", "open")  # the names that TEXT ends with
BINARY = re.compile(r"""'[rwxa]\+?b\+?'""")
OF_SOME_SYSTEMS = (
    r"sched_getaffinity|/proc/|os\.fork|symlink_to|mkfifo|SIGHUP|SIGKILL|forkserver|^import "
    "resource$|CDLL"
)
ALLOWED = {  # the reason why a file's calls are right on every system
    "bench/environment.py": "the number of cores if the system doesn't list a process's; glibc",
    "bench/records/files.py": "suppressed if there is no /proc",
    "bench/cli/stopping.py": "the signals that the system has",
    "bench/data/loading.py": "a word of a sentence",
    "scripts/gpu.py": "for machines with NVIDIA's GPUs",
    "scripts/measure_speakers.py": "the numbers of docs/words.md were measured on Linux",
}


def last_name(function: ast.expr) -> str:
    """Return the part after the last dot of a called function's name."""
    return str(getattr(function, "attr", getattr(function, "id", "")))


def without_encoding(path: Path) -> list[str]:
    """The calls that read or write text in the system's encoding."""
    calls = (
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and last_name(node.func) in READING
    )
    texts = [ast.unparse(call) for call in calls if TEXT.search(ast.unparse(call.func))]
    return [text for text in texts if "encoding=" not in text and not BINARY.search(text)]


def test_text_is_utf_8():
    assert not [
        text for path in [*SOURCES, ROOT / "hatch_build.py"] for text in without_encoding(path)
    ]


def test_calls_of_some_systems_have_an_alternative():
    files = set()
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if re.search(OF_SOME_SYSTEMS, text, re.MULTILINE):
            files.add(path.relative_to(ROOT).as_posix())
    assert files == ALLOWED.keys()


def test_file_names_suit_every_file_system():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False
    ).stdout
    if not listed:
        pytest.skip("no git checkout")
    paths = listed.decode().rstrip("\0").split("\0")
    assert not [
        path for path in paths if re.search(r'[:*?|<>"\\]|[. ](/|$)', path) or len(path) > 150
    ]
    assert not [
        path
        for path in paths
        if re.search(r"(^|/)(con|prn|aux|nul)(\.[^/]*)?(/|$)", path, re.IGNORECASE)
    ]
    assert max(Counter(path.casefold() for path in paths).values()) == 1


def test_zsh_takes_the_examples():
    """zsh reads brackets, braces and wildcards outside of quotes as names of files, and stops where
    none matches.
    """
    pages = [ROOT / "README.md", ROOT / "bench/cli/main.py", *(ROOT / "docs").glob("*.md")]
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    commands = [line for line in lines if re.match(r" *(\$ )?axiom-bench [^-]", line)]
    outside = [
        re.sub(r"""\s#.*|\s{2,}[A-Za-z].*|"[^"]*"|'[^']*'""", "", line.strip()) for line in commands
    ]
    assert not [line for line in outside if re.search(r"[][{}()*?]", line)]
