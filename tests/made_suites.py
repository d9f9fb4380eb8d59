"""A suite of two parts and two images, in the place of the published ones."""

import pytest
import yaml

from axiom_bench.cli import leaderboard, rank
from axiom_bench.run.composing import suites

TINY = {
    "shared": ["data.size=2", "data.target=label"],
    "parts": {
        "first": ["data=scenes", "model=scenes_vgg,scenes_resnet", "metric=[sensitivity_error]"],
        "second": ["data=planted", "model=planted_or", "metric=[sensitivity_error]"],
    },
}


@pytest.fixture
def tiny_suite(tmp_path, monkeypatch):
    """Writes a suite called tiny, with these entries over TINY's, beside which there is no
    other.
    """
    (tmp_path / "conf/suite").mkdir(parents=True)
    for module in (suites, rank, leaderboard):
        monkeypatch.setattr(module, "conf_folder", lambda: tmp_path / "conf")

    def write(**entries):
        (tmp_path / "conf/suite/tiny.yaml").write_text(yaml.safe_dump(TINY | entries))

    write()
    return write
