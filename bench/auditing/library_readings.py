"""Formulas as pytorch-grad-cam computes them, which `axiom_bench.compat` has as classes.

They differ from the formulas in steps that no switch of `readings` has, such as a sign or the
function that resizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from axiom_bench import compat
from axiom_bench.auditing.case import CamFunction, Case
from axiom_bench.auditing.dependences import difference
from axiom_bench.auditing.observation import observe
from axiom_bench.auditing.result import title_of
from axiom_bench.auditing.verdict import FormulaAnswer, Status, formula_text
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.cam_function import as_cam_function
from axiom_bench.isolation.foreign_calls import quiet

READING = "as pytorch-grad-cam computes it"
LARGEST_DIFFERENCE = 1e-5  # of the maximum; that library's maps are float32


def with_library_readings(
    answer: FormulaAnswer, cam: CamFunction, cases: Sequence[Case], expected: str | None
) -> FormulaAnswer:
    """Return the answer with the formula that an implementation computes as pytorch-grad-cam does.

    Args:
        answer: The answer without a known formula, which is returned if no class is equal.
        cam: The implementation.
        cases: The cases on which it has maps.
        expected: The key of the expected method, None if none was named.
    """
    observed = [observe(cam, case).maps for case in cases]
    for name in compat.__all__:
        library_class = getattr(compat, name)
        try:
            with quiet():
                library_cam = as_cam_function(library_class, {"reading": "grad-cam"})
                differences = _differences(library_cam, cases, observed)
        except BenchError:  # the base class, or a class that doesn't fit a network
            continue
        if differences is not None:
            return _known(answer, library_class.method, differences, expected)
    return answer


def _differences(
    library_cam: CamFunction, cases: Sequence[Case], observed: Sequence[Tensor]
) -> dict[str, float] | None:
    """Return the difference on each case; None if one is larger than rounding."""
    differences = {}
    for case, maps in zip(cases, observed, strict=True):
        library_maps = observe(library_cam, case).maps
        if maps.shape != library_maps.shape:
            return None
        differences[case.name] = difference(maps, library_maps)
        if differences[case.name] > LARGEST_DIFFERENCE:
            return None
    return differences


def _known(
    answer: FormulaAnswer, method: str, differences: Mapping[str, float], expected: str | None
) -> FormulaAnswer:
    """Return the answer that an implementation computes a method as pytorch-grad-cam does."""
    name = plugins.matching("method", method)
    text = formula_text(title_of(name), [READING])
    verdict = f"computes {text} to {max(differences.values()):.0e}"
    status: Status = "known"
    if expected not in (None, name):
        status = "other_than_named"
        verdict = f"computes {text}; {title_of(expected)} was expected"
    return replace(
        answer,
        verdict=verdict,
        status=status,
        formula=name,
        changes=(READING,),
        differences=differences,
    )
