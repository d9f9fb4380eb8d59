"""The command line: `axiom-bench [run] [OVERRIDES]`, and report, gate, explain, list.

Exit codes: 0 done; 1 a defect, or a gate that moved; 2 a mistake that the user can mend, or a gate that can't compare;
130 Ctrl-C; 141 the reader of the output has gone.
What needs torch is imported by the command that needs it, so that --help answers at once.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from axiom_bench.errors import BenchError, unknown

INTERRUPTED, UNREAD = 130, 141  # 128 + SIGINT, 128 + SIGPIPE
EXAMPLES = """\
examples:
  axiom-bench                                    the embedded models on the embedded scenes
  axiom-bench method=[grad_cam,xgrad_cam]        two methods only
  axiom-bench model=resnet18 data=imagenet data.root=/data/imagenet
  axiom-bench experiment=real                    photographs and weights of real_root
  axiom-bench +method.mine._target_=my_module.my_cam
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code."""
    said = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser().parse_args(_with_command(said))
        code: int = options.command(options)
        sys.stdout.flush()
    except BenchError as error:
        print(f"axiom-bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\naxiom-bench: stopped. Finished shards are kept: the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough: Python's own flush at the end must not say so again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    return code


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
    run.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings over those of conf/config.yaml")
    run.set_defaults(command=_run)

    report = commands.add_parser("report", help="tables, figures and report.html again, from a run's records")
    report.add_argument("run_folder", type=Path)
    report.set_defaults(command=_report)

    gate = commands.add_parser("gate", help="compare a run with a baseline: exit 0 holds, 1 moved, 2 can't compare")
    gate.add_argument("run_folder", type=Path)
    gate.add_argument("--baseline", type=Path, required=True, metavar="FILE")
    gate.add_argument("--write", action="store_true", help="write the baseline from this run instead of comparing")
    gate.set_defaults(command=_gate)

    explain = commands.add_parser("explain", help="one picture, many methods, side by side in a PNG")
    explain.add_argument("image", type=Path)
    explain.add_argument("--model", required=True)
    explain.add_argument(
        "--weights", metavar="FILE", help="a .safetensors or .pth file; default: the published weights"
    )
    explain.add_argument("--layer", help="dotted name of the target layer; default: the last spatial one")
    explain.add_argument("--methods", metavar="A,B", help="names, or all; default: the quick experiment's")
    explain.add_argument("--output", type=Path, default=Path("explanation.png"), metavar="FILE")
    explain.set_defaults(command=_explain)

    listing = commands.add_parser("list", help="the names there are, with one line each")
    listing.add_argument("kind", nargs="?", choices=("methods", "peers", "metrics", "models", "data"))
    listing.set_defaults(command=_list)
    return top


def _with_command(arguments: list[str]) -> list[str]:
    """`run` is the command where none is named. Raises BenchError for a word that is neither command nor override."""
    commands = ("run", "report", "gate", "explain", "list")
    if arguments and (arguments[0] in commands or arguments[0] in ("-h", "--help", "--version")):
        return arguments
    if arguments and arguments[0][:1].isalpha() and "=" not in arguments[0]:
        raise unknown("command", arguments[0], commands)
    return ["run", *arguments]


def _run(options: Namespace) -> int:
    from axiom_bench.cli.finish import finish
    from axiom_bench.run.sweep import sweep

    code, lines = finish(*sweep(options.overrides), options.overrides)
    print("\n".join(lines))
    return code


def _report(options: Namespace) -> int:
    from axiom_bench import report

    print(f"report: {report.write(options.run_folder)}")
    return 0


def _gate(options: Namespace) -> int:
    from axiom_bench.gate import gate, write_baseline

    if options.write:
        print(f"baseline: {write_baseline(options.run_folder, options.baseline)}")
        return 0
    result = gate(options.run_folder, options.baseline)
    print("\n".join(result.lines))
    return result.exit_code


def _explain(options: Namespace) -> int:
    from axiom_bench.cli.explain import explain

    methods = options.methods.split(",") if options.methods else None
    picture, notes = explain(options.image, options.model, options.weights, options.layer, methods, options.output)
    print("\n".join([*notes, f"picture: {picture}"]))
    return 0


def _list(options: Namespace) -> int:
    from axiom_bench.cli.listing import listing

    print("\n".join(listing(options.kind)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
