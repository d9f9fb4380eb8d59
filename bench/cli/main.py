"""The command line: parse the arguments, run one command, and return its exit code.

Exit codes:
    0: The command is done.
    1: A defect, or a gate that moved.
    2: A mistake that the user can fix, or a gate that can't compare.
    129, 130, 143: A hangup, Ctrl-C, or SIGTERM or Ctrl-Break.
    141: The reader of the output has closed it.

Each command imports what needs torch by itself, so that --help answers at once.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from argparse import (
    Action,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from axiom_bench.cli import gate as gate_command
from axiom_bench.cli import retired, stopping
from axiom_bench.cli.terminal import (
    complain,
    escape_missing_characters,
    existing_run,
    say,
)
from axiom_bench.environment import infrequent_garbage_collection
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.records.files import local_path

OUTPUT_CLOSED = 141  # 128 + SIGPIPE
KINDS = (
    "methods",
    "peers",
    "spoiled",
    "metrics",
    "models",
    "data",
    "experiments",
    "protocols",
    "suites",
    "other-names",
)
SHELLS = ("bash", "zsh", "fish")
TOP_OPTIONS = ("-h", "--help", "--version", "--completion")
RESUMABLE_COMMANDS = (
    "run",
    "paper",
    "rank",
    "submit",
    "choose",
)  # commands that keep finished shards
# arguments that are files or folders, among which settings may stand
FILES = ("images", "run_folders")
TRUST = "run the code and read the files that the run's configuration names: it is yours"
OVERRIDE = re.compile(r"(\+{0,2}|~)[^\W\d][\w/@.~:-]*(=|$)")  # KEY=VALUE, +KEY=VALUE, ~KEY
START = """\
Which CAM method explains a CNN faithfully, measured against the axioms of Axiom-based Grad-CAM.

start here:
  your photographs        axiom-bench model=resnet18 data=folder data.root=photos
  your model              axiom-bench model=user model.architecture=net.py:build \\
                            model.weights=net.pth data=folder data.root=photos
  your method             axiom-bench +method.mine._target_=my_module.my_cam report.compare=mine
  maps of one photograph  axiom-bench explain photo.jpg --model resnet18
  a regression test       axiom-bench gate results/quick/default --baseline baseline.csv
