"""scripts/gpu.sh: a step that fails or hangs stops no other, the page has all, and every command is
one that exists.
"""

import json
import os
import sys
import time

import gpu
import pytest

from axiom_bench.data.registry import load_dataset
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.spine import checked


def step(name: str, code: str, seconds: float = 60, run: bool = False) -> gpu.Step:
    return gpu.Step(name, (sys.executable, "-S", "-c", code), seconds, run)


@pytest.mark.slow
def test_steps_that_fail_and_hang(tmp_path):
    forever = (
        f"import os, time; open('{tmp_path}/pid', 'w').write(str(os.getpid())); time.sleep(600)"
    )
    outcomes = [
        gpu.take(step("good", "print('said')"), tmp_path, "cpu", 60),
        gpu.take(step("bad", "print('why'); raise SystemExit(3)"), tmp_path, "cpu", 60),
        gpu.take(step("hangs", forever), tmp_path, "cpu", left=1),
        gpu.take(step("late", "print('late')"), tmp_path, "cpu", left=0),
    ]
    assert [each.status for each in outcomes] == [
        "done",
        "failed (exit code 3)",
        "stopped after 1 s",
        "left out",
    ]
    if (tmp_path / "pid").exists():  # on a busy machine it may not have come so far
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
    text = gpu.page(outcomes, tmp_path, gpu.CPU)
    assert "| bad | failed (exit code 3) | " in text
    assert "\nsaid\n" in text
    assert "\nwhy\n" in text
    assert "late\n```" not in text


def test_runs_with_their_memory_and_kernels(tmp_path):
    names = ("plain", "plain_kernels", "failed")
    steps = [step(name, "", run=True) for name in names]
    for name, kernels in zip(names[:2], ([], [["conv", 1.5, 3]]), strict=True):
        result = {"exit_code": 0, "seconds": 2.0, "peak_memory": 2**31, "kernels": kernels}
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    outcomes = [gpu.Outcome(each, "done", time.monotonic()) for each in steps[:2]]
    text = gpu.page([*outcomes, gpu.Outcome(steps[2], "failed (exit code 1)")], tmp_path, gpu.CPU)
    assert "| plain | 2.0 | 2.00 GiB |" in text
    assert "## Kernels of plain, 1 images" in text
    assert "| `conv` | 1.50 | 3 |" in text


def test_the_stages_of_the_large_run_stand_beside_their_budget(tmp_path):
    """50 batches of four; the start is what the run took beside the stages that it tells."""
    sizes = gpu.CPU._replace(made=200, batch=4)
    run = {"exit_code": 0, "seconds": 20.0, "peak_memory": 0, "kernels": []}
    plain = run | {"stages": {"start": 3.0, "loading": 0.5, "trace": 9.0, "report": 4.0}}
    profiled = run | {
        "kernels": [["conv", 1.5, 3]],
        "kernel_seconds": 0.25,
        "starting": 0.125,
        "stages": {},
    }
    steps = [step(name, "", run=True) for name in (gpu.LARGE, f"{gpu.LARGE}_kernels")]
    for each, result in zip(steps, (plain, profiled), strict=True):
        (tmp_path / f"{each.name}.json").write_text(json.dumps(result))
    text = gpu.page([gpu.Outcome(each, "done") for each in steps], tmp_path, sizes)
    assert "## Budget: large_fp32, 200 images" in text
    for row in (
        "start | 5 | 6.5",
        "loading, waited for | 0 | 0.5",
        "starting kernels | 5.2 to 17 | 6.2",
        "kernels | 19 | 12.5",
        "report | 12 to 15 | 4.0",
        "the whole command | 30 | 20.0",
    ):
        assert f"| {row} |" in text


def test_made_images_are_photographs_by_other_names(real_root, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "REAL", real_root)
    gpu.make_images(tmp_path / "made", 401)
    made = load_dataset({"kind": "imagenet", "root": str(tmp_path / "made")})
    assert len(made) == 401
    sample = made.read(400)
    assert sample.objects
    assert not sample.problems


@pytest.mark.slow
def test_every_run_is_one_that_there_is(tmp_path):
    """Composed and checked as a run is before it loads anything."""
    steps = list(gpu.steps(gpu.GPU, tmp_path))
    assert len({each.name for each in steps}) == len(steps)
    for each in (each for each in steps if each.run):
        options = gpu.arguments(each.command[2:])
        assert (options.folder, options.out) == (gpu.TAKE, tmp_path / f"{each.name}.json")
        assert options.kernels == each.name.endswith("_kernels")
        assert options.overrides[-1] == f"run={each.name}"
    for name, (_, overrides) in gpu.runs(gpu.GPU, tmp_path).items():
        with composed([*overrides, f"data.size={gpu.GPU.profiled}", f"run={name}"]) as composition:
            config = composition.plain()
        assert (config["data"]["size"], config["device"]["name"]) == (
            gpu.GPU.profiled,
            gpu.GPU.device,
        )
        checked(config)


@pytest.mark.slow
def test_a_run_tells_its_memory_and_its_kernels(tmp_path, monkeypatch):
    few = (
        "data.size=1",
        "method=[grad_cam]",
        "metric=[zeta]",
        "model=scenes_resnet",
        *gpu.NO_PICTURES,
    )
    out = tmp_path / "run.json"
    of_run = ("device=cpu", f"results={tmp_path / 'results'}", "run=run")
    argv = ["gpu.py", "--kernels", "--out", str(out), gpu.TAKE, "--", *few, *of_run]
    monkeypatch.setattr(sys, "argv", argv)
    assert gpu.main() == 0
    result = json.loads(out.read_text())
    assert result["exit_code"] == 0
    assert result["peak_memory"] > 2**20
    milliseconds = [ms for _, ms, _ in result["kernels"]]
    assert len(milliseconds) == gpu.KERNELS
    assert milliseconds == sorted(milliseconds, reverse=True)
    assert result["kernel_seconds"] > sum(milliseconds[:2]) / 1000
    assert "trace" in result["stages"]  # of one image it may round to 0.0 seconds
    assert result["stages"]["report"] > 0


def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.tex").touch()
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--cpu", str(tmp_path)])
    assert gpu.main() == 2
    assert "holds something else" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()
