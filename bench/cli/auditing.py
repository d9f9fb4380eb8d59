"""`axiom-bench audit`: which formula a CAM implementation computes, and what it does to the model.

The implementation is a function, a class, a method's name, or a folder of maps that a tool in any
language made.
"""

from __future__ import annotations

import ast
import csv
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from axiom_bench.cli.model_options import CODE, model_overrides
from axiom_bench.cli.terminal import say
from axiom_bench.errors import BenchError
from axiom_bench.records import files

if TYPE_CHECKING:
    from axiom_bench.auditing.audit import Audit
    from axiom_bench.auditing.case import Case
    from axiom_bench.auditing.kit import StoredMaps
    from axiom_bench.models.load import LoadedModel

MOST_OWN_IMAGES = 16  # every formula runs on all of them
HEADER = ["image", "class"]  # an optional first line of --targets
OWN_CASE = "your model"


def run(options: Namespace) -> int:
    """Audit an implementation or a folder of maps, or export the kit.

    Args:
        options: The options of the command line.

    Returns:
        The exit code: 0 as expected, 1 not as expected, 2 if the maps can't tell.

    Raises:
        BenchError: For a mistake in the arguments.
    """
    from axiom_bench.run.progress import progress  # here: --help doesn't need it

    files.check_output(options.output, options.markdown, options.json, options.badge)
    if options.export is not None:
        if options.function is not None:
            raise BenchError("--export writes a kit and audits nothing; leave out the function.")
        with progress("Loading PyTorch and writing the kit"):
            from axiom_bench.auditing.kit import export_kit

            lines = export_kit(options.export)
        say(lines)
        return 0
    if options.function is None:
        raise BenchError(
            "Give what to audit: axiom-bench audit my_module:my_cam, or --export kit for tools in "
            "other languages."
        )
    audit = _audit(options)
    say(str(audit).splitlines())
    for path, text in (
        (options.output, audit.to_html),
        (options.markdown, audit.to_markdown),
        (options.json, audit.to_json),
        (options.badge, audit.badge),
    ):
        if path is not None:
            files.write(path, text().encode())
            say([f"written: {path}"])
    return audit.exit_code


def _audit(options: Namespace) -> Audit:
    """Audit what the options name."""
    settings = _settings(options.settings)
    is_folder = Path(options.function).is_dir()
    if not is_folder and options.targets is not None:
        raise BenchError("--targets goes with a folder of maps; give the folder.")
    model_options = (options.model, options.weights, options.layer, options.overrides)
    if options.targets is None and any(model_options):
        raise BenchError(
            "--model, --weights, --layer and settings go with maps of your own model: also give "
            "--targets FILE, with lines IMAGE,CLASS."
        )
    if is_folder and (settings or options.form):
        raise BenchError("--with and --form go with a function; a folder has only maps.")
    from axiom_bench.run.progress import progress

    with progress("Loading PyTorch and the methods") as shown:
        from axiom_bench.auditing import audit
        from axiom_bench.auditing.kit import read_kit_maps

        if not is_folder:
            say([audit.RIGHTS])
            return audit.audit_function(
                options.function, settings, options.form, options.expect, shown.says
            )
        folder = Path(options.function)
        shown.says("Reading the maps")
        is_one_model = options.targets is not None
        maps = own_maps(folder, options) if is_one_model else read_kit_maps(folder)
        return audit.audit_maps(maps, options.function, options.expect, is_one_model, shown.says)


def _settings(words: list[str]) -> dict[str, object]:
    """Return the values of KEY=VALUE words: Python's literals, and texts without quotes."""
    settings: dict[str, object] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key.isidentifier():
            raise BenchError(f"--with {word!r} is no KEY=VALUE; write --with 'use_relu=False'.")
        try:
            settings[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            settings[key] = text
    return settings


def own_maps(folder: Path, options: Namespace) -> StoredMaps:
    """Read the maps of the user's own model.

    Args:
        folder: The folder of the maps.
        options: The options of the command line.

    Raises:
        BenchError: If the model, the list or an image can't be read.
    """
    from axiom_bench.auditing.kit import stored_maps
    from axiom_bench.environment import add_current_folder
    from axiom_bench.models.load import load_model
    from axiom_bench.run.composing.composition import composed

    if options.model is None:
        raise BenchError("--targets is for maps of your own model; also give --model net.py:build.")
    add_current_folder()
    overrides = [*options.overrides, *model_overrides(options)]
    if options.weights is None and CODE.fullmatch(options.model):
        overrides.append("model.weights=null")  # those that the function makes
    with composed(overrides, options.config_dir) as composition:
        model = load_model(composition.plain_job()["model"])
    if model.lines:
        say(model.lines)
    names, case = _own_case(options.targets, model)
    return stored_maps(folder, [case], [names])


def _own_case(path: Path, model: LoadedModel) -> tuple[list[str], Case]:
    """Return the names of the maps, and the images as a case."""
    import torch

    from axiom_bench.auditing.case import Case
    from axiom_bench.data.formats.decoding import open_upright
    from axiom_bench.data.formats.files import as_text, lines_of

    rows = [[cell.strip() for cell in row] for row in csv.reader(lines_of(path, "The list"))]
    if rows and rows[0] == HEADER:
        rows = rows[1:]
    if not 1 <= len(rows) <= MOST_OWN_IMAGES:
        raise BenchError(
            f"{as_text(path)} lists {len(rows)} images; list 1 to {MOST_OWN_IMAGES}, one per line."
        )
    names: list[str] = []
    images = []
    classes = []
    for row in rows:
        if len(row) != len(HEADER):
            raise BenchError(f"{as_text(path)} has the line {','.join(row)!r}; write IMAGE,CLASS.")
        image = path.parent / row[0]
        if image.stem in names:
            raise BenchError(
                f"{as_text(path)} has two images called {image.stem}; list each image once."
            )
        picture, _ = open_upright(image)
        names.append(image.stem)
        images.append(model.preprocessing.from_photograph(picture, as_text(image)))
        classes.append(model.class_index(row[1]))
    case = Case(OWN_CASE, model.module, model.layer, torch.stack(images), torch.tensor(classes))
    return names, case
