"""Runs on s3://, results and data: commands of several machines, each with an empty cache, against moto's server."""

import io
import os
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from axiom_bench import metrics, report
from axiom_bench.cli import benchmark  # noqa: F401 - once here, and not in each of the commands
from axiom_bench.data.embedded import Scenes
from axiom_bench.errors import BenchError
from axiom_bench.gate import gate  # noqa: F401
from axiom_bench.records import files, remote
from axiom_bench.run import fetching
from axiom_bench.statistics.run_folder import RunFolder
from tests.faults.runs import Run, contents, shards_of, start, stopped_at_the_end, wait_until

pytest.importorskip("s3fs", reason="the extra s3 isn't installed")
pytest.importorskip("moto", reason="moto[s3], flask and flask-cors aren't installed")
pytestmark = pytest.mark.slow  # a server, and a process for each machine

RESULTS = "s3://bench/results"
URL = f"{RESULTS}/quick/default"
DATA = "s3://bench/val"
TINY = (
    *(
        "run=default",
        "model=scenes_vgg",
        "data=webdataset",
        "data.batch_size=4",
        "shard_size=2",
        "device=cpu",
        "runtime.repeats=0",
    ),
    *("method=[grad_cam,xgrad_cam]", "metric=[sensitivity_error,zeta]", "pictures.rows=0", "pictures.gallery=0"),
)
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
STORE = (f"results={RESULTS}", f"data.path={DATA}", f"data.classes={DATA}/classes.txt")
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server of its own, in a process of its own."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", SERVER], text=True, **streams) as server:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Eight scenes in two tar shards, and the classes."""
    folder, scenes = tmp_path_factory.mktemp("data"), Scenes(size=8)
    for number in range(2):
        with tarfile.open(folder / f"val-{number}.tar", "w") as tar:
            for index in range(4 * number, 4 * number + 4):
                sample, content = scenes.read(index), io.BytesIO()
                sample.image.save(content, "PNG")
                add(tar, f"{index}.png", content.getvalue())
                add(tar, f"{index}.cls", str(sample.label).encode())
    (folder / "classes.txt").write_text("\n".join(map(str, range(len(scenes.classes)))))
    return folder


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def expected(tmp_path_factory, data) -> str:
    """The values of the same run in a folder, on data in a folder, by one process."""
    for name in metrics.names():  # which a command imports, to know what its report may name
        metrics.get(name)
    work = tmp_path_factory.mktemp("alone")
    of_data = (f"data.path={data}", f"data.classes={data}/classes.txt")
    ended(start([*TINY, *of_data, f"results={work}"], work / "log", work / "said", draw_little))
    return contents(work / "quick" / "default")


@pytest.fixture
def machine(endpoint, data, tmp_path) -> Callable[..., Run]:
    """(name, arguments..., hold): a command on a machine of this name, whose cache is empty at first.

    hold: is called before each shard with how many this process has begun.
    """
    answer(f"{endpoint}/moto-api/reset", "POST")
    answer(f"{endpoint}/bench", "PUT")
    for file in data.iterdir():
        answer(f"{endpoint}/bench/val/{file.name}", "PUT", file.read_bytes())

    def command(name: str, *arguments: str, hold: Callable[[int], None] | None = None) -> Run:
        def change() -> None:
            cache = tmp_path / name
            os.environ.update(KEYS, AWS_ENDPOINT_URL=endpoint, AXIOM_BENCH_CACHE=str(cache))
            if hold is not None:
                hold_up(hold)
            draw_little()

        number = len(list(tmp_path.glob("*.said")))
        return start(arguments, tmp_path / "log", tmp_path / f"{number}.said", change)

    return command


def answer(url: str, method: str = "GET", content: bytes | None = None) -> bytes:
    headers = {"Authorization": "AWS4 Credential=a/20260101/us-east-1/s3/b", "Content-Type": "application/octet-stream"}
    request = urllib.request.Request(url, content, headers, method=method)
    with urllib.request.urlopen(request) as response:
        return response.read()


def draw_little() -> None:
    """In a process of its own: a report is one line, since it takes long."""

    def write(run: RunFolder | Path, *_: object) -> None:
        folder = run if isinstance(run, Path) else run.path
        files.write(folder / "report.html", f"{len(RunFolder.read(folder).records)} values".encode())

    report._write = write


def hold_up(hold: Callable[[int], None]) -> None:
    """In a process of its own: something is awaited inside of each shard."""
    from axiom_bench.evaluation import batch
    from axiom_bench.run import shards

    begun = [0]

    def rows(*arguments: object) -> object:
        begun[0] += 1
        hold(begun[0])
        return batch.shard_rows(*arguments)

    shards.shard_rows = rows


def mirror_of(tmp_path: Path, name: str) -> Path:
    return tmp_path / name / "remote" / "s3" / "bench" / "results" / "quick" / "default"


def ended(process: Run) -> str:
    """What a command printed that has ended well."""
    assert process.wait() == 0, process.output()
    return process.output()


def test_a_second_machine_is_told_another_goes_on_where_the_first_is_killed_and_others_read_it(
    endpoint, machine, tmp_path, expected
):
    def in_the_second(begun: int) -> None:
        wait_until(lambda: begun == 1)

    killed = machine("killed", *TINY, *STORE, hold=in_the_second)
    with stopped_at_the_end(killed):
        wait_until(lambda: len(shards_of(tmp_path / "log")[0]) == 2, killed)
        second = machine("two", *TINY, *STORE)
        assert second.wait() == 2
        assert f"{URL} is in use: process {killed.pid} on " in second.output()
        killed.kill()
    first = machine("one", *TINY, *STORE)
    with stopped_at_the_end(first):
        assert f"report: {URL}/report.html (here: {mirror_of(tmp_path, 'one')}/report.html)" in ended(first)
    begun, done = shards_of(tmp_path / "log")
    assert len(begun) == 5  # the killed one's again, and no other
    assert sorted(done) == sorted(set(begun))
    assert contents(mirror_of(tmp_path, "one")) == expected
    assert "fetching data: 2 files" in first.output()

    assert "4 of 4 shards were already there: nothing was computed" in ended(machine("three", *TINY, *STORE))
    page = f"{endpoint}/bench/results/quick/default/report.html"
    before = answer(page)
    answer(page, "PUT", b"another page")
    assert f"report: {URL}/report.html" in ended(machine("four", "report", URL))
    assert answer(page) == before
    baseline = f"--baseline={tmp_path}/baseline.csv"
    ended(machine("five", "gate", URL, baseline, "--write"))
    ended(machine("five", "gate", f"{URL}/", baseline))
    assert not Path("s3:").exists()


MISTAKES = {
    **{url: f"There is nothing at {url}; correct the bucket or the path."
       for url in ("s3://absent/val", "s3://absent/*.tar", "s3://bench/nothing")},
    DATA: f"There is no file whose name ends in .parquet below {DATA}; correct the URL.",
}  # fmt: skip
NOWHERE = {  # where a developer's machine, or one of Amazon's, has some
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null",
}  # fmt: skip


def test_data_or_a_bucket_that_is_not_there(endpoint, machine, monkeypatch, tmp_path):
    for name, value in {**KEYS, **NOWHERE, "AWS_ENDPOINT_URL": endpoint, "AXIOM_BENCH_CACHE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    for url, sentence in MISTAKES.items():
        with pytest.raises(BenchError) as caught:
            fetching.here({"kind": "parquet", "path": url})
        assert str(caught.value) == sentence
    process = machine("one", "report", "s3://absent/results/quick/default")
    assert process.wait() == 2
    assert "s3://absent/results/quick/default: there is no such place; make the bucket first" in process.output()
    assert "Traceback" not in process.output()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    remote.opened.cache_clear()
    with pytest.raises(BenchError, match=r"Can't use s3://bench.*: there are no credentials; set AWS_ACCESS_KEY_ID"):
        fetching.here({"kind": "parquet", "path": DATA})
    remote.opened.cache_clear()
