"""Run folders that the tests share."""

from tests.made_runs import edit_manifest, make_records, make_run, undrawn, usual, usual_run  # noqa: F401
