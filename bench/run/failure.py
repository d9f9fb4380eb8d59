"""Why a job ended early, as it can travel between processes: a plug-in's own error may not."""

from __future__ import annotations

import traceback

from omegaconf.errors import OmegaConfBaseException

from axiom_bench.errors import BenchError, is_out_of_memory


class Failure(Exception):
    """mendable: by the user. trace: where it happened, for a bug report. is_tainted: a plug-in changed what others
    read, so that what was computed beside it can't stay."""

    def __init__(self, message: str, mendable: bool = True, trace: str = "", is_tainted: bool = False) -> None:
        super().__init__(message, mendable, trace, is_tainted)  # what pickle hands on
        self.message, self.mendable, self.trace, self.is_tainted = message, mendable, trace, is_tainted

    @staticmethod
    def of(error: BaseException) -> Failure:
        """What an error is to the user."""
        if isinstance(error, Failure):
            return error
        is_tainted, first_line = getattr(error, "is_tainted", False), str(error).strip().partition("\n")[0]
        if isinstance(error, BenchError):
            return Failure(str(error), is_tainted=is_tainted)
        if isinstance(error, OmegaConfBaseException):
            return Failure(first_line)
        if is_out_of_memory(error):  # where no pass is to be halved, as in moving a network to its device
            return Failure(f"Out of memory ({first_line}); free some, or use another machine.")
        notes = getattr(error, "__notes__", [])  # which plug-in raised it: the user can mend that
        message = ", ".join([f"{type(error).__name__}: {error}", *notes])
        return Failure(message, bool(notes), "".join(traceback.format_exception(error)), is_tainted)