"""
EXAMPLES = """\
more examples:
  axiom-bench                                    the embedded models on the embedded scenes
  axiom-bench "method=[grad_cam,xgrad_cam]"      two methods only
  axiom-bench model=resnet18 data=imagenet data.root=/data/imagenet
  axiom-bench experiment=real                    photographs and weights of real_root
  axiom-bench paper data.root=/data/imagenet     the paper's figures and tables, a file each
  axiom-bench --config-dir my_conf experiment=mine
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The arguments. By default those of this process; signals then end the process (see
            `stopping`).
    """
    is_own_process = argv is None
    if is_own_process:
        # Figures are files. A notebook's kernel names a backend that this environment may lack.
        os.environ["MPLBACKEND"] = "agg"
    escape_missing_characters()
    stoppable = stopping.stoppable if is_own_process else nullcontext
    line = stopping.STOPPED_LINE
    try:
        with stoppable(line):
            options = parse(sys.argv[1:] if argv is None else argv)
        if getattr(options, "is_resumed", False):
            line = stopping.STOPPED_RESUMABLE_LINE
        with stoppable(line):
            code: int = options.command(options)
            sys.stdout.flush()
    except BenchError as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:  # only in a caller's process: `stoppable` ends this one
        print(line, file=sys.stderr)
        return stopping.CODES["SIGINT"]
    except BrokenPipeError:
        # `| head` has read enough. Python flushes again at the end, which must not fail.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        return OUTPUT_CLOSED
    finally:
        if is_own_process:
            # The process ends: garbage is collected once instead of twice. gc.freeze isn't used,
            # because libraries written with nanobind (triton) print uncollected objects as leaked.
            gc.disable()
    return code


def parse(argv: Sequence[str]) -> Namespace:
    """Return the options of one command. Overrides may stand anywhere among them.

    Args:
        argv: The words of the command line.

    Raises:
        BenchError: For an unknown command.
    """
    top = _top()
    commands = _add_commands(top)
    options, rest = top.parse_known_args(_with_command(list(argv), commands))
    for name in FILES:
        if hasattr(options, name):
            # KEY=VALUE may stand anywhere among the files, and both may follow options.
            positional = [argument for argument in rest if not argument.startswith("-")]
            words = [*getattr(options, name), *positional]
            options.overrides = [word for word in words if _is_override(word)]
            paths = [local_path(word) for word in words if not _is_override(word)]
            setattr(options, name, paths)
            rest = [argument for argument in rest if argument.startswith("-")]
    takes_overrides = hasattr(options, "overrides")
    unrecognized = [
        argument for argument in rest if not takes_overrides or not OVERRIDE.match(argument)
    ]
    if unrecognized:
        retired.check(argv)
        if takes_overrides and unrecognized[0].startswith("--"):
            raise _unknown_option(unrecognized[0], argv)
        top.error(f"unrecognized arguments: {' '.join(unrecognized)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    retired.check_settings(argv)
    return options


def _unknown_option(option: str, argv: Sequence[str]) -> BenchError:
    """Return the error for an option that a command with settings doesn't have.

    Args:
        option: The option, which may have its value after a sign: --model=NAME.
        argv: The words of the command line. The value may be the word after the option.
    """
    # here: few commands need it
    from axiom_bench.run.composing.typed_words import instead_of, meant_setting

    name, _, value = option.partition("=")
    if name in ("--help-all", "--options", "--usage"):
        return BenchError(
            f"There is no option {name}; axiom-bench --help lists the commands, axiom-bench "
            "COMMAND --help the options of one, and axiom-bench --cfg job all settings."
        )
    after = argv[argv.index(option) + 1 :][:1]
    if not value and after and not after[0].startswith("-") and not _is_override(after[0]):
        value = after[0]
    typed = name.strip("-")
    key = meant_setting(typed)
    advice = instead_of(key, value) or f"a setting has no dashes: {key}={value or 'VALUE'}"
    return BenchError(f"There is no option {name}; {advice}.")


def _is_override(word: str) -> bool:
    """Return whether a word among file names is KEY=VALUE or ~KEY, and not an existing file."""
    if not OVERRIDE.match(word):
        return False
    return ("=" in word or word[0] == "~") and not Path(word).exists()


def parser() -> ArgumentParser:
    """Return a parser of all commands with their arguments."""
    top = _top()
    _add_commands(top)
    return top


def _top() -> ArgumentParser:
    top = ArgumentParser(
        prog="axiom-bench",
        description=START,
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"axiom-bench {version('axiom-bench')}")
    top.add_argument(
        "--completion",
        action=_PrintCompletion,
        choices=SHELLS,
        help="print the script with which a shell completes words, and stop",
    )
    return top


class _PrintCompletion(Action):
    """The option that prints a shell's completion and stops."""

    def __call__(
        self,
        top: ArgumentParser,
        namespace: Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        from axiom_bench.cli import completion  # here: it reads the names of networks

        print(completion.script(str(values), parser()), end="")
        top.exit()


def _add_commands(top: ArgumentParser) -> Collection[str]:
    """Add all commands with their arguments, and return their names."""
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, about: str, command: Callable[[Namespace], int]) -> ArgumentParser:
        parser = commands.add_parser(name, help=about)
        parser.set_defaults(command=command, is_resumed=name in RESUMABLE_COMMANDS)
        return parser

    run = add("run", "run a benchmark (the default command)", command_calling("cli.benchmark.run"))
    _add_configuration(run)
    run.add_argument(
        "--cfg",
        choices=("job",),
        help="print the resolved configuration of the (first) job and stop",
    )
    run.add_argument(
        "-v", "--verbose", action="store_true", help="also statuses and the time of each stage"
    )
    run.add_argument(
        "-m", "--multirun", action="store_true", help="as Hydra has it; every run is one"
    )

    about = "write tables, figures and report.html again from the records of runs"
    _add_report(add("report", about, _report))
    about = "which metrics of a run to trust, and how many images they need"
    _add_judge(add("judge", about, _judge))
    about = "the paper's figures and tables, a file each, run or continued"
    _add_configuration(add("paper", about, _paper))
    about = "compare a run with a baseline: exit 0 holds, 1 moved, 2 can't compare"
    gate_command.add_arguments(add("gate", about, gate_command.run))

    about = "what differs between two runs: exit 0 nothing, 1 something"
    comparison = add("compare", about, command_calling("gate.two_runs.compare_runs", "compared"))
    comparison.add_argument(
        "compared", type=existing_run, nargs="*", metavar="RUN", help="two run folders"
    )

    about = "images: top classes and the maps of many methods"
    _add_explain(add("explain", about, command_calling("cli.explain.explain")))

    about = (
        "what the suite finds about a network and its data before anything is computed: exit 2 "
        "where it would stop"
    )
    doctor = add("doctor", about, _doctor)
    _add_configuration(doctor)
    _add_model(doctor)

    about = "which method and layer to use for a model, measured on your images"
    _add_choose(add("choose", about, command_calling("cli.racing.command.run")))

    about = "which formula a CAM implementation computes: exit 0 as expected, 1 not, 2 can't tell"
    _add_audit(add("audit", about, command_calling("cli.auditing.run")))

    about = "what can be chosen, one line each"
    command = command_calling("cli.listing.listing", "kind", "config_dir", "part")
    listing = add("list", about, command)
    listing.add_argument(
        "kind", nargs="?", metavar="KIND", help=f"one of {', '.join(KINDS)}; default: all"
    )
    listing.add_argument(
        "part", nargs="?", metavar="NAME", help="only entries with this in their line"
    )
    _add_config_dir(listing)

    status = command_calling("records.reading.status", "run_folder")
    add("status", "which jobs of a run are done, running and failed", status).add_argument(
        "run_folder", type=local_path
    )

    about = "recompute a sample of a run or a submission: exit 0 the same, 1 something differs"
    verify = add("verify", about, _verify)
    verify.add_argument(
        "run_folder", type=existing_run, help="or a folder that axiom-bench submit has written"
    )
    verify.add_argument(
        "--seed", type=int, help="of the sample, 10 %% of the images; left out: a new one, printed"
    )
    verify.add_argument("--trust", action="store_true", help=TRUST)

    _add_suite_commands(add)
    about = '"What do you see?": a page on which people name what a method shows'
    _add_game(add("game", about, command_calling("cli.game.game")))
    score = command_calling("report.game_score.report_score", "answers", "output", "seed")
    _add_game_score(add("game-score", "how well people named what each method shows", score))
    return tuple(commands.choices)


