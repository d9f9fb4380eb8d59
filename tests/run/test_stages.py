"""The stages of a job, by a clock that the test sets."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from axiom_bench.run.stages import Stages


def test_a_stage_has_the_time_that_its_parts_leave_and_may_go_on():
    times, shown = iter((0.0, 2.0, 3.0, 11.0, 12.0, 13.0)), list[str]()
    stages = Stages("a", lambda: next(times), lambda title: nullcontext(shown.append(title)))
    with stages.stage("start"):
        pass
    with stages.stage("writing") as parts:
        parts.update({"start": 1.0, "trace": 4.5})
    with stages.stage("writing"):
        pass
    assert stages.seconds == pytest.approx({"start": 3.0, "trace": 4.5, "writing": 3.5})
    assert shown == ["a: model and data", "a: values", "a: values"]
