"""The main result of a run, by the options of its report."""

from __future__ import annotations

from axiom_bench.report.options import options_of
from axiom_bench.statistics.answer import Conclusion, conclusion
from axiom_bench.statistics.run_folder import RunFolder


def run_conclusion(run: RunFolder) -> Conclusion:
    """Return the main result of a run. The headline decides, or otherwise the first column of the
    overview in which some methods lead.
    """
    options = options_of(run)
    columns = [name for name in options.columns if name not in options.columns_off]
    return conclusion(run, options.headline, columns, options.compare, options.rival)
