"""Give the package damaged and hostile input by a seed, in process, and count what comes of it.

python scripts/fuzz.py                                # 10,000 cases of all kinds
python scripts/fuzz.py --cases 500 --seed 7
python scripts/fuzz.py --kind weights --case 12       # one case again, its error in full

A case is read (with the right result), refused in a sentence, or a finding: another exception, an exit, a wrong result
without a word, or more than a minute. Prints a table of the kinds and every finding; exits with 1 where there is one.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import time
from collections.abc import Sequence

from fuzzing.kinds import KINDS
from fuzzing.running import Outcome, cases, run_case

CASES = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    kinds = {name: KINDS[name] for name in options.kind or KINDS}
    one = options.case is not None
    chosen = [(name, options.case) for name in kinds] if one else cases(kinds, options.cases)
    start = time.monotonic()
    jobs = [(name, options.seed, index) for name, index in chosen]
    with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=500) as pool:
        outcomes = pool.starmap(_run, jobs, chunksize=8)
    print(_table(outcomes))
    for outcome in outcomes:
        if outcome.what == "finding" or one:
            print(f"\n{outcome.what}: {outcome.made}\n{outcome.text}")
            print(f"again: python scripts/fuzz.py --seed {options.seed} --kind {outcome.kind} --case {outcome.index}")
    print(f"\n{len(outcomes):,} cases, seed {options.seed}, {time.monotonic() - start:,.0f} s")
    return int(any(outcome.what == "finding" for outcome in outcomes))


def _run(name: str, seed: int, index: int) -> Outcome:
    return run_case(name, KINDS[name], seed, index)


def _table(outcomes: Sequence[Outcome]) -> str:
    lines = ["| kind | cases | read | refused | findings |", "|:---|---:|---:|---:|---:|"]
    for name in dict.fromkeys(outcome.kind for outcome in outcomes):
        counts = collections.Counter(outcome.what for outcome in outcomes if outcome.kind == name)
        lines.append(f"| {name} | {counts.total():,} | {counts['read']} | {counts['refused']} | {counts['finding']} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=CASES, help=f"in all (default: {CASES})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="only this kind; may be repeated")
    parser.add_argument("--case", type=int, help="only the case of this number")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