def _add_suite_commands(
    add: Callable[[str, str, Callable[[Namespace], int]], ArgumentParser],
) -> None:
    """Add the commands of published values with `add`, the function of `_add_commands`."""
    values = add(
        "reference",
        "the published values of a suite",
        command_calling("cli.rank.reference", "suite", "csv"),
    )
    values.add_argument("suite", nargs="?", help="default: all that have some")
    values.add_argument(
        "--csv", type=local_path, metavar="FILE", help="writes every value there, as values.csv.gz"
    )

    pages = command_calling("cli.leaderboard.leaderboard", "output", "submissions")
    board = add("leaderboard", "the static site of all published values", pages)
    board.add_argument(
        "submissions", type=local_path, nargs="*", metavar="SUBMISSION", help="also shown"
    )
    board.add_argument("--output", type=local_path, required=True, metavar="FOLDER")

    ranked = command_calling(
        "cli.rank.rank_and_print", "method", "suite", "metrics", "json", "latex", "overrides"
    )
    rank = add("rank", "a method's places among the published values of a suite", ranked)
    _add_method(rank)
    suites = (
        "default: scenes-1, which needs no files; NAME/PART is one part, as photographs-2/outside"
    )
    rank.add_argument("--suite", default="scenes-1", metavar="NAME", help=suites)
    names = "names of values; default: all of the suite with a direction"
    rank.add_argument("--metrics", type=split_names, default=(), metavar="A,B", help=names)
    rank.add_argument(
        "--json", type=local_path, metavar="FILE", help="also all standings, network by network"
    )
    rank.add_argument(
        "--latex",
        type=local_path,
        metavar="FILE",
        help="also the tables, with the method next to Grad-CAM and XGrad-CAM",
    )

    submitted = command_calling(
        "cli.submission.making.submit",
        "method",
        "suite",
        "output",
        "licence",
        "reference",
        "overrides",
    )
    submit = add("submit", "a method's values of a suite, as a folder to hand in", submitted)
    _add_method(submit)
    submit.add_argument("--suite", required=True, metavar="NAME")
    submit.add_argument("--output", required=True, type=local_path, metavar="FOLDER")
    submit.add_argument(
        "--licence", default="", metavar="TEXT", help="of the method's code, as MIT"
    )
    submit.add_argument(
        "--reference", default="", metavar="TEXT", help="the paper that describes it"
    )


