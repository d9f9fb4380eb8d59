"""Read the answer of `axiom-bench choose` from a run folder. Other runs have none."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from axiom_bench.records import files
from axiom_bench.statistics.choice import Choice
from axiom_bench.statistics.run_folder import RunFolder

FILE = "choice.json"  # in the run folder


def choice_of(run: RunFolder) -> Choice | None:
    """Return the choice that this run was measured for; None if there is none, or none that can be
    read.

    Args:
        run: The run, as read from its folder.
    """
    content = files.read_json_or_none(run.path / FILE)
    if content is None:
        return None
    try:
        choice = TypeAdapter(Choice).validate_python(content)
    except ValidationError:
        return None
    return choice if choice.sentences else None
