"""Functions and classes of a user's own that settings name: module:function, or
path/to/file.py:function.
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
from axiom_bench.errors import BenchError, unknown

FROM_FILE = "axiom_bench_user_"  # how modules are named that are imported from a file
EXPECTED = (
    "give module:function or path/to/file.py:function, where function(**kwargs) returns an "
    "nn.Module"
)


class _TextLoader(SourceFileLoader):
    """Compiles a module's text, which is in the key: bytecode is that of any text of the same
    length and second.
    """

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Raises OSError: so no bytecode is read or written."""
        raise OSError(f"the bytecode of {path} isn't used")


def import_function(
    path: str, setting: str = "model.architecture", expected: str = EXPECTED
) -> Callable[..., Any]:
    """The function (or class) that builds what a setting names. Raises BenchError where there is
    none at that path.
    """
    where, colon, name = path.rpartition(":")
    if not colon and not path.endswith(".py"):
        where, _, name = path.rpartition(".")
    if not where or not name:
        raise BenchError(f"{setting}={path!r} names no function; {expected}.")
    import axiom_bench.data.torchvision_import  # noqa: F401 - here: it takes seconds, and a user's module may need it

    try:
        module = (
            _from_file(Path(where).expanduser())
            if where.endswith(".py")
            else importlib.import_module(where)
        )
    except (
        Exception,
        SystemExit,
    ) as error:  # importing runs the user's code, which may raise anything
        what = f"{setting}={path!r} can't be imported ({type(error).__name__}: {error})"
        package = (
            os.path.relpath(Path(where).expanduser().with_suffix(""))
            .strip("./")
            .replace(os.sep, ".")
        )
        of_package = (
            f"import it as a part of its package, {setting}={package}:{name}, from the folder "
            "above that"
        )
        advice = of_package if "relative import" in str(error) else expected
        raise BenchError(f"{what}; {advice}.") from error
    function = getattr(module, name, None)
    if not callable(function) and not isinstance(function, Output):
        raise unknown(
            f"function in {where}", name, [key for key in vars(module) if not key.startswith("_")]
        )
    return function


def called(build: Callable[[], Any], setting: str) -> Any:
    """What a user's class or function makes without arguments. Raises BenchError where it raises
    anything.
    """
    try:
        return build()
    except (Exception, SystemExit) as error:
        raise BenchError(
            f"{setting} can't be made without arguments ({type(error).__name__}: {error})."
        ) from error


def _from_file(path: Path) -> ModuleType:
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[
        :8
    ]  # two files may have the same stem
    name = f"{FROM_FILE}{path.stem}_{place}"
    loader = _TextLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise ImportError(f"{path} isn't a Python file")
    module = importlib.util.module_from_spec(spec)
    if (folder := str(path.parent.resolve())) not in sys.path:
        sys.path.append(
            folder
        )  # as `python net.py` has it, but last: it hides no installed package
    sys.modules[module.__name__] = module  # dataclasses look their own module up there
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[module.__name__]  # as `import` does
        raise
    return module
