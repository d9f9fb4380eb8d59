"""A transformer from the command line: model.reshape from the configuration to the records."""

from __future__ import annotations

from pathlib import Path

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.run.jobs.facts import Facts

NETWORK = """
import torch
from torchvision.models import VisionTransformer
from axiom_bench.cutting.tokens import Tokens

def build():
    model = VisionTransformer(96, 16, 2, 2, 8, 16, num_classes=10)
    torch.nn.init.normal_(model.heads.head.weight)
    return model

class Mine(Tokens):
    pass
"""


@pytest.fixture
def overrides(tmp_path: Path) -> tuple[str, ...]:
    file = tmp_path / "small_vit.py"
    file.write_text(NETWORK)
    layer = "encoder.layers.encoder_layer_1.ln_1"
    return (
        "model=user",
        f"model.architecture={file}:build",
        f"model.layer={layer}",
        "model.resize=96",
        "model.crop=96",
    )


def test_a_run_of_a_small_vit(run, rows, overrides):
    outcomes = run(*overrides, "model.reshape=tokens", "method=[grad_cam,ablation_cam_axiomatic]")
    assert [outcome.failure for outcome in outcomes] == [None]
    table = rows(outcomes)
    of = table[(table["method"] == "ablation_cam_axiomatic") & (table["metric"] == "sensitivity_error")]
    assert set(of["status"]) == {"ok"}
    assert (of["value"] < 1e-3).all()  # its contributions are the drops; float32


def test_tokens_without_a_reshape_are_one_sentence(run, overrides):
    (outcome,) = run(*overrides)
    assert outcome.failure.mendable
    assert "set model.reshape=tokens" in outcome.failure.message


def test_what_makes_maps_is_in_the_name_of_the_records(job, overrides, tmp_path: Path):
    own = f"model.reshape={tmp_path}/small_vit.py:Mine"
    jobs = [job(*overrides, reshape) for reshape in ("model.reshape=tokens", "model.reshape=[6,6]", own)]
    assert len({Facts(vit_job).common for vit_job in jobs}) == 3


@pytest.mark.parametrize(
    ("reshape", "sentence"),
    [
        ("token", "There is no reshape 'token'; did you mean 'tokens'"),
        ("[6]", r"model.reshape must be tokens, \[rows, columns\] or a class or null, not \[6\]"),
        (
            "nowhere:Mine",
            r"model.reshape='nowhere:Mine' can't be imported .*; give module:class or path/to/file.py:class",
        ),
        (
            "builtins:dict",
            r"Invalid reshape {}; give None, 'tokens', a grid \(H, W\), or an object with to_maps and from_maps",
        ),
    ],
)
def test_a_wrong_reshape_is_one_sentence(job, overrides, reshape: str, sentence: str):
    with pytest.raises(BenchError, match=sentence):
        job(*overrides, f"model.reshape={reshape}")
