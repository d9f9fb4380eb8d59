"""Write results/reference/SUITE: the values of a suite's parts, computed or continued.

    python scripts/publish_suite.py SUITE [PART ...] [KEY=VALUE ...] [--add METHOD ...]
    [--reuse OLDER_SUITE]

The values are those of all methods of few passes. --add computes only these methods, and adds them
to the published values, which stay unchanged. --reuse copies the values of each part that the older
suite also has with the same settings, and computes the other parts. KEY=VALUE is an override, as of
`axiom-bench suite=SUITE`. A suite without `frozen` is frozen by this script: its file then says
which networks and images were used, and what its metrics called.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from axiom_bench import methods
from axiom_bench.cli.benchmark import compute
from axiom_bench.evaluation import plugins
from axiom_bench.records import artefacts, publishing, reading
from axiom_bench.records.entries import ConfigEntry
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.composing.suites import HASH_DIGITS, Suite
from axiom_bench.run.frozen import metric_calls
from axiom_bench.run.job import Job

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
# Methods of over 64 passes per image on the networks of every suite.
COSTLY = (
    "expected_gradients", "integrated_gradients_pixels", "is_cam", "occlusion", "opti_cam", "rise",
    "ss_cam",
)  # fmt: skip
# Methods that run a pass for each channel, which is costly on networks of over 64 channels.
COSTLY_IF_WIDE = ("gscore_cam", "score_cam")
WIDE_SUITES = ("photographs-1", "photographs-2")
# Methods of 20 to 64 passes, left out of these parts with a large network and costly images.
COSTLY_IF_LARGE = (
    "group_cam", "smooth_grad", "smooth_grad_cam_pp", "smoothed_xgrad_cam", "ss_grad_cam",
    "ss_grad_cam_pp",
)  # fmt: skip
LARGE_PARTS = ("slices", "neutral_before")
# CAM methods, pixel methods and controls of the suite that compares them.
BASELINE_METHODS = (
    "ablation_cam_axiomatic", "centered", "eigen_grad_cam", "expected_gradients", "grad_cam",
    "grad_cam_pp", "guided_backprop", "guided_xgrad_cam", "hires_cam", "input_x_gradient",
    "integrated_gradients", "integrated_gradients_pixels", "layer_cam", "occlusion", "random",
    "rise", "saliency", "score_cam", "smooth_grad", "uniform", "xgrad_cam",
)  # fmt: skip
BASELINE_SUITES = ("baselines-1",)
# Methods and controls that explain words; a word takes a pass of the whole decoder.
WORD_METHODS = (
    "ablation_cam", "ablation_cam_axiomatic", "attn_lrp", "centered", "eigen_cam", "grad_cam",
    "grad_cam_pp", "hires_cam", "layer_cam", "legrad", "other_object", "random", "raw_attention",
    "rollout", "saliency", "transformer_attribution", "uniform", "xgrad_cam",
)  # fmt: skip
WORD_SUITES = ("words-1",)
OBJECT_SUITES = ("dense-1",)  # methods of one box or mask explain their networks too
QUIET = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0", "report.figures.grid=null")
UNFROZEN = "frozen: {}\n"


def frozen(suite: str, part: str, overrides: Sequence[str]) -> dict[str, object]:
    """Return models, data and metrics of a suite's part, as its file has them.

    Nothing is computed.
    """
    models: dict[str, object] = {}
    data: dict[str, object] = {}
    calls: object = {}
    with composed([f"suite={suite}/{part}", *overrides]) as composition:
        for number in range(len(composition.jobs)):
            settings = composition.job_settings(number)
            job = Job.of(settings)
            models[job.model.name] = [job.model.layer, job.model.weights_sha256]
            data[job.data.name] = job.data_fingerprint
            calls = metric_calls(settings.metric)
    return {"models": models, "data": data, "metrics": calls}


def has_part(older: str | None, suite: str, part: str) -> bool:
    """Return whether the older suite has this part with the same settings.

    Then the values of the part are reused.
    """
    if older is None or part not in Suite.of(older).parts:
        return False
    return Suite.of(older).part(part).overrides == Suite.of(suite).part(part).overrides


def copy_part(older: str, suite: str, part: str) -> None:
    """Copy the published values of a part from an older suite, under the names of the newer one."""
    source = REFERENCE / older / part
    target = REFERENCE / suite / part
    manifest = reading.read_manifest(source)
    config = renamed(manifest.config, suite, part)
    jobs = [
        job.model_copy(update={"config": renamed(job.config, suite, part)}) for job in manifest.jobs
    ]
    shutil.copytree(source / "records", target / "records", dirs_exist_ok=True)
    changed = {"run": f"{suite}-{part}", "config": config, "jobs": jobs}
    artefacts.write(target, manifest.model_copy(update=changed), indent=None)


def renamed(config: ConfigEntry, suite: str, part: str) -> ConfigEntry:
    """Return a run's settings with the part of another suite."""
    name = f"{suite}/{part}@{Suite.of(suite).sha256[:HASH_DIGITS]}"
    return config.model_copy(update={"suite_part": name})