def _add_method(command: ArgumentParser) -> None:
    command.add_argument(
        "method", help="my_module.my_cam, or a name that axiom-bench list methods shows"
    )
    command.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="free in a suite, as real_root=FOLDER"
    )


def split_names(text: str) -> list[str]:
    """Return the names of a text in which commas separate them."""
    return text.split(",") if text else []


def command_calling(path: str, *arguments: str) -> Callable[[Namespace], int]:
    """Return a command that calls a function of this package and prints the lines that it returns.

    The module is imported when the command runs, since some modules import torch. The function
    returns the lines, the exit code, or both.

    Args:
        path: The dotted path of the function within this package.
        *arguments: Names of the options to pass. Without names, the function gets all options as
            one argument.
    """

    def command(options: Namespace) -> int:
        module, _, name = path.rpartition(".")
        function = getattr(import_module(f"axiom_bench.{module}"), name)
        # Without names the function gets the Namespace itself.
        values = [getattr(options, argument) for argument in arguments] or [options]
        result = function(*values)
        if isinstance(result, int):
            return result
        code: int = 0
        lines = result
        if isinstance(result, tuple):
            code, lines = result
        say(lines)
        return code

    return command


def _add_game(game: ArgumentParser) -> None:
    game.add_argument("run_folder", type=existing_run)
    game.add_argument(
        "--output", type=local_path, metavar="FILE", help="default: game.html in the run folder"
    )
    images = "with exactly two classes; default: all, at most 40"
    game.add_argument("--images", dest="count", type=int, metavar="N", help=images)
    game.add_argument("--methods", metavar="A,B", help="of the run; default: all")
    game.add_argument("--model", metavar="NAME", help="of the run's models; default: the first")
    game.add_argument("--layer", metavar="NAME", help="of the run's layers; default: the first")
    game.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of images and plan; default: 0"
    )
    game.add_argument("--trust", action="store_true", help=TRUST)


def _add_game_score(score: ArgumentParser) -> None:
    score.add_argument(
        "answers", nargs="+", type=local_path, help="files that players saved, or folders of them"
    )
    score.add_argument("--output", type=local_path, metavar="FILE", help="also as .csv or .md")
    score.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of the resamples; default: 0"
    )


def _add_report(report: ArgumentParser) -> None:
    report.add_argument(
        "run_folders",
        nargs="+",
        metavar="RUN",
        help="run folders, several are combined; also report.KEY=VALUE and method.NAME.title=TITLE",
    )
    report.add_argument(
        "--output",
        type=local_path,
        metavar="FOLDER",
        help="write the report there; several runs: by default to combined, next to them",
    )


