"""Commands, options and settings that were removed, and what to do instead. The tables are kept
until version 1.0.
"""

from __future__ import annotations

from collections.abc import Sequence

from axiom_bench.errors import BenchError

COMMANDS = {
    "tidy": "Reports and gates read a run of many record files as it is. To drop values that a run "
    "no longer needs, delete the run folder and run its command again.",
}
OPTIONS = {
    "gate": {
        "--sampled": "It compares the same images within tolerances. `axiom-bench compare RUN RUN` "
        "shows what differs between two runs.",
        "--min-effect": "Set the metric's tolerance in its YAML.",
        "--run-time": "The report has run times, as ratios to a forward pass.",
    },
    "report": {
        "--watch": "The run prints how far it is. `axiom-bench report RUN` shows what is done so "
        "far.",
    },
}
SETTINGS = {  # the keys are beginnings of settings
    "metrics.max_forwards_per_image": "After its first batch a run prints how long it will take. "
    "Leave out a costly one with ~metric.NAME.",
    "model.layer={": "Give one network its layers as model.layer=A,B. For layers by network, write "
    "them in an experiment of your own, below `model: layer:`, and run it by --config-dir FOLDER "
    "experiment=NAME.",
    "report.latex.width": "LaTeX tables are as wide as their columns. Choose those of the "
    "overview: report.latex.columns=[box_iou,single_deletion].",
}


def check(words: Sequence[str]) -> None:
    """Raise BenchError, with what to do instead, if a command or an option was removed.

    Args:
        words: The command line. Its first word is the command.
    """
    command = words[0]
    if command in COMMANDS:
        raise BenchError(f"`axiom-bench {command}` is gone. {COMMANDS[command]}")
    options = {word.partition("=")[0] for word in words}
    for option, instead in OPTIONS.get(command, {}).items():
        if option in options:
            raise BenchError(f"`axiom-bench {command}` has no {option} any more. {instead}")


def check_settings(words: Sequence[str]) -> None:
    """Raise BenchError, with what to do instead, if a setting was removed."""
    for word in words:
        for beginning, instead in SETTINGS.items():
            if word.lstrip("+~").startswith(beginning):
                setting = f"{beginning}...}}" if beginning.endswith("{") else beginning
                raise BenchError(f"{setting} is gone. {instead}")
