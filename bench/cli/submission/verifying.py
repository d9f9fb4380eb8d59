"""`axiom-bench verify` of a submission: check the hashes of its files, and compute a seeded sample
of its values again.

The sheet for its reviewer compares the values with those on fresh images, and on planted networks
with other weights.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from axiom_bench.cli.rank import method_overrides, published_folders
from axiom_bench.cli.submission import sheet
from axiom_bench.cli.submission.sheet import FreshComparison
from axiom_bench.cli.trust import check_code
from axiom_bench.cli.verify import different_values, first_lines, moved_statistics, new_seed
from axiom_bench.columns import OK
from axiom_bench.embedded.planted import NoisyOr, PlantedNetwork
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError, plural, verb
from axiom_bench.models.load import load_model
from axiom_bench.records import artefacts, publishing, reading, submissions
from axiom_bench.records.entries import Manifest, MetricEntry
from axiom_bench.records.sources import file_of, version_of
from axiom_bench.records.submissions import Submission
from axiom_bench.run import frozen
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.composing.suites import Suite
from axiom_bench.run.job import OBJECT_RULES, Job
from axiom_bench.run.manifest import value_entries
from axiom_bench.run.objects import use_found_objects
from axiom_bench.run.progress import progress
from axiom_bench.run.verification import SHARE, fresh_process, recompute_jobs
from axiom_bench.statistics.labels import Metadata, Value
from axiom_bench.statistics.paired_tests import holm

Call = Callable[..., Any]  # calls a function with arguments in a fresh process


def verify_submission(
    folder: Path, seed: int | None = None, trust: bool = False
) -> tuple[int, list[str]]:
    """Compare a submission's files with their hashes and a sample of its values with values
    computed now.

    The sample is computed twice, once as in a run and once in another order (see `recompute_jobs`),
    and the two must agree. The computed suite is that of this installation, whatever the folder
    says about it. If the images aren't here, the submission stays self-reported. The lines contain
    the sheet for the reviewer.

    Args:
        folder: The submission.
        seed: The seed of the sample and of fresh images; `None` draws one.
        trust: Run the submitted method's code.

    Returns:
        The exit code, 1 if something differs, and the lines to print.

    Raises:
        BenchError: For another suite, and without `trust` for a method that isn't this package's.
    """
    submission = submissions.read(folder)
    seed = new_seed() if seed is None else seed
    suite = suite_of(folder, submission)
    if changed := submissions.changed(folder, submission):
        return 1, [f"{folder} isn't what was submitted:", *first_lines(changed)]
    manifests = {part: reading.read_manifest(folder / part) for part in suite.parts}
    lines = [f"seed: {seed}", *_about(folder, submission, manifests)]
    jobs = {part: _jobs(submission, part, manifest) for part, manifest in manifests.items()}
    # No job is loaded before its code is checked.
    if not trust:
        for settings in chain(*jobs.values()):
            check_code(settings.model_dump())
    absent = []
    for part, part_jobs in jobs.items():
        if not all(is_drawn(job) or _has_root(job) for job in part_jobs):
            absent.append(part)
    if absent:
        reason = f"the images of {', '.join(absent)} aren't here, so no value was computed again."
        line = f"self-reported: {submission.method} on the suite {suite.name}: {reason}"
        return 0, [*lines, line]
    wrong: list[str] = []
    with _importable(folder, submission):
        # Two processes, so that a method can't carry values from one computation to the other.
        with fresh_process() as call, fresh_process() as other_call:
            for part, manifest in manifests.items():
                calls = (call, other_call)
                summary, differences = _compare_part(
                    folder / part, manifest, jobs[part], submission.name, seed, calls
                )
                lines.append(f"{suite.name}/{part}: {summary}")
                wrong += differences
        if wrong:
            return 1, [*lines, f"{submission.method} isn't accepted:", *first_lines(wrong)]
        with fresh_process() as call:
            values, is_marked = _sheet(folder, submission, jobs, seed, call)
    lines += values
    if is_marked:
        reason = f"{submission.method} is marked: it may know the published images."
        return 1, [*lines, reason, "Ask its author, and see whether another --seed shows the same."]
    count = f"{len(submission.files)} files"
    return 0, [*lines, f"accepted: {submission.method} on the suite {suite.name}, {count}"]


def _has_root(settings: Settings) -> bool:
    """Return whether the folder of a job's images exists; a job without one has all it needs."""
    return Path(settings.data.get("root") or ".").is_dir()


