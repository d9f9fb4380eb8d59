"""`axiom-bench game RUN`: the page of the game "What do you see?", made of a finished run.

The maps are computed again: a run keeps values, and pictures of a few images only. So this command loads what the run's
configuration names, and it refuses where weights or images aren't those of the run any more, or where it names code
that isn't this package's, unless it is told to trust it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from axiom_bench.cli import trust
from axiom_bench.cli.game_images import images_with_maps, whole_images, with_two_classes, without_left_out
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.errors import BenchError, unknown
from axiom_bench.records import files, reading, running
from axiom_bench.report.game_page import CHECKS, Game, page
from axiom_bench.run.composing.settings import add_current_folder
from axiom_bench.run.computing.compute import cut_of
from axiom_bench.run.jobs.job import Job, read_hashes


@dataclass(frozen=True)
class GameRequest:
    """What the command line asks for. output: None for game.html in the run folder. methods: names, of the run's; None
    for all. model, layer: which of the run's; None for the first. trust: whether code
    that the run's configuration names may run."""

    run: Path
    output: Path | None = None
    images: int | None = None
    methods: Sequence[str] | None = None
    model: str | None = None
    layer: str | None = None
    seed: int = 0
    trust: bool = False


def game(request: GameRequest) -> tuple[Path, list[str]]:
    """Writes the page: its path, and what to tell about it. Raises BenchError."""
    if request.images is not None and request.images < 1:
        raise BenchError(f"--images {request.images}: give 1 or more.")
    if request.seed < 0:
        raise BenchError(f"--seed {request.seed}: give 0 or more.")
    output = request.output or request.run / "game.html"
    files.check_output(output)
    manifest = reading.read_manifest(request.run)
    running.check_ended(request.run, manifest)
    job, weights = _job(manifest, request)
    trials = with_two_classes(job, request.images, request.seed)
    checks = whole_images(job, CHECKS, trials, request.seed)
    job.device.prepare()
    images, sentences = images_with_maps(job, cut_of(job), trials)
    names = list(images[0].heatmaps)
    if request.methods is not None and len(names) < len(request.methods):
        raise BenchError(sentences[0])
    titles = {method.name: method.spec.title or method.name for method in job.methods if method.name in names}
    setting = {"model": job.model.name, "layer": job.model.layer, "data": job.data.name, "weights": weights}
    files.write(output, page(Game(images, checks, titles, setting, request.seed)).encode())
    return output, _lines(job, len(images), titles)


def _job(manifest: Mapping[str, Any], request: GameRequest) -> tuple[Job, str]:
    """(the job of the run that is played, with the methods that are asked for; the start of its weights' hash)."""
    entry = _entry(manifest, request)
    config = entry["config"]
    if request.trust:
        add_current_folder()
    else:
        trust.check(config)
    for name in request.methods or ():
        if name not in config["method"]:
            raise unknown("method", name, config["method"])
    if request.methods is not None:
        config = {**config, "method": {name: config["method"][name] for name in request.methods}}
    try:
        job = replace(Job.of(config), hashes=read_hashes(request.run))
    except BenchError as error:
        hint = "The maps of a game are computed as the run's configuration says: start it where the run was started."
        raise BenchError(f"{error} {hint}") from error
    if isinstance(job.data, MosaicImages):
        raise BenchError(
            f"The images of {job.data.name!r} are mosaics of several classes, and a game asks about images of exactly "
            "two: play a run that has some: axiom-bench (the embedded scenes), or axiom-bench experiment=voc."
        )
    recorded = manifest["models"][job.model.name]["weights_sha256"]
    if job.model.weights_sha256 != recorded:
        raise BenchError(
            f"The weights of {job.model.name} aren't those of the run any more ({str(job.model.weights_sha256)[:12]}, "
            f"not {str(recorded)[:12]}); run the benchmark again with the same command first."
        )
    if job.data_fingerprint != manifest["data"][job.data.name]["fingerprint"]:
        raise BenchError(
            f"The images of {job.data.name!r} aren't those of the run any more; run the benchmark again with the same "
            "command first."
        )
    return without_left_out(job, entry.get("left_out") or ()), str(recorded)[:12]


def _entry(manifest: Mapping[str, Any], request: GameRequest) -> Mapping[str, Any]:
    """The manifest's entry of the first job that is asked for. Raises BenchError, with the jobs that there are."""
    jobs: list[Mapping[str, Any]] = [entry for entry in manifest.get("jobs") or () if entry.get("config")]
    if not jobs:
        raise BenchError(f"The run in {request.run} has no finished job to make a game of.")
    for entry in jobs:
        model, _, rest = entry["job"].partition(" at ")
        if request.model in (None, model) and request.layer in (None, rest.partition(" on ")[0]):
            return entry
    wanted = " at ".join(filter(None, (request.model or "any model", request.layer)))
    raise unknown("job in this run", wanted, [entry["job"] for entry in jobs])


def _lines(job: Job, images: int, titles: Mapping[str, str]) -> list[str]:
    cells = 2 * (len(titles) + 1)
    return [
        f"{images} pictures of two classes and {CHECKS} checks, from {job.name}",
        f"methods: {', '.join(titles.values())}, and the centred blob",
        f"players: number them in turn (game.html#player=1, ...); {cells} of them see every picture in every way",
    ]
