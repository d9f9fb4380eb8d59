"""Run folders that the tests share."""

from tests.made_runs import (  # noqa: F401
    edit_manifest,
    make_records,
    make_run,
    make_told,
    undrawn,
    usual,
    usual_run,
    write,
)
