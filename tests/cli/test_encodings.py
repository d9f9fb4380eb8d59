"""Tests of standard output in an encoding that lacks characters.

A redirected command on Windows has such an encoding. No command may fail because of it.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from axiom_bench.cli.main import main
from axiom_bench.cli.terminal import say
from axiom_bench.embedded import scenes

NAME = "写真"  # a word of Japanese, which none of the encodings has
ESCAPED = NAME.encode("ascii", "backslashreplace").decode()
RUN = f"results/quick/{NAME}"
BENCHMARK = (
    f"run={NAME}",
    "model=scenes_vgg",
    "data.size=2",
    "method=[grad_cam,xgrad_cam]",
    "metric=[box_iou,sensitivity_error]",
    "device=cpu",
    "runtime.repeats=0",
    "pictures.rows=0",
    "pictures.gallery=0",
    "report.figures.grid=null",
)
EXPLAIN = (
    f"explain {NAME}.png",
    "--model scenes_vgg",
    "--methods grad_cam",
    "--overwrite",
    f"--output {NAME}-maps.png",
    "device=cpu",
)
COMMANDS = {  # the exit code of each command line, in the order in which they run
    " ".join(BENCHMARK): 0,
    f"status {RUN}": 0,
    f"gate {RUN} --baseline {NAME}.csv --write": 0,
    f"gate {RUN} --baseline {NAME}.csv": 0,
    f"compare {RUN} {RUN}": 0,
    f"report {RUN} report.level=none": 2,
    f"report {RUN}": 0,
    "list methods": 0,
    " ".join(EXPLAIN): 0,
    f"doctor model=scenes_vgg data=folder data.root={NAME}": 2,
    f"gate {NAME} --baseline quick": 2,
}
SCRIPT = """\
import sys
from axiom_bench.cli.main import main
print([main(line.split(' ')) for line in sys.argv[1:]])
"""


def run_python(arguments: list[str], encoding: str, folder: Path) -> tuple[int, str]:
    """Run Python, and return its exit code and the text of both output streams."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
    )
    codec = encoding.partition(":")[0]  # without the name of the error handler
    return process.returncode, process.stdout.decode(codec)


@pytest.mark.slow
def test_no_command_fails_by_the_encoding_of_its_output(tmp_path):
    """Check ASCII, which lacks the most characters."""
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save(tmp_path / f"{NAME}.png")
    _, text = run_python(["-c", SCRIPT, *COMMANDS], "ascii", tmp_path)
    assert "Traceback" not in text
    assert text.splitlines()[-1] == str([*COMMANDS.values()])
    assert text.count(ESCAPED) > 8
    table = (tmp_path / RUN / "report.html").read_text(encoding="utf-8")
    assert NAME in table


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1:strict"])
def test_the_module_is_as_the_command(encoding, tmp_path):
    command = ["-m", "axiom_bench", "doctor", "data=folder", f"data.root={NAME}"]
    code, text = run_python(command, encoding, tmp_path)
    assert code == 2
    assert ESCAPED in text
    assert "Traceback" not in text


def test_characters_that_the_stream_lacks_are_escaped(monkeypatch):
    arrows = {
        "ascii": r"\u2191",
        "cp1252": r"\u2191",
        "latin-1": r"\u2191",
        "utf-8": "\u2191",
    }
    for encoding, arrow in arrows.items():
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", None)  # a program without a console has no stderr
        assert main(["list", "suites"]) == 0
        say(["Box IoU \u2191"])
        stream.flush()
        assert stream.buffer.getvalue().decode(encoding).endswith(f"Box IoU {arrow}{os.linesep}")
