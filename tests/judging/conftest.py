"""Run folders that the tests of judging share."""

import numpy as np
import pandas as pd
import pytest

from tests.made_runs import edit_manifest, make_records, make_run, rows_of, undrawn, usual_run  # noqa: F401


@pytest.fixture
def make_judged(make_run):  # noqa: F811
    """A function (images, methods, means, folder) -> the folder of a run with such values.

    `means` has for each metric the mean value of each method and the spread of an image. A method
    without a mean has no value.
    """

    def make(images, methods, means, folder="run"):
        generator = np.random.default_rng(0)
        frames = []
        for metric, (mean_by_method, spread) in means.items():
            values = {
                method: mean_by_method.get(method, np.nan) + spread * generator.normal(size=images)
                for method in methods
            }
            frames.append(rows_of(metric, values, layer="1"))
        return make_run(
            pd.concat(frames, ignore_index=True),
            folder,
            methods=methods,
            layers={"net": ("1",)},
            pictures=False,
            runtime=False,
        )

    return make