def _about(folder: Path, submission: Submission, manifests: Mapping[str, Manifest]) -> list[str]:
    """List the versions of a submission and what its source uses."""
    lines = sheet.version_lines(submission, next(iter(manifests.values())))
    if submission.source_file is not None:
        source = folder / submission.source_file
        if not source.is_file():
            raise BenchError(
                f"{folder} has no {source.name}, the source of its method; submit it again."
            )
        lines += sheet.source_lines(source.read_text(encoding="utf-8", errors="replace"))
    return lines


def _sheet(
    folder: Path,
    submission: Submission,
    jobs: Mapping[str, Sequence[Settings]],
    seed: int,
    call: Call,
) -> tuple[list[str], bool]:
    """List how a method's maps and values change on other inputs, for the reviewer of a submission.
    The second value is true if the method is marked: it may know the published images.
    """
    name = submission.name
    reference = fresh_settings()["reference"]
    references = published_folders(submission.suite, required=False)
    lines: list[str] = []
    comparisons: list[FreshComparison] = []
    is_planted = False
    for part, part_jobs in jobs.items():
        with progress(f"{part}: computing maps and values on other inputs"):
            lines += call(sheet.map_lines, part_jobs[0], seed)
            if part not in references or not all(map(is_drawn, part_jobs)):
                lines.append(f"{submission.suite}/{part}: not checked on unseen images")
            # The reference isn't compared with itself.
            elif name != reference:
                stored = reading.read_records(folder / part, reading.read_manifest(folder / part))
                comparisons += fresh_values(
                    part, part_jobs, stored, references[part], name, seed, call
                )
        networks = (load_model(settings.model).module for settings in part_jobs)
        is_planted |= any(hasattr(network, "true_contributions") for network in networks)
    level = fresh_settings()["level"]
    adjusted = holm([comparison.p for comparison in comparisons])
    if comparisons:
        lines.append(f"values of {plural(len(comparisons), 'metric')}, with 95 % intervals")
    for comparison, p in zip(comparisons, adjusted, strict=True):
        lines.append(sheet.fresh_line(comparison, p, p < level, reference))
    if is_planted and name != reference:
        lines += _unplanted_lines(submission, seed, call)
    return lines, any(p < level for p in adjusted)


def _unplanted_lines(submission: Submission, seed: int, call: Call) -> list[str]:
    """Compute and list a method's values on a model without planted truth."""
    settings = fresh_settings()
    method = method_overrides(submission.method, submission.name, settings["reference"])
    with composed([*settings["unplanted"], *method, f"data.seed={seed % 2**31}"]) as composition:
        job = composition.job_settings()
    model = job.model["name"]
    try:
        table = call(recompute_jobs, [job], seed, 1.0)
    except Exception as error:  # noqa: BLE001 - a method may raise anything on such a model
        reason = f"{type(error).__name__}: {error}"
        return [f"values on {model}, which has no planted truth: none ({reason})"]
    values = {
        metric: _by_image(table, metric, submission.name, settings["reference"])
        for metric in sorted(table["metric"].astype(str).unique())
    }
    return sheet.unplanted_lines(model, values, settings["reference"])


def suite_of(folder: Path, submission: Submission) -> Suite:
    """Return the suite of a submission.

    Args:
        folder: The submission's folder, which messages name.
        submission: The submission.

    Raises:
        BenchError: If this installation's suite isn't the same.
    """
    suite = Suite.of(submission.suite)
    if suite.sha256 != submission.suite_sha256:
        command = artefacts.installing(submission.axiom_bench, submission.git_commit)
        once = f" once you have run {command}" if command else ""
        raise BenchError(
            f"{folder} is of another suite {suite.name} than this installation's "
            f"({submission.suite_sha256[:12]}, not {suite.sha256[:12]}); verify it with "
            f"axiom-bench {submission.axiom_bench}{once}, or submit it again."
        )
    return suite


def _jobs(submission: Submission, part: str, manifest: Manifest) -> list[Settings]:
    """Return the settings of the part's jobs.

    Their first method is one of this package, with which a job is loaded without the code of the
    submitted one.
    """
    chosen = method_overrides(submission.method, submission.name, fresh_settings()["reference"])
    device = ["device=cpu"] if manifest.device == "cpu" else []
    with composed([f"suite={submission.suite}/{part}", *chosen, *device]) as composition:
        return [composition.job_settings(number) for number in range(len(composition.jobs))]


