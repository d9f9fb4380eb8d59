"""Let kills, signals, full disks, wrong clocks and deleted folders befall small runs, and compare what they end with.

python scripts/faults.py                          # all faults; prints a table in Markdown
python scripts/faults.py --only kills --times 12  # some of one family
python scripts/faults.py --output results/faults  # where trials are kept: the same command goes on from there

Exits with 1 where a promise of docs/reliability.md breaks. Needs a system with fork. Disks that are too small or become
read-only are real ones, which only a user who may mount them has.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random

from faulting import clocks, disks, folders, kills, stops
from faulting.runs import TINY
from faulting.trial import Case, Fault, Trial, table

from axiom_bench.cli.main import main as axiom_bench

FAMILIES = {"kills": kills, "stops": stops, "disks": disks, "clocks": clocks, "folders": folders}
MAX_TRIALS = 3  # for each time that a fault is to befall a run: it may come too late


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    work = (options.output / f"seed-{options.seed}").absolute()
    work.mkdir(parents=True, exist_ok=True)
    _warm_up(work / "warm")
    trials: list[Trial] = []
    for family in options.only or FAMILIES:
        faults: Sequence[Fault] = FAMILIES[family].FAULTS
        chosen = [fault for fault in faults if options.fault is None or options.fault in fault.name]
        for fault in chosen:
            times = fault.times if options.times is None else -(-options.times // len(chosen))
            for trial in _trials(work / family / str(faults.index(fault)), fault, times, options.seed):
                print(
                    f"{fault.name}: {trial.number}{''.join(f'{chr(10)}  broken: {s}' for s in trial.broken)}",
                    flush=True,
                )
                trials.append(trial)
    print(f"\n{table(trials)}")
    return int(any(trial.broken for trial in trials))


def _trials(folder: Path, fault: Fault, times: int, seed: int) -> Iterator[Trial]:
    """Trials until the fault has befallen so many runs; those that held are kept, and not made again."""
    done, number = 0, 0
    while done < times and number < MAX_TRIALS * times:
        kept, own = folder / f"{number}-of-{times}.json", folder / f"{number}-of-{times}"
        if kept.exists():
            trial = Trial(**json.loads(kept.read_text()))
        else:
            shutil.rmtree(own, ignore_errors=True)
            own.mkdir(parents=True)
            trial = Trial(fault.name, number)
            case = Case(folder.parents[1], own, Random(f"{seed}/{fault.name}/{number}"), number, times)
            fault.attempt(trial, case)
            if not trial.broken:  # else it is made again, and what it left stays to be looked at
                kept.write_text(json.dumps(asdict(trial)))
                shutil.rmtree(own)
        yield trial
        done, number = done + trial.times, number + 1


def _warm_up(folder: Path) -> None:
    """One run in this process: what is imported and compiled now needn't be in each fork."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = axiom_bench([*TINY, "data.size=2", "data.workers=1", f"results={folder}"])
    shutil.rmtree(folder)
    if code != 0:
        raise SystemExit(said.getvalue())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=sorted(FAMILIES), help="a family; may be repeated")
    parser.add_argument("--fault", metavar="WORDS", help="only the faults whose name has these words")
    parser.add_argument("--times", type=int, metavar="N", help="faults of each family (default: some 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("results/faults"), metavar="FOLDER")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
