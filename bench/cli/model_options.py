"""The options --model, --weights and --layer of `explain` and `doctor`, as settings."""

from __future__ import annotations

import re
from argparse import Namespace

from axiom_bench.models.spec import WEIGHTS_SUFFIXES

CODE = re.compile(r".+\.py:.+|[\w.]+:\w+")  # FILE:FUNCTION, or MODULE:FUNCTION


def model_overrides(options: Namespace) -> list[str]:
    """Return the settings that the options of the model choose.

    Args:
        options: The options of the command line: `model`, `weights` and `layer`, each a text or
            None. A model is a name, code of the user's own, such as net.py:build, or a checkpoint
            of transformers, such as microsoft/resnet-50 or ./folder.
    """
    overrides = []
    if options.model is not None:
        if CODE.fullmatch(options.model):
            overrides += ["model=user", f"model.architecture={options.model}"]
        elif "/" in options.model and not options.model.endswith(WEIGHTS_SUFFIXES):
            overrides += ["model=huggingface", f"model.checkpoint={options.model}"]
        else:
            overrides.append(f"model={options.model}")
    if options.weights is not None:
        overrides.append(f"model.weights={options.weights}")
    if options.layer is not None:
        overrides.append(f"model.layer={options.layer}")
    return overrides


def quoted_value(text: str) -> str:
    """Return a text as the value of a setting on the command line, whatever signs it has."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
