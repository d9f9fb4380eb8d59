"""Where a run's time went, in lines."""

from __future__ import annotations

from axiom_bench.report.page.this_run import time_lines


def test_a_line_for_each_job_and_one_for_the_report():
    jobs = {
        "a on scenes": ({"start": 2.0, "trace": 6.0, "writing": 0.04}, {"images": 12, "images_per_second": 2.0}),
        "b on scenes": ({"start": 1.96}, {}),  # everything was there
    }
    assert list(time_lines(jobs, 10.0)) == [
        "a on scenes: 8.0 s, 2.00 images/s: start 2.0 s (25 %), trace 6.0 s (75 %), writing 0.0 s (<1 %)",
        "b on scenes: 2.0 s: start 2.0 s (100 %)",
        "together 20.0 s: report 10.0 s (50 %)",
    ]
