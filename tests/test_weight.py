"""How many modules a run enters: a number that may fall, and not rise unseen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MOST_MODULES = 196  # the goal is 130
RUN = """
import sys, threading
from pathlib import Path
import axiom_bench
from axiom_bench.cli.main import main

package, of_functions = Path(axiom_bench.__file__).parent, 1  # a flag of code that has names of its own
roots = {str(folder.resolve()) for folder in [*package.iterdir(), package] if folder.is_dir()}
files = set()

def entered(frame, event, argument):
    if event == "call" and frame.f_code.co_flags & of_functions:
        files.add(frame.f_code.co_filename)

threading.setprofile(entered)
sys.setprofile(entered)
code = main(sys.argv[1:])
sys.setprofile(None)
assert code == 0, code
names = {str(Path(file).resolve()) for file in files if file.endswith(".py")}
print(sum(any(name.startswith(root + "/") for root in roots) for name in names))
"""


@pytest.mark.slow
def test_a_small_run_enters_few_modules(tmp_path: Path) -> None:
    """Four images, two methods and two metrics, from the command line to the report."""
    settings = ["experiment=quick", "model=scenes_vgg", "data.size=4", "data.workers=0"]
    chosen = ["method=[grad_cam,xgrad_cam]", "metric=[sensitivity_error,box_iou]"]
    command = [sys.executable, "-c", RUN, *settings, *chosen]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) <= MOST_MODULES
