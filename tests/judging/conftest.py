"""Run folders that the tests share."""

import numpy as np
import pandas as pd
import pytest

from tests.made_runs import edit_manifest, make_records, make_run, rows_of, undrawn, usual_run  # noqa: F401


@pytest.fixture
def make_judged(make_run):  # noqa: F811
    """(images, methods, means, folder) -> a run folder; methods without a mean have no value."""

    def make(images, methods, means, folder="run"):
        generator, frames = np.random.default_rng(0), []
        for metric, (of_methods, spread) in means.items():
            values = {
                name: of_methods.get(name, np.nan) + spread * generator.normal(size=images)
                for name in methods
            }
            frames.append(rows_of(metric, values, layer="1"))
        options = {
            "methods": methods,
            "layers": {"net": ("1",)},
            "pictures": False,
            "runtime": False,
        }
        return make_run(pd.concat(frames, ignore_index=True), folder, **options)

    return make
