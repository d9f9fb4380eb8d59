"""The seconds of a job's stages, by a clock that the test sets."""

from __future__ import annotations

import pytest

from axiom_bench.run.stages import Stages


def test_a_stage_has_the_time_that_its_parts_leave():
    times = iter((0.0, 2.0, 10.0, 11.0))
    stages = Stages(lambda: next(times))
    stages.end("start")
    stages.end("writing", {"start": 1.0, "trace": 4.5})
    stages.end("writing")
    assert stages.seconds == pytest.approx({"start": 3.0, "trace": 4.5, "writing": 3.5})
