"""Put bugs into a copy of the code, one at a time: does the gate see each, or a test?

python scripts/gate_mutants.py                      # all of scripts/mutants, a Markdown table
python scripts/gate_mutants.py --only guard         # those whose name has this text
python scripts/gate_mutants.py --seconds 600        # begins no further one after that; the same command goes on

A mutant is run over the gate's hard rows (experiment=gate) and the default run, model by model up to the first where
the gate sees it; where all hold the tests of the changed room run with -x. Judgements are kept in --folder as long as
the code stays as it is. The exit code is 1 where another than scripts/mutants says sees a bug, or nobody.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from time import monotonic

from mutants import MUTANTS
from mutants.judging import ROOT, Copy, Judgement, Mutant, control, judged, prepare

FOLDER = ROOT / "build" / "gate_mutants"


def judge_all(mutants: Sequence[Mutant], folder: Path, processes: int, seconds: float) -> dict[str, Judgement]:
    """{name: judgement} of those that were begun in time, as many at once as processes."""
    prepare()
    copies: Queue[Copy] = Queue()
    for number in range(processes):
        copies.put(copy := Copy(folder / f"copy_{number}"))
    control(copy, folder / "kept")
    end, judgements = monotonic() + seconds, dict[str, Judgement]()

    def judge(mutant: Mutant) -> None:
        if monotonic() < end:
            copy = copies.get()
            try:
                judgements[mutant.name] = judgement = judged(mutant, copy, folder / "kept")
            finally:
                copies.put(copy)
            seen = f"{judgement.by or 'MISSED'}, {judgement.seconds:.0f} s"
            print(f"{mutant.name}: {seen}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(judge, mutants))
    return judgements


def table(mutants: Iterable[Mutant], judgements: Mapping[str, Judgement]) -> str:
    """Markdown: each judged mutant and who sees it."""
    lines = ["| bug | what it does | seen by | rows of a model | the first |", "|:---|:---|:---|---:|:---|"]
    for mutant in (mutant for mutant in mutants if mutant.name in judgements):
        judgement = judgements[mutant.name]
        who = judgement.by or "**nobody**"
        who += f"; {mutant.unseen}" if mutant.unseen and judgement.by == "tests" else ""
        first, why = judgement.first[:160].replace("|", "\\|").replace("`", "'"), mutant.why.replace("|", "\\|")
        lines.append(f"| `{mutant.name}` | {why} | {who} | {judgement.rows or ''} | `{first}` |")
    return "\n".join(lines)


def failures(mutants: Iterable[Mutant], judgements: Mapping[str, Judgement]) -> Iterator[str]:
    """A line for each mutant that nobody sees, or another than the table of mutants says."""
    for mutant in mutants:
        judgement = judgements.get(mutant.name)
        if judgement is not None and judgement.by != mutant.seen_by:
            yield f"{mutant.name}: seen by {judgement.by or 'nobody'} ({judgement.first}), not by {mutant.seen_by}."


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(description="Does the gate see each of these bugs?")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of copies and of what was judged")
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants whose name has this text")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further mutant after that")
    options = parser.parse_args(argv)
    folder = options.folder.absolute()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.name]
    judgements = judge_all(chosen, folder, options.processes, options.seconds)
    print(table(chosen, judgements))
    wrong = list(failures(chosen, judgements))
    print(f"\n{len(judgements)} of {len(chosen)} judged, {len(wrong)} to mend.", *wrong, sep="\n", file=sys.stderr)
    return 1 if wrong or len(judgements) < len(chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
