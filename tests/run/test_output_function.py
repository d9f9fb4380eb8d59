"""A network that doesn't return logits, and a user's own output function, from the command line to the records."""

from __future__ import annotations

from pathlib import Path

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.run.jobs.facts import Facts

NETWORK = """
from torch import nn

class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        self.classes = nn.Conv2d(8, 10, 1)

    def forward(self, images):
        return {"out": self.classes(self.body(images)), "aux": None}

def build():
    return Dense()
"""
FUNCTION = """
import torch
from torch import nn

def left_half(output):
    maps = output["out"]
    return maps[..., : FACTOR * maps.shape[-1] // 2].sum((2, 3))

class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.full((10,), float(FACTOR)))

    def forward(self, output):
        return output["out"].sum((2, 3)) * self.weight

module = Weighted()
not_scores = lambda output: output
"""


@pytest.fixture
def overrides(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "dense.py").write_text(NETWORK)
    (tmp_path / "own.py").write_text(FUNCTION.replace("FACTOR", "1"))
    return ("model=user", f"model.architecture={tmp_path}/dense.py:build", "model.resize=96", "model.crop=96")


def test_a_run_of_a_network_that_returns_a_dict(run, rows, overrides):
    outcomes = run(*overrides)
    assert [outcome.failure for outcome in outcomes] == [None]
    table = rows(outcomes)
    assert set(table["layer"]) == {"body.3"}  # what comes before the layer of the classes
    assert set(table[table["metric"] == "sensitivity_error"]["status"]) == {"ok"}


def test_a_run_with_an_output_function(run, rows, overrides, tmp_path):
    outcomes = run(*overrides, f"model.output={tmp_path}/own.py:left_half", "model.layer=body")
    assert [outcome.failure for outcome in outcomes] == [None]
    table = rows(outcomes)
    assert set(table["model"]) == {"user+left_half"}
    assert set(table[table["metric"] == "sensitivity_error"]["status"]) == {"ok"}


def test_metrics_of_the_score_of_a_named_output(run, rows, overrides):
    deletion = ("metric=[deletion_auc,average_drop]", "metric.deletion_auc.params.output=logit")
    table = rows(run(*overrides, *deletion, "model.output=multi_label", "method=[hires_cam]"))
    assert set(table["model"]) == {"user+multi_label"}
    of = dict(table.groupby("metric")["status"].agg(set))
    assert of["deletion_auc"] <= {"ok", "zero_map"}
    assert "ok" in of["deletion_auc"]
    assert of["average_drop"] <= {"no_probability", "zero_map"}


@pytest.mark.parametrize("name", ["left_half", "Weighted", "module"])
def test_the_functions_source_and_tensors_are_facts(job, overrides, tmp_path, name):
    """The same file with another constant gives other values, so it has another key."""
    (tmp_path / "other.py").write_text(FUNCTION.replace("FACTOR", "2"))
    plain = job(*overrides, "model.layer=body")
    output = [
        job(*overrides, "model.layer=body", f"model.output={tmp_path}/{file}.py:{name}") for file in ("own", "other")
    ]
    common = [Facts(each).common for each in (plain, *output)]
    assert len(set(common)) == 3
    assert Facts(job(*overrides, "model.layer=body", f"model.output={tmp_path}/own.py:{name}")).common == common[1]


def test_a_modules_tensors_are_facts(job, overrides, tmp_path):
    first = job(*overrides, "model.layer=body", f"model.output={tmp_path}/own.py:module")
    second = job(*overrides, "model.layer=body", f"model.output={tmp_path}/own.py:module")
    assert Facts(first).common == Facts(second).common
    second.model.output.function.weight.mul_(2)
    assert Facts(first).common != Facts(second).common


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("own.py:missing", "There is no function in .*own.py 'missing'"),
        ("nothing.py:score", "model.output=.*can't be imported .* a function from what the network returns"),
        ("own.py:not_scores", "output function output must return scores .* it returns a dict"),
    ],
)
def test_mistakes_are_one_sentence(job, overrides, tmp_path, output, message):
    with pytest.raises(BenchError, match=message) as error:
        job(*overrides, "model.layer=body", f"model.output={tmp_path}/{output}")
    assert "\n" not in str(error.value)