@contextmanager
def _importable(folder: Path, submission: Submission) -> Iterator[None]:
    """Let this process and new ones import the method's module from the folder.

    Raise BenchError if another module would be imported, or if a distribution has another version.
    """
    for name, version in submission.distributions.items():
        if version_of(name) != version:
            raise BenchError(
                f"The method is of {name} {version}, and here is {version_of(name)}; install that "
                "one."
            )
    if submission.source_file is None:
        yield
        return
    source = folder.resolve() / submission.source_file
    if submission.distributions:
        # The distribution is imported, so its source must be the submitted one.
        installed = file_of(submission.source_file.removesuffix(".py"))
        if installed is None or installed.read_bytes() != source.read_bytes():
            raise BenchError(
                f"{submission.source_file} of the submission isn't the installed source; submit "
                "it again."
            )
        yield
        return
    before = sys.path[:]
    sys.path.append(str(source.parent))
    try:
        spec = PathFinder.find_spec(source.stem)
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != source:
            here = spec.origin if spec else "nowhere"
            raise BenchError(
                f"{submission.source_file} of the submission isn't what would be imported (but "
                f"{here}); start the command in another folder, or give the module another name "
                "and submit it again."
            )
        yield
    finally:
        sys.path[:] = before


def _compare_part(
    folder: Path,
    manifest: Manifest,
    jobs: Sequence[Settings],
    name: str,
    seed: int,
    calls: tuple[Call, Call],
) -> tuple[str, list[str]]:
    """Compute a sample of a part's values twice, and compare the two with each other and with the
    submitted values. Return what was compared, and a line for each difference.

    `calls` are those of two fresh processes, so that a method can't carry values from one
    computation to the other.
    """
    stored = reading.read_records(folder, manifest)
    lines: list[str] = []
    metrics: dict[str, MetricEntry] = {}
    for settings in jobs:
        other_methods = {key: entry for key, entry in settings.method.items() if key != name}
        job_settings = settings
        if other_methods:  # the job is loaded without the submitted method's code
            job_settings = settings.model_copy(update={"method": other_methods})
        job = Job.of(job_settings)
        if job.target in OBJECT_RULES:  # a row belongs to an object, which the network finds
            with TemporaryDirectory() as objects:
                job = use_found_objects(job, Path(objects))
        frozen.check(str(settings.suite_part), job, settings.metric)
        for metric in job.metrics:
            metrics |= value_entries(metric)
        lines += _missing(stored, job)
    jobs_of_method = []
    for settings in jobs:
        only_method = {name: settings.method[name]}
        jobs_of_method.append(settings.model_copy(update={"method": only_method}))
    with progress(f"{folder.name}: recomputing a sample twice"):
        now = calls[0](recompute_jobs, jobs_of_method, seed)
        reordered = calls[1](recompute_jobs, jobs_of_method, seed, SHARE, True)
    summary = f"{plural(len(now), 'value')} {verb(len(now), 'was', 'were')} computed again, twice"
    if varying := list(different_values(now, reordered, up_to_rounding=True)):
        reason = (
            f"{name} depends on more than its image: in another order, batch or process it has "
            "other values."
        )
        return summary, [reason, *(f"between the two, {line}" for line in varying[:3])]
    now["value"] = publishing.rounded(now["value"].to_numpy(float)).astype(float)
    if not list(different_values(stored, now)):
        return f"{summary}, and are the submitted ones bit by bit", lines
    lines += different_values(stored, now, up_to_rounding=True)
    lines += moved_statistics(stored, now, Metadata(Manifest(metrics=metrics)))
    return f"{summary}, and compared with the submitted ones up to rounding", lines


def _missing(stored: pd.DataFrame, job: Job) -> Iterator[str]:
    """Yield a line for each metric that hasn't a row for each of the job's images."""
    ids = {job.data.ids[index] for index in job.indices}
    place = {"model": job.model.name, "layer": job.model.layer, "data": job.data.name}
    is_of_job = (stored[list(place)].astype(str) == pd.Series(place)).all(axis=1)
    rows = stored[is_of_job]
    for metric, metric_rows in rows.groupby(rows["metric"].astype(str)):
        if missing := ids - {*metric_rows["image_id"].astype(str)}:
            yield (
                f"{job.name}: {metric} has no row for {len(missing)} of "
                f"{plural(len(ids), 'image')}, as {min(missing)}"
            )


ROW = ["model", "image_id", "target_class"]


def fresh_settings() -> dict[str, Any]:
    """Return the content of conf/submission.yaml."""
    return dict(read_yaml(conf_folder() / "submission.yaml"))


def is_drawn(settings: Settings) -> bool:
    """Return whether a job's images are drawn by a seed, rather than read.

    Args:
        settings: The settings of the job.
    """
    return "root" not in settings.data and "seed" in settings.data


