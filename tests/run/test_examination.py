"""The first step of a run, and `axiom-bench doctor`: what is found before anything is computed."""

import json
import re

import pytest

from axiom_bench.cli.main import main
from axiom_bench.run import examining

from .conftest import RUN, failure, pictures, tiny

NETWORKS = """
import torch
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8, track_running_stats=kind != "batch")
        self.linear, self.kind = nn.Linear(8, 4), kind

    def forward(self, x):
        scores = self.linear(self.norm(self.conv(x)).relu().mean((2, 3)))
        return functional.dropout(scores) if self.kind == "dropout" else scores
"""


@pytest.fixture
def network(tmp_path):
    """Settings of a network of a kind on four images."""
    (tmp_path / "net.py").write_text(NETWORKS)
    of_data = pictures(tmp_path / "photos", *(f"{name}.png" for name in "abcd"))
    of_model = ("model=user", f"model.architecture={tmp_path}/net.py:Net", "model.resize=[64,64]")
    return lambda kind: (*of_model, f"+model.kwargs.kind={kind}", *of_data)


def test_a_network_that_draws_ends_its_job_by_one_sentence_and_has_no_values(run, results, network):
    message = failure(run(*network("dropout")))
    assert "by dropout in Net" in message
    assert "\n" not in message
    assert not list((results / RUN).glob("records/*"))


@pytest.mark.slow
def test_a_network_that_depends_on_batch_mates_has_the_values_of_each_image_alone(
    run, rows, network, results, capsys
):
    together = run(*network("batch"))
    note = "BatchNorm2d 'norm' takes"
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count(note) == 1
    (data,) = together[0].facts.data.values()
    assert note in " ".join(data.notes)
    alone = run(*network("batch"), "data.batch_size=1", "shard_size=1")
    table, one_by_one = rows(together), rows(alone)
    assert table["status"].to_list() == one_by_one["status"].to_list()
    assert table["value"].to_numpy() == pytest.approx(
        one_by_one["value"].to_numpy(), abs=1e-6, nan_ok=True
    )


@pytest.mark.slow
def test_a_note_of_several_jobs_is_printed_once_with_the_others(run, network, capsys):
    run(*network("batch"), "model.layer=conv,norm")
    text = capsys.readouterr().out
    assert text.count("BatchNorm2d 'norm' takes") == 1
    assert re.search(
        r"at conv on .*: 1 of the notes above holds for .* at norm on .* as well", text
    )


@pytest.mark.slow
def test_doctor_prints_a_note_of_several_jobs_once(network, capsys):
    assert main(["doctor", *tiny(network("batch")), "model.layer=conv,norm"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "batch: note" in line]
    assert re.match(r".* at conv on .*, .* at norm on .*: batch: note", line)


@pytest.mark.slow
def test_answers_that_are_ok_print_nothing_and_a_second_command_reads_them(
    run, results, network, capsys, monkeypatch
):
    run(*network("none"))
    (stored,) = (results / RUN).glob("examination/*.json")
    answers = json.loads(stored.read_text())["answers"]
    assert {question: level for question, level, _ in answers}.items() >= {
        ("deterministic", "ok"),
        ("batch", "ok"),
    }
    assert not any(sentence in capsys.readouterr().out for _, _, sentence in answers)
    monkeypatch.setattr(examining, "examination", None)  # which nobody calls
    (outcome,) = run(*network("none"), "metric=[zeta,epsilon]")
    assert outcome.failure is None


@pytest.mark.parametrize(("kind", "code", "line"), [
    ("none", 0, "deterministic: ok"), ("batch", 0, "batch: note, Net"), ("dropout", 2, "deterministic: stop, Net"),
])  # fmt: skip
def test_doctor_prints_an_answer_a_line_and_its_exit_code_says_whether_a_run_would_stop(
    network, kind, code, line, capsys, tmp_path
):
    assert main(["doctor", *tiny(network(kind)), f"results={tmp_path}/results"]) == code
    assert f": {line}" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_doctor_says_what_can_not_be_loaded_and_goes_on(network, capsys):
    assert main(["doctor", *tiny(network("none")), "model.layer=conv,cnov"]) == 2
    printed = capsys.readouterr().out
    assert "settings: stop, There is no layer 'cnov'; did you mean 'conv'" in printed
    assert "layer: ok, conv gives 8 maps" in printed


def test_doctor_says_what_a_run_notes_of_the_data(network, capsys, tmp_path):
    assert main(["doctor", *tiny(network("none")), *pictures(tmp_path / "photos", "a.png")]) == 0
    assert (
        "data: note, the images of 'folder' have no labels (a.png lies in no folder"
        in capsys.readouterr().out
    )