def run(suite: str, part: str, chosen: Sequence[str], overrides: Sequence[str]) -> Path:
    """Compute these methods on a part and return the run folder. Exit if a network failed."""
    code, lines, folder = compute(
        [f"suite={suite}/{part}", f"method=[{','.join(chosen)}]", *QUIET, *overrides]
    )
    if code:
        sys.exit("\n".join(lines))
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Write the parts of a suite. Return the exit code."""
    parser = argparse.ArgumentParser(description="Write results/reference/SUITE.")
    parser.add_argument("suite")
    parser.add_argument("words", nargs="*", metavar="PART or KEY=VALUE")
    parser.add_argument("--add", metavar="METHOD", nargs="+", default=[])
    parser.add_argument("--reuse", metavar="OLDER_SUITE")
    options = parser.parse_args(argv)
    suite = options.suite
    overrides = [word for word in options.words if "=" in word]
    parts = [word for word in options.words if "=" not in word] or [*Suite.of(suite).parts]
    file = ROOT / "conf" / "suite" / f"{suite}.yaml"
    text = file.read_text(encoding="utf-8")
    # A suite that is already frozen never changes, because published values refer to it.
    if text.endswith(UNFROZEN):
        frozen_parts: dict[str, object] = {}
        for part in Suite.of(suite).parts:
            if has_part(options.reuse, suite, part):
                frozen_parts[part] = Suite.of(options.reuse).part(part).frozen
            else:
                frozen_parts[part] = frozen(suite, part, overrides)
        new = yaml.safe_dump(
            {"frozen": frozen_parts}, sort_keys=False, width=200, default_flow_style=None
        )
        file.write_text(text.removesuffix(UNFROZEN) + new, encoding="utf-8")

    costly = (*COSTLY, *COSTLY_IF_WIDE) if suite in WIDE_SUITES else COSTLY
    names = methods.names()
    if suite in OBJECT_SUITES:
        names = [
            name
            for name in plugins.names("method")
            if name in names or methods.get(name).spec.of_objects
        ]
    for part in parts:
        if has_part(options.reuse, suite, part):
            copy_part(options.reuse, suite, part)
            print(f"results/reference/{suite}/{part}: copied from {options.reuse}")
            continue
        chosen = [name for name in names if name not in costly]
        if part in LARGE_PARTS:
            chosen = [name for name in chosen if name not in COSTLY_IF_LARGE]
        if suite in BASELINE_SUITES:
            chosen = list(BASELINE_METHODS)
        if suite in WORD_SUITES:
            chosen = list(WORD_METHODS)
        if options.add:
            chosen = options.add
        folder = run(suite, part, chosen, overrides)
        manifest = reading.read_manifest(folder)
        target = REFERENCE / suite / part
        note = Suite.of(suite).part(part).note.rstrip(".")
        if not options.add:
            publishing.publish(folder, target, {*manifest.config.metric}, note)
        for method in options.add:
            publishing.add(folder, target, method)
        size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        seconds = sum(sum(job_seconds.values()) for job_seconds in manifest.seconds.values())
        print(f"{target.relative_to(ROOT)}: {size / 1e6:.2f} MB, computed in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
