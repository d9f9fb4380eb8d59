"""What foreign code reads: files that it opens, modules that it imports by name and environment variables that it looks
up, by the module whose code does it. An audit hook (PEP 578) hears of it; Python keeps a hook for good, so it is
installed once and does nothing outside a `recording`. Readers in C and Rust, which no hook hears, announce what they
open. Foreign modules are compiled from the text that is hashed, never taken from bytecode of another one."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import resolve_name, source_from_cache
from pathlib import Path
from threading import local
from types import FrameType, ModuleType
from typing import Any

from axiom_bench.errors import BenchError

ABSENT = "absent"  # in the place of a hash
WRITING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
UNKNOWN = {  # by an audit event, what no key can have
    **dict.fromkeys(("socket.connect", "urllib.Request"), "asks the network"),
    **dict.fromkeys(("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"), "runs another program"),
    "sqlite3.connect": "asks a database",
}
VARIABLE = f"{__name__}.variable"
EVENTS = frozenset({"open", "import", "ctypes.dlopen", VARIABLE, *UNKNOWN})
READERS = (  # that open files without an audit event, or import without one, and their modules
    *(("importlib", "import_module"), ("torch.jit", "load"), ("torchvision.io", "read_file")),
    *(("torchvision.io.image", "read_file"), ("pyarrow", "memory_map"), ("pyarrow", "OSFile")),
    *(("pyarrow.parquet", "read_table"), ("pyarrow.parquet", "ParquetFile.__init__"), ("pyarrow.csv", "read_csv")),
    *((module, "safe_open") for module in ("safetensors", "safetensors.torch", "safetensors.numpy")),
)
# Calls from these are those of their callers:
PASSED = ("os", "collections.abc", "_collections_abc", "importlib", "importlib._bootstrap", "_frozen_importlib")
ELSEWHERE = (  # folders of files that count by version, or not at all: of the system, libraries, this package, caches
    *("/proc/", "/sys/", "/dev/", "/etc/", "/lib/", "/run/", "/usr/lib/", "/usr/share/"),
    *(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib")),
    *(f"{folder}{os.sep}" for folder in (Path(__file__).parent, Path(__file__).resolve().parent)),
    *(f"{os.environ[name]}{os.sep}" for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME") if name in os.environ),
)
_Plain = type(os.environ)
Stamp = tuple[int, int]  # of a file: its size, and its time of modification in ns


@dataclass
class Reads:
    """Of one module. files: {path: the file's stamp when it was opened, None where there was none}. modules: imported
    by their names. variables: of the environment, {name: value}. unknown: of UNKNOWN."""

    files: dict[str, Stamp | None] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    variables: dict[str, str | None] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)


_reads: dict[str, Reads] = {}
_written: set[str] = set()  # by foreign code: no input of it
_outer: list[tuple[FrameType, Callable[[str], bool]]] = []  # of each `recording`, the last one counts
_busy = local()


@contextmanager
def recording(is_foreign: Callable[[str], bool]) -> Iterator[None]:
    """What foreign code reads inside is recorded. is_foreign: of a module's or top-level package's name."""
    _install()
    _outer.append((sys._getframe(2), is_foreign))
    try:
        yield
    finally:
        _outer.pop()


def of(module: str) -> Reads:
    """What the code of a module has read in this process; a helper's reads are its callers' too."""
    return _reads.get(module) or Reads()


def plain() -> tuple[dict[str, list[Any]], list[str]]:
    """All that was read in this process, as plain data for `add` of another."""
    listed = {name: [each.files, [*each.modules], each.variables, [*each.unknown]] for name, each in _reads.items()}
    return listed, [*_written]


def add(read: tuple[Mapping[str, Sequence[Any]], Sequence[str]]) -> None:
    """What another process has read for this one."""
    for module, (files, modules, variables, unknown) in read[0].items():
        _reads[module] = Reads(files, {*modules}, variables, {*unknown})
    _written.update(read[1])


def opened() -> dict[tuple[str, str], object]:
    """{(module, file or $variable): its stamp or value} of all modules."""
    entries: dict[tuple[str, str], object] = {}
    for module, reads in list(_reads.items()):
        entries |= {(module, path): stamp for path, stamp in list(reads.files.items()) if path not in _written}
        entries |= {(module, f"${name}"): value for name, value in list(reads.variables.items())}
    return entries


def opened_since(known: Mapping[tuple[str, str], object]) -> dict[str, str]:
    """{file or $variable: hash} of what was read after `opened` gave `known`. Raises BenchError for a file that was
    changed meanwhile and read again: values before and after it have one key."""
    new: dict[str, str] = {}
    for entry, value in opened().items():
        module, name = entry
        if entry not in known:
            new[name] = current(name) if name.startswith("$") else content(name, of(module).files[name]) or ABSENT
        elif value != known[entry]:
            raise _changed(name)
    return new


def content(path: str, stamp: Stamp | None) -> str | None:
    """SHA-256 of a file that was opened, ABSENT where there was none; None for one that is no input: foreign code wrote
    it itself, or it is gone since, as temporary files are. Raises BenchError where it was changed since then."""
    now = _stamp(path)
    if path in _written or (now is None and stamp is not None):
        return None
    digest = _digest(path, now)
    if not now == stamp == _stamp(path):
        raise _changed(path)
    return digest


def current(name: str) -> str:
    """SHA-256 of a file's content, or of the value of a $variable, now; ABSENT where none can be read."""
    return of_value(_value(name[1:])) if name.startswith("$") else _digest(name, _stamp(name))


def of_value(value: str | None) -> str:
    """SHA-256 of a variable's value, ABSENT where it is unset."""
    return ABSENT if value is None else hashlib.sha256(os.fsencode(value)).hexdigest()


@lru_cache(maxsize=4096)
def _digest(path: str, stamp: Stamp | None) -> str:
    """stamp: of the file as it is now, so that it isn't read twice."""
    if stamp is None:
        return ABSENT
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # as for foreign code
        return ABSENT


def _changed(name: str) -> BenchError:
    return BenchError(
        f"{name}, which a plug-in or a model of yours reads, was changed while the run went on; run the same command "
        "again, and change it before or after a run."
    )


def _stamp(path: str) -> Stamp | None:
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return None
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else None  # a pipe would be waited for


class TextLoader(SourceFileLoader):
    """Compiles a module's text, which it keeps: Python's bytecode is that of any text of the same length and second."""

    text: bytes | None = None

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Raises OSError: so no bytecode is read or written."""
        raise OSError(f"the bytecode of {path} isn't used")

    def get_data(self, path: str) -> bytes:
        """A file's bytes."""
        content = super().get_data(path)
        if path == self.path:  # a package's other files are read by this too
            self.text = content
        return content

    def exec_module(self, module: ModuleType) -> None:
        """With readers that announce what they open."""
        if _outer:
            _announce_readers()
        super().exec_module(module)


class _Finder:
    """Gives foreign modules a TextLoader."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not _outer or _is_busy():  # to tell what is foreign, packages may be looked up
            return None
        with _unheard():
            spec = PathFinder.find_spec(name, path, target)
            if spec is None or type(spec.loader) is not SourceFileLoader or not _is_input(str(spec.origin)):
                return None
        spec.loader = TextLoader(name, str(spec.origin))
        return spec


class _Environ(_Plain):  # type: ignore[misc, valid-type]
    def __getitem__(self, name: str) -> str:
        sys.audit(VARIABLE, name)
        value: str = super().__getitem__(name)
        return value


def _value(variable: str) -> str | None:
    try:
        return str(_Plain.__getitem__(os.environ, variable))
    except KeyError:
        return None


def _install() -> None:
    if not isinstance(os.environ, _Environ):
        os.environ.__class__ = _Environ  # in place: `from os import environ` has the same object
        sys.meta_path.insert(sys.meta_path.index(PathFinder), _Finder)
        sys.addaudithook(_hear)


def _announce_readers() -> None:
    for name, attribute in READERS:
        owner: Any = sys.modules.get(name)
        for part in attribute.split(".")[:-1]:
            owner = getattr(owner, part, None)
        last = attribute.split(".")[-1]
        call = getattr(owner, last, None)
        if call is not None and not hasattr(call, "_announced"):
            setattr(owner, last, _announced(call))


def _announced(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call, updated=())
    def announced(*args: Any, **kwargs: Any) -> Any:
        named = next((value for value in (*args[:2], *kwargs.values()) if isinstance(value, str | os.PathLike)), None)
        if named is not None and call.__name__ == "import_module":
            package = kwargs.get("package") or next(iter(args[1:]), None)
            sys.audit("import", resolve_name(str(named), package) if package else named)
        elif named is not None:
            sys.audit("open", named, "rb", os.O_RDONLY)
        return call(*args, **kwargs)

    announced._announced = True  # type: ignore[attr-defined]
    return announced


def _is_busy() -> bool:
    return getattr(_busy, "is_busy", False)


@contextmanager
def _unheard() -> Iterator[None]:
    """What this thread does inside isn't heard."""
    _busy.is_busy = True
    try:
        yield
    finally:
        _busy.is_busy = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook."""
    if _outer and event in EVENTS and not _is_busy():
        with _unheard():
            for module in _foreign(sys._getframe(1), event in ("import", VARIABLE)):
                _note(_reads.setdefault(module, Reads()), event, arguments)


def _foreign(frame: FrameType | None, direct: bool) -> list[str]:
    """The foreign modules whose code runs, the innermost first; none where a library's own import is what reads.
    direct: none but where a foreign module itself does it."""
    ends = {id(outer) for outer, _ in _outer}
    modules: list[str] = []
    while frame is not None and id(frame) not in ends:
        name = str(frame.f_globals.get("__name__"))
        top = name.partition(".")[0]
        if _outer[-1][1](top):
            modules.append(name)
        elif not modules and (frame.f_code.co_name == "<module>" or (direct and name not in (*PASSED, __name__))):
            return []
        frame = frame.f_back
    return modules


def _note(reads: Reads, event: str, arguments: tuple[Any, ...]) -> None:
    name = arguments[0] if arguments else None
    if event in UNKNOWN:
        reads.unknown.add(UNKNOWN[event])
    elif event == "import":
        reads.modules.add(str(name))
    elif event == VARIABLE:
        reads.variables.setdefault(str(name), _value(str(name)))
    elif isinstance(name, str | bytes | os.PathLike):
        path = _source(os.path.abspath(os.fsdecode(name)))
        if event == "open" and (arguments[2] or 0) & WRITING:
            _written.add(path)
        elif _is_input(path) and (os.path.isfile(path) or not os.path.exists(path)):
            reads.files[path] = _stamp(path)


def _source(path: str) -> str:
    """Of a module's bytecode its source; any other path as it is."""
    if path.endswith(".pyc"):
        with suppress(ValueError):  # another program's: pytest's names differ
            return source_from_cache(path)
    return path


def _is_input(path: str) -> bool:
    """Whether a file may decide what foreign code computes, and no version and no other hash stands for it."""
    folders = path.split(os.sep)
    packages = [place for place, folder in enumerate(folders[:-1]) if folder in ("site-packages", "dist-packages")]
    if packages:
        top = folders[packages[-1] + 1]
        return not top.endswith(("-info", ".pth")) and _outer[-1][1](top.partition(".")[0])
    home = os.path.expanduser("~").rstrip(os.sep) + os.sep
    is_hidden = path.startswith(home) and path[len(home) :].startswith(".")
    is_made = "__pycache__" in folders or any(folder.startswith("torchinductor_") for folder in folders)
    return not is_hidden and not is_made and not path.startswith(ELSEWHERE)
