"""Tests of the first step of a run and of `axiom-bench doctor`.

Both examine the network and the data before anything is computed.
"""

import json
import re

import pytest

from axiom_bench.cli.main import main
from axiom_bench.run import examining

from .conftest import RUN, failure, tiny_overrides, write_images

NETWORKS = """
import torch
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 5, 4)
        self.norm = nn.BatchNorm2d(8, track_running_stats=kind != "batch")
        self.linear = nn.Linear(8, 4)
        self.kind = kind

    def forward(self, x):
        scores = self.linear(self.norm(self.conv(x)).relu().mean((2, 3)))
        return functional.dropout(scores) if self.kind == "dropout" else scores
"""


@pytest.fixture
def network(tmp_path):
    """A function that returns the settings of a network of one kind on four images."""
    (tmp_path / "net.py").write_text(NETWORKS)
    data = write_images(tmp_path / "photos", "a.png", "b.png", "c.png", "d.png")

    def settings(kind):
        return (
            "model=user",
            f"model.architecture={tmp_path}/net.py:Net",
            "model.resize=[64,64]",
            f"+model.kwargs.kind={kind}",
            *data,
        )

    return settings


@pytest.mark.slow
def test_a_network_that_draws_ends_its_job_by_one_sentence_and_has_no_values(run, results, network):
    message = failure(run(network("dropout")))
    assert "by dropout in Net" in message
    assert "\n" not in message
    assert not list((results / RUN).glob("records/*"))


@pytest.mark.slow
def test_a_network_that_depends_on_batch_mates_has_the_values_of_each_image_alone(
    run, rows, network, results, capsys
):
    (outcome,) = run(network("batch"))
    note = "BatchNorm2d 'norm' takes"
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count(note) == 1
    (data,) = outcome.facts.data.values()
    assert note in " ".join(data.notes)

    single_outcomes = run([*network("batch"), "data.batch_size=1", "shard_size=1"])
    table = rows([outcome])
    expected = rows(single_outcomes)
    assert table["status"].to_list() == expected["status"].to_list()
    expected_values = pytest.approx(expected["value"].to_numpy(), abs=1e-6, nan_ok=True)
    assert table["value"].to_numpy() == expected_values


@pytest.mark.slow
def test_a_note_of_several_jobs_is_printed_once_with_the_others(run, network, capsys):
    run([*network("batch"), "model.layer=conv,norm"])
    text = capsys.readouterr().out
    assert text.count("BatchNorm2d 'norm' takes") == 1
    sentence = r"at conv on .*: 1 of the notes above holds for .* at norm on .* as well"
    assert re.search(sentence, text)


@pytest.mark.slow
def test_doctor_prints_a_note_of_several_jobs_once(network, capsys):
    assert main(["doctor", *tiny_overrides(network("batch")), "model.layer=conv,norm"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "batch: note" in line]
    assert re.match(r".* at conv on .*, .* at norm on .*: batch: note", line)


@pytest.mark.slow
def test_answers_that_are_ok_print_nothing_and_a_second_command_reads_them(
    run, results, network, capsys, monkeypatch
):
    run(network("none"))
    (stored,) = (results / RUN).glob("examination/*.json")
    answers = json.loads(stored.read_text())["answers"]
    levels = {question: level for question, level, _ in answers}
    assert levels["deterministic"] == "ok"
    assert levels["batch"] == "ok"
    printed = capsys.readouterr().out
    assert not any(sentence in printed for _, _, sentence in answers)

    monkeypatch.setattr(examining, "examination", None)  # a call would raise
    (outcome,) = run([*network("none"), "metric=[zeta,epsilon]"])
    assert outcome.failure is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "code", "line"),
    [
        ("none", 0, "deterministic: ok"),
        ("batch", 0, "batch: note, Net"),
        ("dropout", 2, "deterministic: stop, Net"),
    ],
)
def test_doctor_prints_an_answer_a_line_and_its_exit_code_says_whether_a_run_would_stop(
    network, kind, code, line, capsys, tmp_path
):
    assert main(["doctor", *tiny_overrides(network(kind)), f"results={tmp_path}/results"]) == code
    assert f": {line}" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_doctor_says_what_can_not_be_loaded_and_goes_on(network, capsys):
    assert main(["doctor", *tiny_overrides(network("none")), "model.layer=conv,cnov"]) == 2
    printed = capsys.readouterr().out
    assert "settings: stop, There is no layer 'cnov'; did you mean 'conv'" in printed
    assert "layer: ok, conv gives 8 maps" in printed


@pytest.mark.slow
def test_doctor_says_what_a_run_notes_of_the_data(network, capsys, tmp_path):
    images = write_images(tmp_path / "photos", "a.png")
    assert main(["doctor", *tiny_overrides(network("none")), *images]) == 0
    sentence = "data: note, the images of 'folder' have no labels (a.png lies in no folder"
    assert sentence in capsys.readouterr().out
