"""What a plug-in, a model's builder or an output's module reads is in the keys of their values, and of no others."""

import importlib
import os
import py_compile
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from axiom_bench import reads
from axiom_bench.cutting.trace import CutModel
from axiom_bench.records.holdings import RecordFile
from axiom_bench.records.sources import Sources
from axiom_bench.run.composing import settings
from axiom_bench.run.computing import compute
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job, Shard
from axiom_bench.run.sweep import configuration

from .conftest import failure, tiny

PLUGIN = """
import json
import os
import sqlite3
import subprocess
import torch
import numpy
import pandas
import pyarrow.parquet
from pathlib import Path
from importlib import import_module
from safetensors.torch import load_file
HERE = Path(__file__).parent

{at_import}

def cam(trace):
    {at_call}
    return trace.gradients

def metric(explanation):
    {at_call}
    return explanation.trace.scores
"""
Keys = dict[str, dict[str, str]]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of what other tests read."""
    monkeypatch.setattr(reads, "_reads", {})
    monkeypatch.setattr(reads, "_written", set())


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[str, Keys]]]:
    """(the job's common key, the keys of its values) as a process would have them that imports users' modules anew."""
    monkeypatch.syspath_prepend(tmp_path)

    def of(*overrides: str) -> tuple[str, Keys]:
        forget(tmp_path)
        with reads.recording(Sources().is_foreign):
            job = Job.of(configuration(tiny(("data.size=2", *overrides))))
            for plugin in job.methods:
                if plugin.name == "mine":
                    plugin(TRACE)
            facts = Facts(job)
            return facts.common, facts.values

    yield of
    forget(tmp_path)


class TRACE:
    gradients = torch.ones(1, 1, 1, 1)


def forget(folder: Path) -> None:
    reads._reads.clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


def by_another_process(path: Path, text: str) -> None:
    """What foreign code wrote itself is no input of it."""
    subprocess.run(["sh", "-c", f"printf %s '{text}' > '{path}'"], check=True)


def write(folder: Path, value: int) -> None:
    """Files of many kinds that hold a value."""
    (folder / "w.json").write_text(str(value))
    (folder / "help2.py").write_text(f"FACTOR = {value}\n")
    save_file({"w": torch.full((2,), float(value))}, folder / "w.safetensors")
    torch.save({"w": torch.full((2,), float(value))}, folder / "w.pth")
    importlib.import_module("numpy").save(folder / "w.npy", [value])
    importlib.import_module("pandas").DataFrame({"w": [value]}).to_parquet(folder / "w.parquet")


READ = [
    "open(HERE / 'w.json').read()",
    "(HERE / 'w.json').read_bytes()",
    "os.close(os.open(HERE / 'w.json', os.O_RDONLY))",
    "torch.load(HERE / 'w.pth')",
    "numpy.load(HERE / 'w.npy')",
    "numpy.memmap(HERE / 'w.npy', mode='r')",
    "load_file(HERE / 'w.safetensors')",
    "pyarrow.parquet.read_table(HERE / 'w.parquet')",
    "pyarrow.parquet.ParquetFile(HERE / 'w.parquet')",
    "pyarrow.memory_map(str(HERE / 'w.parquet'))",
    "pandas.read_parquet(HERE / 'w.parquet')",
    "import_module('help2')",
    "__import__('help2')",
    "exec(open(HERE / 'help2.py').read())",
    "__import__('runpy').run_path(HERE / 'help2.py')",
    "os.environ['USERS_ALPHA']",
    "os.getenv('USERS_ALPHA')",
    "os.environ.get('USERS_ALPHA', '1')",
    "'USERS_ALPHA' in os.environ",
]


QUICK = {READ[0], "torch.load(HERE / 'w.pth')", "import_module('help2')", "os.environ['USERS_ALPHA']"}
AT_CALL = [pytest.param(read, "at_call", marks=() if read in QUICK else pytest.mark.slow) for read in READ]


@pytest.mark.parametrize(("read", "when"), [*AT_CALL, (READ[0], "at_import")])
def test_what_a_method_reads_is_in_its_keys_alone(keys, tmp_path, monkeypatch, read, when):
    (tmp_path / "users_cam.py").write_text(PLUGIN.format(**{"at_import": "", "at_call": "pass", when: read}))
    answers = []
    for value in (1, 1, 2):
        write(tmp_path, value)
        monkeypatch.setenv("USERS_ALPHA", str(value))
        answers.append(keys("+method.mine._target_=users_cam.cam"))
    (common, first), again, (other_common, other) = answers
    assert (common, first) == again
    assert common == other_common
    if "' in os" not in read:  # it is set either way
        assert {name for name in first if first[name] != other[name]} == {"mine"}
    monkeypatch.delenv("USERS_ALPHA")
    if "USERS_ALPHA" in read and "['" not in read:
        assert keys("+method.mine._target_=users_cam.cam")[1]["mine"] not in (first["mine"], other["mine"])


def test_a_file_that_comes_to_be_is_in_the_keys_and_what_is_only_written_or_temporary_is_not(keys, tmp_path):
    text = "\n".join(
        [
            "try:\n    FACTOR = open(HERE / 'new.json').read()\nexcept FileNotFoundError:\n    pass",
            "(HERE / 'log.txt').open('a').write('x')",
            "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as file:\n    open(file.name).read()",
        ]
    )
    (tmp_path / "users_cam.py").write_text(PLUGIN.format(at_import=text, at_call="pass"))
    method = "+method.mine._target_=users_cam.cam"
    first = keys(method)
    assert first == keys(method)
    by_another_process(tmp_path / "new.json", "1")
    assert first[1]["mine"] != keys(method)[1]["mine"]


@pytest.mark.parametrize(
    "read", ["import_module('email.mime.text')", "import matplotlib", "__import__('os').environ.get", "os.listdir('.')"]
)
def test_libraries_and_the_system_are_not_in_the_keys(keys, tmp_path, monkeypatch, read):
    """Whatever they open while they are imported: only their versions count, and no variable that they look up."""
    (tmp_path / "users_cam.py").write_text(PLUGIN.format(at_import=read, at_call="pass"))
    before = keys("+method.mine._target_=users_cam.cam")
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("MPLBACKEND", "svg")
    assert keys("+method.mine._target_=users_cam.cam") == before
    assert [dict(vars(reads.of("users_cam")), modules=0)] == [{**vars(reads.Reads()), "modules": 0}]


NETWORK = """
import os
import torch
from pathlib import Path
from torch import nn
HERE = Path(__file__).parent

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
        {of_network}

    def forward(self, images):
        return self.head(self.layers(images))

def build():
    {of_builder}
    return Scaled()

class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        {of_output}

    def forward(self, output):
        return output
"""
BUFFER = "self.register_buffer('scale', torch.tensor(float(os.environ['USERS_ALPHA'])), persistent=False)"


@pytest.mark.parametrize(
    ("of", "text"),
    [
        ("of_builder", "(HERE / 'w.json').read_text()"),
        ("of_output", "(HERE / 'w.json').read_text()"),
        ("of_network", BUFFER.replace("os.environ['USERS_ALPHA']", "(HERE / 'w.json').read_text()")),
    ],
)
def test_what_a_networks_builder_and_its_output_read_is_in_the_common_key(keys, tmp_path, of, text):
    made = {"of_network": "pass", "of_builder": "pass", "of_output": "pass", of: text}
    (tmp_path / "users_net.py").write_text(NETWORK.format(**made))
    settings = ["model=user", f"model.architecture={tmp_path}/users_net.py:build", "model.weights=null"]
    settings += ["model.layer='layers.1'", "model.resize=96", "target=predicted", "model.output=users_net:Weighted"]
    answers = []
    for value in (1, 1, 2):
        write(tmp_path, value)
        answers.append(keys(*settings, "model.name=mine")[0])
    assert answers[0] == answers[1] != answers[2]


def test_tensors_that_are_not_among_the_weights_are_in_the_common_key(job):
    def key_of(value: float, name: str) -> str:
        module = torch.nn.Sequential(torch.nn.ReLU())
        if name == "buffer":
            module[0].register_buffer(name, torch.tensor(value), persistent=False)
        else:
            setattr(module[0], name, torch.tensor(value))
        return Facts(replace(plain, model=replace(plain.model, module=module))).common

    plain = job()
    assert key_of(1, "buffer") == key_of(1, "buffer") != key_of(2, "buffer")
    assert key_of(1, "plain") == key_of(1, "plain") != key_of(2, "plain")


LATE = """
from pathlib import Path
is_late = False

def cam(trace):
    if is_late:
        (Path(__file__).parent / "late.json").read_text()
    return trace.gradients
"""


def test_what_is_first_read_while_values_are_computed_decides_whether_they_are_still_there(run, tmp_path, monkeypatch):
    """By a class's own file, for example: here from the second shard on. The keys are there before."""
    late, shards = tmp_path / "late.json", list[str]()
    (tmp_path / "users_late.py").write_text(LATE)
    monkeypatch.syspath_prepend(tmp_path)
    original = compute.compute

    def counted(job: Job, cut_model: CutModel, shard: Shard, key: str, *rest: Any) -> RecordFile:
        sys.modules["users_late"].is_late = bool(shards)
        shards.append(key)
        return original(job, cut_model, shard, key, *rest)

    monkeypatch.setattr(compute, "compute", counted)
    values = []
    for text, computed in (("1", 3), ("1", 0), ("2", 2), ("2", 0)):
        late.write_text(text)
        forget(tmp_path)
        (outcome,) = run("+method.mine._target_=users_late.cam", "method=[grad_cam]", "metric=[box_iou]")
        assert outcome.failure is None
        assert outcome.computed.shards == computed
        assert outcome.facts["reads"] == {str(late): reads.current(str(late))}
        values.append(outcome.stored.values)
    assert values[:-1] == values[1:]
    assert shards[3:] == shards[1:3]


CHANGING = """
from pathlib import Path
FILE = Path(__file__).parent / "w.json"
FILE.read_text()

def cam(trace):
    FILE.read_text()
    return trace.gradients
"""


def test_a_file_that_is_changed_while_the_run_goes_on_ends_the_job(run, tmp_path, monkeypatch):
    (tmp_path / "users_changing.py").write_text(CHANGING)
    (tmp_path / "w.json").write_text("1")
    monkeypatch.syspath_prepend(tmp_path)
    original = compute.compute

    def changed(*arguments: Any) -> RecordFile:
        by_another_process(tmp_path / "w.json", "another")
        return original(*arguments)

    monkeypatch.setattr(compute, "compute", changed)
    message = failure(run("+method.mine._target_=users_changing.cam", "method=[grad_cam]", "metric=[box_iou]"))
    assert message.startswith(f"{tmp_path}/w.json, which a plug-in or a model of yours reads, was changed while")


def test_a_run_says_what_no_key_can_know(run, tmp_path, monkeypatch):
    text = "import subprocess\nsubprocess.run(['true'])\n\ndef cam(trace):\n    return trace.gradients\n"
    (tmp_path / "users_program.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    (outcome,) = run("+method.mine._target_=users_program.cam", "method=[grad_cam]", "metric=[box_iou]")
    assert outcome.notes == ("users_program runs another program: what it gets there isn't in the keys of its values",)


@pytest.mark.parametrize("how", ["by path", "by name"])
def test_code_is_compiled_from_the_text_that_is_hashed(keys, tmp_path, how):
    """Python takes bytecode of the same second and length for that of the file: here also of another text."""
    file = tmp_path / "users_scores.py"
    name = f"{file}:scores" if how == "by path" else "users_scores:scores"
    answers = []
    for factor in (1, 2):
        file.write_text(f"def scores(logits):\n    return {factor} * logits\n")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        common, _ = keys(f"model.output={name}", "target=predicted")
        (module,) = (module for name, module in sys.modules.items() if "users_scores" in name)
        answers.append((common, module.scores(1)))
        py_compile.compile(str(file))
    assert [scores for _, scores in answers] == [1, 2]
    assert answers[0][0] != answers[1][0]


def test_a_module_that_was_changed_after_its_import_counts_as_it_was_imported(keys, tmp_path):
    file = tmp_path / "users_cam.py"
    file.write_text(PLUGIN.format(at_import="", at_call="pass"))
    method = "+method.mine._target_=users_cam.cam"
    before = keys(method)
    file.write_text(PLUGIN.format(at_import="FACTOR = 2", at_call="pass"))
    with reads.recording(Sources().is_foreign):
        assert Facts(Job.of(configuration(tiny(("data.size=2", method))))).values == before[1]
    assert keys(method)[1]["mine"] != before[1]["mine"]


@pytest.mark.parametrize(("overrides", "is_watched"), [
    ((), False),
    (("+method.mine._target_=users_cam.cam",), True),
    (("+metric.mine._target_=users_cam.metric",), True),
    (("+metric.mine._target_=axiom_bench.metrics.gini.gini", "+metric.mine.values=users_cam.names"), True),
    (("+metric.mine._target_=axiom_bench.metrics.gini.gini", "+metric.mine.aggregate_values=users_cam.names"), True),
    (("+method.mine._target_=axiom_bench.methods.smoothed.smoothed", "+method.mine.params.method=users_cam.cam"), True),
    (("model.output=users_net:Weighted",), True),
    (("model.source=user", "model.architecture=users_net:build"), True),
])  # fmt: skip
def test_nothing_is_watched_where_no_code_of_a_user_is_named(overrides, is_watched):
    config = configuration(tiny(overrides))
    outer = len(reads._outer)
    with settings.recording(config):
        assert len(reads._outer) - outer == is_watched
