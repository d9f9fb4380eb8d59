"""The scripts with which shells complete words. Shells that aren't installed are skipped."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from axiom_bench.cli.completion import SHELLS, script
from axiom_bench.cli.main import main, parser
from axiom_bench.environment import entry_names

CASES = [  # (what is typed, a word that completes it, a word that doesn't)
    ("axiom-bench exp", "explain", "run"),
    ("axiom-bench exper", "experiment=", "explain"),
    ("axiom-bench model=resnet1", "model=resnet18", "model=vgg16"),
    ("axiom-bench run data=vo", "data=voc", "data=scenes"),
    ("axiom-bench method=[grad_cam,xgrad", "method=[grad_cam,xgrad_cam", "method=[grad_cam,cam"),
    ("axiom-bench 'method=[grad_cam,xgrad", "method=[grad_cam,xgrad_cam", "method=[xgrad_cam"),
    ("axiom-bench metric=[box", "metric=[box_iou", "metric=[zeta"),
    ("axiom-bench suite=sce", "suite=scenes-1", "suite=voc-1"),
    ("axiom-bench experiment=qu", "experiment=quick", "experiment=paper"),
    ("axiom-bench peers=[cam@t", "peers=[cam@torchcam", "peers=[xgrad_cam@torchcam"),
    ("axiom-bench report.headl", "report.headline=", "report.compare="),
    ("axiom-bench explain a.jpg --mod", "--model", "--methods"),
    ("axiom-bench explain a.jpg --model vgg1", "vgg16", "resnet18"),
    ("axiom-bench explain a.jpg --methods cam,xgrad", "cam,xgrad_cam", "xgrad_cam"),
    ("axiom-bench list me", "methods", "method="),
    ("axiom-bench rank xgrad", "xgrad_cam", "grad_cam"),
    ("axiom-bench rank cam --suite sc", "scenes-1", "voc-1"),
    ("axiom-bench gate RUN --mark", "--markdown", "--json"),
]
# bash replaces only what follows the last =, : or @ of an unquoted word.
BREAKS = "=:@"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    for shell in SHELLS:
        (folder / shell).write_text(script(shell, parser()))
    return folder


def completed(shell: str, command: str) -> list[str]:
    """Return the lines that a shell prints for a command. Skip the test without the shell."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    result = subprocess.run([shell, "-c", command], capture_output=True, text=True, check=True)
    assert not result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize(("typed", "word", "other"), CASES)
def test_bash(scripts, typed, word, other):
    command = (
        f'source {scripts}/bash; COMP_WORDBREAKS="$1"; COMP_LINE="$0"; COMP_POINT=${{#COMP_LINE}}; '
        "_axiom_bench; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    result = subprocess.run(
        ["bash", "-c", command, typed, BREAKS], capture_output=True, text=True, check=True
    )
    start = "" if "'" in typed else typed.rpartition(" ")[2]
    kept = max(start.rfind(sign) for sign in BREAKS) + 1
    replies = result.stdout.splitlines()
    assert word[kept:] in replies
    assert other[kept:] not in replies


@pytest.mark.parametrize(("typed", "word", "other"), CASES)
def test_fish(scripts, typed, word, other):
    lines = completed("fish", f'source {scripts}/fish; complete -C "{typed}"')
    replies = [line.partition("\t")[0] for line in lines]
    assert word in replies
    assert other not in replies


ZSH = """
compdef() { :; }
compset() { [[ $1 == -P ]] || return 1; PREFIX=${PREFIX##${~2}}; }
_files() { :; }
compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -l -- ${(M)@:#$PREFIX*}; }
"""


@pytest.mark.parametrize(("typed", "word", "other"), CASES)
def test_zsh(scripts, typed, word, other):
    """Check the script with the completion system's functions replaced by those of `ZSH`."""
    *before, last = typed.split(" ")
    words = " ".join(f'"{part}"' for part in (*before, last))
    lines = completed(
        "zsh",
        f'{ZSH}\nsource {scripts}/zsh; words=({words}); CURRENT=$#words; PREFIX="{last}"; '
        "_axiom_bench",
    )
    kept = max(last.rfind(sign) for sign in "=[,") + 1
    kept -= last.startswith("'")
    assert word[kept:] in lines
    assert other[kept:] not in lines


def test_the_option_prints_the_script(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--completion", "bash"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == script("bash", parser())


def test_every_name_of_the_groups_is_in_each_script():
    for shell in SHELLS:
        text = script(shell, parser())
        assert "@names@" not in text
        for group in ("method", "metric", "data", "suite", "experiment"):
            assert " ".join(entry_names(group)) in text


@pytest.mark.slow
def test_the_script_is_written_without_torch():
    code = (
        "import sys\nfrom axiom_bench.cli.completion import script\n"
        "from axiom_bench.cli.main import parser\nscript('bash', parser())\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
