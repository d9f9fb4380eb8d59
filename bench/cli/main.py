"""The command line: `axiom-bench [run] [OVERRIDES]`, and the commands report, paper, gate, explain, list, tidy.

Exit codes: 0 done; 1 a defect, or a gate that moved; 2 a mistake that the user can mend, or a gate that can't compare;
130 Ctrl-C; 141 the reader of the output has gone.
What needs torch is imported by the command that needs it, so that --help answers at once.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from axiom_bench.errors import BenchError, unknown

INTERRUPTED, UNREAD = 130, 141  # 128 + SIGINT, 128 + SIGPIPE
KINDS = ("methods", "peers", "metrics", "models", "data", "experiments")
OVERRIDE = re.compile(r"(\+{0,2}|~)[^\W\d][\w/@.~:-]*(=|$)")  # KEY=VALUE, +KEY=VALUE, ~KEY
EXAMPLES = """\
examples:
  axiom-bench                                    the embedded models on the embedded scenes
  axiom-bench method=[grad_cam,xgrad_cam]        two methods only
  axiom-bench model=resnet18 data=imagenet data.root=/data/imagenet
  axiom-bench experiment=real                    photographs and weights of real_root
  axiom-bench paper data.root=/data/imagenet     the paper's figures and tables, a file each
  axiom-bench +method.mine._target_=my_module.my_cam
  axiom-bench --config-dir my_conf experiment=mine
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code."""
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
        code: int = options.command(options)
        sys.stdout.flush()
    except BenchError as error:
        print(f"axiom-bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\naxiom-bench: stopped. Finished shards are kept: the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough: Python's own flush at the end must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    return code


def parse(argv: Sequence[str]) -> Namespace:
    """The options of one command. Overrides may stand anywhere among them. Raises BenchError for an unknown command."""
    top = parser()
    options, rest = top.parse_known_args(_with_command(list(argv)))
    unrecognized = [argument for argument in rest if not hasattr(options, "overrides") or not OVERRIDE.match(argument)]
    if unrecognized:
        top.error(f"unrecognized arguments: {' '.join(unrecognized)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def parser() -> ArgumentParser:
    """All commands with their arguments."""
    top = ArgumentParser(
        prog="axiom-bench",
        description="Which CAM method explains a CNN faithfully, measured against the axioms of Axiom-based Grad-CAM.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"axiom-bench {version('axiom-bench')}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a benchmark (the default command)")
    _add_configuration(run)
    run.add_argument("--cfg", choices=("job",), help="print the resolved configuration of the (first) job and stop")
    run.set_defaults(command=_run)

    report = commands.add_parser("report", help="tables, figures and report.html again, from a run's records")
    report.add_argument("run_folder", type=Path)
    report.set_defaults(command=_report)

    paper = commands.add_parser("paper", help="the paper's figures and tables, a file each, run or continued")
    _add_configuration(paper)
    paper.set_defaults(command=_paper)

    gate = commands.add_parser("gate", help="compare a run with a baseline: exit 0 holds, 1 moved, 2 can't compare")
    gate.add_argument("run_folder", type=Path)
    gate.add_argument("--baseline", type=Path, required=True, metavar="FILE")
    gate.add_argument("--write", action="store_true", help="write the baseline from this run instead of comparing")
    gate.set_defaults(command=_gate)

    _add_explain(commands.add_parser("explain", help="one picture, many methods, side by side in a PNG"))

    listing = commands.add_parser("list", help="what can be chosen, one line each")
    listing.add_argument("kind", nargs="?", choices=KINDS)
    _add_config_dir(listing)
    listing.set_defaults(command=_list)

    tidy = commands.add_parser("tidy", help="merge a run's many small record files")
    tidy.add_argument("run_folder", type=Path)
    tidy.add_argument("--drop", action="store_true", help="also delete the records that the last command didn't need")
    tidy.set_defaults(command=_tidy)
    return top


def _add_explain(explain: ArgumentParser) -> None:
    explain.add_argument("image", type=Path)
    _add_configuration(explain)
    explain.add_argument("--model", help="a name; your own network: model=user model.architecture=net.py:build")
    explain.add_argument(
        "--weights", metavar="FILE", help="a .safetensors or .pth file; default: the published weights"
    )
    explain.add_argument("--layer", help="dotted name of the target layer; default: the last spatial one")
    explain.add_argument("--methods", metavar="A,B", help="names, or all; default: the quick experiment's")
    explain.add_argument("--target", metavar="CLASS", help="index or name of the class; default: the predicted one")
    explain.add_argument("--output", type=Path, default=Path("explanation.png"), metavar="FILE")
    explain.set_defaults(command=_explain)


def _add_configuration(command: ArgumentParser) -> None:
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings over those of conf/config.yaml")
    _add_config_dir(command)


def _add_config_dir(command: ArgumentParser) -> None:
    command.add_argument(
        "--config-dir", type=Path, metavar="DIR", help="your own YAML files: DIR/experiment/, DIR/method/, ..."
    )


def _with_command(argv: list[str]) -> list[str]:
    """`run` is the command where none is named. Raises BenchError for a word that is neither command nor override."""
    commands = ("run", "report", "paper", "gate", "explain", "list", "tidy")
    if argv and (argv[0] in commands or argv[0] in ("-h", "--help", "--version")):
        return argv
    if argv[:1] == ["--config-dir"] and argv[2:3] and argv[2] in commands:  # an option before the command
        return [argv[2], *argv[:2], *argv[3:]]
    if argv and argv[0][:1].isalpha() and "=" not in argv[0]:
        raise unknown("command", argv[0], commands)
    return ["run", *argv]


def _run(options: Namespace) -> int:
    from axiom_bench.cli import benchmark

    if options.cfg:
        print(benchmark.configuration_text(options.overrides, options.config_dir), end="")
        return 0
    code, lines = benchmark.benchmark(options.overrides, options.config_dir)
    print("\n".join(lines))
    return code


def _report(options: Namespace) -> int:
    from axiom_bench import report

    print(f"report: {report.write(options.run_folder)}")
    return 0


def _paper(options: Namespace) -> int:
    from axiom_bench.cli.paper import paper

    code, lines = paper(options.overrides, options.config_dir)
    print("\n".join(lines))
    return code


def _gate(options: Namespace) -> int:
    from axiom_bench.gate import gate, write_baseline

    if options.write:
        print(f"baseline: {write_baseline(options.run_folder, options.baseline)}")
        return 0
    result = gate(options.run_folder, options.baseline)
    print("\n".join(result.lines))
    return result.exit_code


def _explain(options: Namespace) -> int:
    from axiom_bench.cli.explain import Request, explain

    picture, notes = explain(
        Request(
            image=options.image,
            output=options.output,
            overrides=options.overrides if options.model is None else [*options.overrides, f"model={options.model}"],
            config_folder=options.config_dir,
            weights=options.weights,
            layer=options.layer,
            methods=options.methods.split(",") if options.methods else None,
            target=options.target,
        )
    )
    print("\n".join([*notes, f"picture: {picture}"]))
    return 0


def _list(options: Namespace) -> int:
    from axiom_bench.cli.listing import listing

    print("\n".join(listing(options.kind, options.config_dir)))
    return 0


def _tidy(options: Namespace) -> int:
    from axiom_bench.records.tidy import tidy

    print("\n".join(tidy(options.run_folder, options.drop)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
