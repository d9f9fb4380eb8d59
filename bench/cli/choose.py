"""`axiom-bench choose`: which method and which layer to use for a model, measured on the user's
images.

The steps: load the model and the images, examine them, choose the layers, race the methods in
looks at more and more images, and write an ordinary report. What is measured is a run, so a
stopped command continues.
"""

from __future__ import annotations

import json
import re
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from axiom_bench.cli.model_options import model_overrides
from axiom_bench.cli.terminal import say
from axiom_bench.errors import BenchError
from axiom_bench.run.composing.composition import LAYER, composed
from axiom_bench.run.progress import progress
from axiom_bench.statistics import choice as choices
from axiom_bench.statistics.choice import Contest, candidate_of
from axiom_bench.statistics.labels import plural
from axiom_bench.statistics.race import LEAST_IMAGES, Race, looks

PAGE = "report: "  # the beginning of the line with the page's path
EARLIER_LAYERS = 2  # finer resolutions that race in addition to the default layer
LEVEL = 0.05  # the largest probability of a wrong answer, over all deciding metrics


@dataclass(frozen=True)
class Choice:
    """Which method to show at which layer, and how sure that is. It prints itself.

    Attributes:
        layer: The layer; None if no method can be chosen.
        methods: The method to show, and the methods that draw the same map there.
        metric: The metric that decides.
        images: The number of images that the decision is measured on.
        is_best: True if every other method and layer is significantly worse.
        sentences: The answer in whole sentences.
        report: The page with all values; None if there is none.
    """

    layer: str | None
    methods: tuple[str, ...]
    metric: str
    images: int
    is_best: bool
    sentences: tuple[str, ...]
    report: str | None

    def __str__(self) -> str:
        page = [f"{PAGE}{self.report}"] if self.report else []
        return "\n".join([*self.sentences, *page])


@dataclass(frozen=True)
class Start:
    """The model and the images, as they are before anything is measured."""

    model: str
    layers: tuple[str, ...]
    images: int


def run(options: Namespace) -> int:
    """Choose and print the answer.

    Args:
        options: The options of the command line.

    Returns:
        The exit code, 0.

    Raises:
        BenchError: As `choose` does.
    """
    overrides = [*options.overrides, *model_overrides(options)]
    if len(options.images) > 1:
        raise BenchError("Give one folder of photographs, or settings of data, such as data=voc.")
    for folder in options.images:
        overrides += ["data=folder", f"data.root={folder}", f"data.name={_data_name(folder)}"]
    if options.methods:
        overrides.append(f"method=[{options.methods}]")
    layers = options.layers.split(",") if options.layers else None
    choice = choose(overrides, options.config_dir, layers, options.budget)
    if options.json:
        say([json.dumps(asdict(choice), indent=2)])
    else:
        say(str(choice).splitlines())
    return 0


def _data_name(folder: Path) -> str:
    """Return the name of a folder of photographs in records and tables."""
    return re.sub(r"\W+", "_", folder.resolve().name).strip("_") or "photographs"


def choose(
    overrides: Sequence[str],
    config_folder: Path | None = None,
    layers: Sequence[str] | None = None,
    budget: float | None = None,
) -> Choice:
    """Race methods and layers on the images of a command line.

    Args:
        overrides: The words KEY=VALUE, which choose the model and the data.
        config_folder: A user's own folder of YAML files, used in addition to conf/.
        layers: The layers that race. None: the model's default layer, and the last layer of each
            of the two next finer resolutions.
        budget: The seconds after which no further look begins.

    Raises:
        BenchError: If the examination stops, or the command line can't be composed.
    """
    start_time = time.monotonic()
    words = ["experiment=choose", *overrides]
    with progress("Loading the model and the images"):
        start = _start(words, config_folder, layers)
    words.append(f"{LAYER}={','.join(start.layers)}")
    # imported here, because they import torch
    from axiom_bench.cli.benchmark import run_jobs
    from axiom_bench.cli.finish import failure_lines, finish
    from axiom_bench.report.shown import read_run
    from axiom_bench.run import manifest

    sizes = looks(start.images)
    races: dict[str, Race] = {}
    for size in sizes:
        look_words = [*words, *_still_racing(races)]
        if size < start.images:
            look_words.append(f"data.size={size}")
        settings, results = run_jobs(look_words, config_folder)
        kept = manifest.keep(settings, results, look_words)
        if kept is None:
            raise BenchError(" ".join(failure_lines(results)))
        measured = read_run(kept.folder, manifest=kept.content)
        contest = Contest.of_run(measured, settings.report["headline"])
        races = raced(contest, races, len(sizes))
        is_late = budget is not None and time.monotonic() - start_time > budget
        if is_late or all(len(race.contenders) == 1 for race in races.values()):
            break
    _, lines = finish(settings, results, look_words)
    page = next(line for line in lines if line.startswith(PAGE)).removeprefix(PAGE)
    return decided(contest, races, page)


