"""Import the user's functions and classes that settings name, as module:function or
path/to/file.py:function.

`model.architecture`, `model.output`, `model.read` and `model.reshape` may name such code.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from axiom_bench.cutting.output import Output
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.kinds import home_expanded

FROM_FILE = "axiom_bench_user_"  # the prefix of the names of modules that are imported from a file
EXPECTED = (
    "give module:function or path/to/file.py:function, where function(**kwargs) returns an "
    "nn.Module"
)


class _TextLoader(SourceFileLoader):
    """A loader that always compiles a module's text.

    The text is in the key. A file of bytecode may be that of another text, of the same length and
    second.
    """

    def path_stats(self, path: str) -> Mapping[str, object]:
        """Raise an OSError, so that no bytecode is read or written."""
        raise OSError(f"the bytecode of {path} isn't used")


def import_function(
    path: str, setting: str = "model.architecture", expected: str = EXPECTED
) -> Callable[..., Any]:
    """Import the function (or class) that a setting names.

    Args:
        path: `module:function` or `path/to/file.py:function`.
        setting: The setting, for messages.
        expected: The sentence that says what to give instead, for messages.

    Raises:
        BenchError: if there is no function at that path, or its module can't be imported.
    """
    module_path, colon, name = path.rpartition(":")
    if not colon and not path.endswith(".py"):
        module_path, _, name = path.rpartition(".")
    if not module_path or not name:
        raise BenchError(f"{setting}={path!r} names no function; {expected}.")
    # A user's module may need torchvision, which takes seconds, so it isn't imported at the top.
    import axiom_bench.data.torchvision_import  # noqa: F401

    file = home_expanded(module_path)
    is_file = module_path.endswith(".py")
    try:
        module = _import_file(file) if is_file else importlib.import_module(module_path)
    # Importing runs the user's code, which may raise anything.
    except (Exception, SystemExit) as error:
        advice = expected
        if "relative import" in str(error):
            relative = os.path.relpath(file.with_suffix(""))
            package = relative.strip("./").replace(os.sep, ".")
            advice = (
                f"import it as a part of its package, {setting}={package}:{name}, from the folder "
                "above that"
            )
        raise BenchError(
            f"{setting}={path!r} can't be imported ({type(error).__name__}: {error}); {advice}."
        ) from error
    function: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(function) and not isinstance(function, Output):
        public_names = [key for key in vars(module) if not key.startswith("_")]
        raise unknown_name("function", name, public_names, place=f"in {module_path}")
    return function


def call_without_arguments(build: Callable[[], Any], setting: str) -> Any:
    """Call a user's class or function without arguments, and return the result.

    A setting can name a class, but has no place for its arguments.

    Raises:
        BenchError: if the call raises anything.
    """
    try:
        return build()
    except (Exception, SystemExit) as error:
        raise BenchError(
            f"{setting} can't be made without arguments ({type(error).__name__}: {error})."
        ) from error


def _import_file(path: Path) -> ModuleType:
    """Import a file as a module of its own name."""
    # Two files may have the same stem, so a checksum of the path is part of the name.
    checksum = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"{FROM_FILE}{path.stem}_{checksum}"
    loader = _TextLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise ImportError(f"{path} isn't a Python file")
    module = importlib.util.module_from_spec(spec)
    # `python net.py` puts the file's folder on the path, too. Here it comes last, so that it hides
    # no installed package.
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules[module.__name__] = module  # dataclasses look their own module up there
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[module.__name__]  # as `import` does
        raise
    return module