def _add_judge(judge: ArgumentParser) -> None:
    judge.add_argument("run_folder", type=existing_run, nargs="?")
    own = (
        "a metric's line of the scorecard on the embedded networks: names, and your own "
        "my_module.my_metric"
    )
    judge.add_argument("--metric", metavar="A,B", help=own)
    judge.add_argument(
        "--better",
        choices=("higher", "lower"),
        default="higher",
        help="of your own metric's values",
    )
    truth = "runs with spoiled explainers; default: its own"
    judge.add_argument("--truth", nargs="+", type=local_path, default=[], metavar="RUN", help=truth)
    judge.add_argument(
        "--metrics",
        type=split_names,
        metavar="A,B",
        help="names of values; default: all of the run",
    )


def _add_explain(explain: ArgumentParser) -> None:
    explain.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, or folders with images; also KEY=VALUE"
    )
    _add_config_dir(explain)
    _add_model(explain)
    explain.add_argument(
        "--methods", metavar="A,B", help="names, or all; default: the quick experiment's"
    )
    explain.add_argument(
        "--targets",
        "--classes",
        metavar="A,B",
        help="indices or names of classes; default: the predicted one",
    )
    explain.add_argument(
        "--top", type=int, default=1, metavar="K", help="explain the K most probable classes"
    )
    explain.add_argument(
        "--prompt", metavar="TEXT", help="the question to a network that says a text, as LLaVA"
    )
    explain.add_argument(
        "--words", metavar="A,B", help="words of its text; default: all, function words last"
    )
    explain.add_argument(
        "--colours", default="inferno", metavar="NAME", help="matplotlib's colour map, as jet"
    )
    explain.add_argument(
        "--output",
        type=local_path,
        metavar="FILE",
        help="a .png, .jpg, .webp, .pdf or .svg, an .html page, or a folder; default: "
        "photo-maps.png for photo.jpg, photos-maps.html for the folder photos, with a number "
        "where that exists",
    )
    explain.add_argument("--overwrite", action="store_true", help="replace what --output names")


def _add_choose(choose: ArgumentParser) -> None:
    choose.add_argument(
        "images", nargs="*", metavar="FOLDER", help="a folder of photographs; also KEY=VALUE"
    )
    _add_config_dir(choose)
    _add_model(choose)
    choose.add_argument(
        "--methods", metavar="A,B", help="the methods that race; default: quick ones and controls"
    )
    choose.add_argument(
        "--layers",
        metavar="A,B",
        help="the layers that race; default: the last layers of three resolutions",
    )
    choose.add_argument(
        "--budget",
        type=_seconds,
        default=float("inf"),
        metavar="TIME",
        help="how long it may take, such as 10m; otherwise it takes the time of all its images",
    )
    choose.add_argument("--json", action="store_true", help="print the answer as JSON")


def _add_audit(audit: ArgumentParser) -> None:
    audit.add_argument(
        "function",
        nargs="?",
        metavar="MODULE:NAME",
        help="a function or class, FILE.py:NAME, a method's name, or a folder of maps",
    )
    expected = "exit 1 if it isn't this method; 'grad_cam: min-max' also expects the reading"
    audit.add_argument("--expect", metavar="NAME", help=expected)
    audit.add_argument(
        "--with",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the function or class, such as use_relu=False; may be repeated",
    )
    audit.add_argument("--form", metavar="NAME", help="how it is called, if that isn't recognised")
    outputs = audit.add_argument_group("files")
    page = "the audit as a page, such as audit.html"
    outputs.add_argument("--output", type=local_path, metavar="FILE", help=page)
    outputs.add_argument("--markdown", type=local_path, metavar="FILE", help="for a pull request")
    outputs.add_argument("--json", type=local_path, metavar="FILE", help="for programs")
    outputs.add_argument("--badge", type=local_path, metavar="FILE", help="an SVG badge")
    kits = audit.add_argument_group("maps of tools that Python can't call")
    kits.add_argument(
        "--export",
        type=local_path,
        metavar="FOLDER",
        help="write networks, images and classes for tools in any language",
    )
    kits.add_argument(
        "--targets",
        type=local_path,
        metavar="FILE",
        help="maps of your own --model: a CSV file with lines IMAGE,CLASS; also KEY=VALUE",
    )
    audit.set_defaults(overrides=[])  # `parse` appends the settings among the options
    _add_model(audit)
    _add_config_dir(audit)