def _start(words: Sequence[str], config_folder: Path | None, layers: Sequence[str] | None) -> Start:
    """Load and examine the model and the images, and choose the layers.

    Raises:
        BenchError: If the examination stops, with its reasons.
    """
    from axiom_bench.cutting.finer_layers import finer_layers
    from axiom_bench.evaluation.batch import traced
    from axiom_bench.run import examining, images, spine, worker

    with composed(words, config_folder) as composition:
        spine.checked(composition.plain())
        job = worker.loaded(composition.job_settings(0))
        stops = [answer for answer in examining.examination(job) if answer.level == "stop"]
        if stops:
            raise BenchError(" ".join(answer.sentence for answer in stops))
        if layers is None:
            batch = images.first_row(job)
            if batch is None:
                raise BenchError("No image can be read.")
            finer = finer_layers(traced(job.cut_model, batch), EARLIER_LAYERS)
            layers = [job.model.layer, *finer]
    return Start(job.model.name, tuple(layers), len(job.indices))


def _still_racing(races: Mapping[str, Race]) -> list[str]:
    """Return the setting that leaves out methods which no race needs any more; none at first."""
    if not races:
        return []
    names: dict[str, None] = {}
    for race in races.values():
        for name in (*race.contenders, *race.controls):
            names[candidate_of(name).method] = None
    return [f"method=[{','.join(names)}]"]


def raced(contest: Contest, races: Mapping[str, Race], num_looks: int) -> dict[str, Race]:
    """Return the races by all metrics after a look at the contest.

    Args:
        contest: All images so far.
        races: The races until now; empty before the first look.
        num_looks: The number of looks that share the level.
    """
    fields = choices.fields(contest)
    after = {}
    for name, field in fields.items():
        race = races.get(name) or choices.race(field, LEVEL / len(fields), num_looks)
        after[name] = race.look(choices.gains(field)) if field.images >= LEAST_IMAGES else race
    return after


def decided(contest: Contest, races: Mapping[str, Race], page: str | None) -> Choice:
    """Return the answer: by the first metric that has values, and what the others say.

    Args:
        contest: All images.
        races: The races after their last look.
        page: The address of the report; None without a report.

    Raises:
        BenchError: If no metric has values.
    """
    fields = choices.fields(contest)
    first = next(iter(fields), None)
    if first is None:
        where = f"; see {page}" if page else ""
        raise BenchError(f"No metric has values of two methods{where}.")
    field = fields[first]
    if field.images < LEAST_IMAGES:
        sentence = (
            f"{plural(field.images, 'image')} are too few to rank methods: at least {LEAST_IMAGES} "
            "are needed."
        )
        lines = [sentence, *choices.same_maps(contest, field)]
        return Choice(None, (), first, field.images, False, tuple(lines), page)
    verdicts = {
        name: choices.verdict(contest, field, races[name]) for name, field in fields.items()
    }
    verdict = verdicts[first]
    chosen = verdict.chosen
    if chosen is None:
        lines = choices.sentences(contest, verdict)
        return Choice(None, (), first, field.images, False, tuple(lines), page)
    methods = tuple(name.method for name in field.group(chosen) if name.layer == chosen.layer)
    reason = "" if verdict.is_best else ", the cheapest of those that can't be distinguished"
    lines = [f"Show {contest.titles[methods[0]]} at {chosen.layer}{reason}."]
    lines += choices.sentences(contest, verdict)
    lines += choices.disagreements(contest, verdicts, first)
    lines.append(
        f'Use it:  ab.explain(model, "{chosen.layer}", "photo.jpg", methods=["{methods[0]}"])'
    )
    return Choice(chosen.layer, methods, first, field.images, verdict.is_best, tuple(lines), page)
