"""Standard output in an encoding that lacks characters, as of a redirected command on Windows: no
output fails.
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
ENCODINGS = ("cp1252", "ascii", "latin-1:strict")
RUN = f"results/quick/{NAME}"
COMMANDS = {  # words by spaces: exit code
    f"model=scenes_vgg data.size=2 runtime.repeats=0 pictures.rows=0 pictures.gallery=0 run={NAME} "
    "method=[grad_cam,xgrad_cam] metric=[box_iou,sensitivity_error] device=cpu report.figures.grid=null": 0,
    f"status {RUN}": 0,
    f"gate {RUN} --baseline {NAME}.csv --write": 0,
    f"gate {RUN} --baseline {NAME}.csv": 0,
    f"compare {RUN} {RUN}": 0,
    f"report {RUN} report.level=none": 2,
    f"report {RUN}": 0,
    "list methods": 0,
    f"explain {NAME}.png --model scenes_vgg --methods grad_cam --overwrite --output {NAME}-maps.png device=cpu": 0,
    f"doctor model=scenes_vgg data=folder data.root={NAME}": 2,
    f"gate {NAME} --baseline quick": 2,
}
SCRIPT = (
    "import sys; from axiom_bench.cli.main import main; print([main(line.split(' ')) for line in "
    "sys.argv[1:]])"
)


def output_of(words: list[str], encoding: str, folder: Path) -> tuple[int, str]:
    """The exit code of Python with these arguments, and what it has written to both streams."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"}
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "cwd": folder,
        "env": environment,
    }
    process = subprocess.run([sys.executable, *words], check=False, **options)
    return process.returncode, process.stdout.decode(encoding.partition(":")[0])


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_command_fails_by_the_encoding_of_its_output(encoding, tmp_path):
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save(tmp_path / f"{NAME}.png")
    _, text = output_of(["-c", SCRIPT, *COMMANDS], encoding, tmp_path)
    assert "Traceback" not in text
    assert text.splitlines()[-1] == str([*COMMANDS.values()])
    assert text.count(ESCAPED) > 8
    table = (tmp_path / RUN / "report.html").read_text(encoding="utf-8")
    assert NAME in table


@pytest.mark.slow
def test_the_module_is_as_the_command(tmp_path):
    code, text = output_of(
        ["-m", "axiom_bench", "doctor", "data=folder", f"data.root={NAME}"], "cp1252", tmp_path
    )
    assert (code, ESCAPED in text, "Traceback" in text) == (2, True, False)


def test_characters_that_the_stream_lacks_are_escaped(monkeypatch):
    for encoding, arrow in (("ascii", r"\u2191"), ("utf-8", "\u2191")):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", None)  # as of a program without a console
        assert main(["list", "suites"]) == 0
        say(["Box IoU \u2191"])
        stream.flush()
        assert stream.buffer.getvalue().decode(encoding).endswith(f"Box IoU {arrow}{os.linesep}")