def _seconds(text: str) -> float:
    """Return the seconds of a time such as 90s, 10m or 1h."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is no time; write 90s, 10m or 1h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _add_model(command: ArgumentParser) -> None:
    """Add the options of the model, which `cli.model_options` reads."""
    command.add_argument(
        "--model", help="a name, or your own network as FILE:FUNCTION, such as net.py:build"
    )
    weights = "a .safetensors or .pth file; default: the published weights"
    command.add_argument("--weights", metavar="FILE", help=weights)
    command.add_argument(
        "--layer", help="dotted name of the target layer; default: the last spatial one"
    )


def _add_configuration(command: ArgumentParser) -> None:
    command.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings over those of conf/config.yaml"
    )
    _add_config_dir(command)


def _add_config_dir(command: ArgumentParser) -> None:
    command.add_argument(
        "--config-dir",
        type=local_path,
        metavar="DIR",
        help="your own YAML files: DIR/experiment/, DIR/method/, ...",
    )


def _with_command(argv: list[str], commands: Collection[str]) -> list[str]:
    """Return the words with the command first, which is `run` if none is given. Raise BenchError
    for a first word that is neither a command nor an override.
    """
    if argv and (argv[0] in commands or argv[0].partition("=")[0] in TOP_OPTIONS):
        return argv
    if argv[:1] == ["--config-dir"] and argv[2:3] and argv[2] in commands:
        return [argv[2], *argv[:2], *argv[3:]]  # the option stood before the command
    if argv and argv[0][:1].isalpha() and "=" not in argv[0]:
        retired.check(argv)
        raise unknown_name("command", argv[0], commands)
    return ["run", *argv]


def _doctor(options: Namespace) -> int:
    from axiom_bench.cli.model_options import model_overrides

    options.overrides = [*options.overrides, *model_overrides(options)]
    return command_calling("cli.doctor.doctor", "overrides", "config_dir")(options)


def _report(options: Namespace) -> int:
    with infrequent_garbage_collection():
        from axiom_bench.cli import report

        say(report.write(options.run_folders, options.overrides, options.output))
    return 0


def _judge(options: Namespace) -> int:
    if (options.run_folder is None) == (options.metric is None):
        raise BenchError(
            "Give a run folder to judge its metrics, or --metric NAME for a line of the scorecard."
        )
    if options.metric is not None:
        from axiom_bench.cli.judge import judge_metrics

        code, lines = judge_metrics(options.metric.split(","), options.better)
        say(lines)
        return code
    from axiom_bench.report.scorecard import write_judgement

    say(write_judgement(options.run_folder, options.truth, options.metrics or None))
    return 0


def _paper(options: Namespace) -> int:
    from axiom_bench.cli.benchmark import check_paths
    from axiom_bench.run.progress import progress

    check_paths(["experiment=paper", *options.overrides], options.config_dir)
    with progress("Loading PyTorch and the report"):  # the imports take seconds
        from axiom_bench.cli.paper import paper

    code, lines = paper(options.overrides, options.config_dir)
    say(lines)
    return code


def _verify(options: Namespace) -> int:
    is_submission = (options.run_folder / "submission.json").is_file()
    path = "cli.submission.verifying.verify_submission" if is_submission else "cli.verify.verify"
    return command_calling(path, "run_folder", "seed", "trust")(options)