def fresh_values(
    part: str,
    jobs: Sequence[Settings],
    stored: pd.DataFrame,
    folder: Path,
    name: str,
    seed: int,
    call: Call,
) -> list[FreshComparison]:
    """Return a method's values by each metric of a part on its published images and on fresh ones.

    Fresh images are drawn by another seed, and planted networks have their channels in another
    order.

    Args:
        part: A part whose images are drawn.
        jobs: The settings of its jobs, with the method and the reference.
        stored: The submitted rows.
        folder: The folder of the published values.
        name: The name of the method.
        seed: The seed of the fresh images.
        call: Calls a function in a fresh process.
    """
    chosen = fresh_settings()
    reference = chosen["reference"]
    manifest = reading.read_manifest(folder)
    rows = reading.read_records(folder, manifest)
    own_rows = stored[stored["method"].astype(str) == name]
    reference_rows = rows[rows["method"].astype(str) == reference]
    published_rows = pd.concat([own_rows, reference_rows])
    methods = {name, reference}
    with TemporaryDirectory() as weights:
        fresh_jobs = [_fresh(settings, methods, chosen, seed, Path(weights)) for settings in jobs]
        fresh_rows = call(recompute_jobs, fresh_jobs, seed, 1.0)
    # Published values are rounded, so the fresh ones are, too.
    fresh_rows["value"] = publishing.rounded(fresh_rows["value"].to_numpy(float))
    metadata = Metadata(manifest)
    comparisons = []
    for metric in manifest.metrics:
        value = metadata.value(metric)
        before = _by_image(published_rows, metric, name, reference)
        now = _by_image(fresh_rows, metric, name, reference)
        if value.has_direction and min(len(before), len(now)) > 1:
            p = _p_value(before[:, 1], now[:, 1], value)
            comparisons.append(FreshComparison(part, value, before, now, p))
    return comparisons


def _fresh(
    settings: Settings, names: set[str], chosen: Mapping[str, object], seed: int, weights: Path
) -> Settings:
    """Return the settings of a job on fresh images. Planted networks have their channels in another
    order.
    """
    data = settings.data
    model = settings.model
    if isinstance(network := load_model(model).module, PlantedNetwork):
        file = weights / f"{model['name']}.safetensors"
        save_file(_reordered(network, seed), file)
        model = {**model, "weights": str(file)}
    size = max(chosen["fewest"], math.ceil(chosen["share"] * data["size"]))
    methods = {name: entry for name, entry in settings.method.items() if name in names}
    drawn = {**data, "size": size, "seed": data["seed"] + 1 + seed}
    return settings.model_copy(
        update={"suite_part": None, "method": methods, "model": model, "data": drawn}
    )


def _reordered(network: PlantedNetwork, seed: int) -> dict[str, Tensor]:
    """Return the weights of the same network with its channels in another order.

    The last convolution of the features makes the channels, and readout and head read them. A
    `NoisyOr` head reads the first two channels by their position, so these two stay.
    """
    state = network.state_dict()
    *_, last_convolution = (
        name for name, module in network.features.named_modules() if isinstance(module, _ConvNd)
    )
    first_linear = next(
        name for name, module in network.head.named_modules() if isinstance(module, nn.Linear)
    )
    channels = len(state[f"features.{last_convolution}.weight"])
    num_fixed = 2 if isinstance(network.head, NoisyOr) else 0
    others = random.Random(seed).sample(range(num_fixed, channels), channels - num_fixed)
    order = [*range(num_fixed), *others]
    for name in state:
        if name.startswith((f"features.{last_convolution}.", "readout.")):
            state[name] = state[name][order]
    head_weight = f"head.{first_linear}.weight" if first_linear else "head.weight"
    state[head_weight] = state[head_weight][:, order].contiguous()
    return state


def _by_image(frame: pd.DataFrame, metric: str, name: str, reference: str) -> NDArray[np.float64]:
    """Return (images, 2): the value and its difference to the reference's, as means over networks
    and explained classes.
    """
    rows = frame[(frame["metric"].astype(str) == metric) & (frame["status"] == OK)]
    table = rows.astype(dict.fromkeys([*ROW, "method"], str)).pivot_table("value", ROW, "method")
    if not {name, reference} <= {*table}:
        return np.empty((0, 2))
    columns = {"value": table[name], "difference": table[name] - table[reference]}
    rows_with_both = pd.DataFrame(columns).dropna()
    return rows_with_both.groupby("image_id").mean().to_numpy(dtype=np.float64)


def _p_value(before: NDArray[np.float64], now: NDArray[np.float64], value: Value) -> float:
    """Return the p value of Welch's test. Metrics with heavy tails use the rank test of Brunner and
    Munzel (Biometrical Journal 2000).
    """
    from scipy import stats  # here, since most commands don't need it

    if np.ptp(np.concatenate([before, now])) == 0:
        return 1.0
    if value.lead == "median":
        p = stats.brunnermunzel(before, now).pvalue
    else:
        p = stats.ttest_ind(before, now, equal_var=False).pvalue
    return 0.0 if np.isnan(p) else float(p)  # NaN: both are constant, with different values
