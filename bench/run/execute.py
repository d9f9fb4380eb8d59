"""One job of a sweep, from its configuration to what it leaves in the run folder."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.data.drawn.mosaic import MosaicImages
from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.records import artefacts, claims, mirror, remote, running
from axiom_bench.run import manifest, notes
from axiom_bench.run.composing import device, launcher_signals, launchers, settings
from axiom_bench.run.composing.settings import add_current_folder
from axiom_bench.run.computing import compute, stored
from axiom_bench.run.inputs import image_cache
from axiom_bench.run.jobs import mosaics, predictions
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job, keep_hashes, read_hashes
from axiom_bench.run.manifest import Failure, Outcome
from axiom_bench.run.stages import START, WRITING, Stages, Step


def execute(config: DictConfig, share: bool = False) -> Outcome:
    """Runs a job. A failure is an outcome too, so that the other jobs of the sweep go on; it raises what a launcher's
    signal handler does, which ends the job.

    share: computes shards alone, and none that another process is at.
    """
    add_current_folder()
    launchers.end_with_command()
    with launcher_signals.apart():
        return _outcome(config, share)


def _outcome(config: DictConfig, share: bool) -> Outcome:
    name = str(OmegaConf.select(config, "model.name"))
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        return _run(resolved, name, share)
    except BenchError as error:
        return Outcome(name, {}, failure=Failure(name, str(error), mendable=True))
    except OmegaConfBaseException as error:
        return Outcome(name, {}, failure=Failure(name, str(error).split("\n")[0], mendable=True))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one job's defect must not stop the sweep's other jobs
        if is_out_of_memory(error):  # where no pass is to be halved, as in moving a network to its device
            sentence = f"Out of memory ({str(error).strip().partition(chr(10))[0]}); free some, or use another machine."
            return Outcome(name, {}, failure=Failure(name, sentence, mendable=True))
        plugin_notes = getattr(error, "__notes__", [])  # which plug-in raised it: the user can mend that
        message = ", ".join([f"{type(error).__name__}: {error}", *plugin_notes])
        return Outcome(name, {}, failure=Failure(name, message, bool(plugin_notes), trace=traceback.format_exc()))


def _run(config: dict[str, Any], name: str, share: bool) -> Outcome:
    stages = Stages(name)
    with stages.stage(START):
        settings.check(config)
        folder = run_folder(config)
        mirror.pull(folder)
        job = Job.of(config)
        job.device.prepare()
        device.keep_freed_memory()
        cut_model = compute.cut_of(job)
    with notes.collected() as warned, claims.running(folder):
        with stages.stage(START):
            chosen = _chosen(config, replace(job, hashes=read_hashes(folder)), cut_model, folder)
            job, cut_model = chosen.job, chosen.cut_model
            facts = Facts(job)
            keep_hashes(job, folder)
            begun = _begun(config, chosen, facts)
            shards = {facts.shard(shard): len(shard) for shard in job.shards}
            if not share:
                running.announce(folder, job.name, {**manifest.of_job(begun), "shards": shards})
        with stages.stage(WRITING) as parts:
            budget = config["metrics"]["max_forwards_per_image"]
            computed, records = stored.ensure(facts, cut_model, folder, budget, share)
            parts.update(computed.seconds)
        if share:
            return replace(begun, shards=len(job.shards), shards_computed=computed.shards)
        files = {"records": records.records, "curves": records.curves}
        step = Step(facts, cut_model, config, folder, records.as_dict())
        for kind, module in artefacts.steps().items():
            made_by = import_module(module)
            with stages.stage(made_by.STAGE):
                files[kind] = made_by.ensure(step)
    ended = replace(
        begun,
        stored=records.as_dict(),
        files=files,
        axes=records.axes,
        shards=len(job.shards),
        shards_computed=computed.shards,
        seconds=stages.seconds,
        work=computed.work(),
        notes=(*job.notes, *chosen.lines(), *warned.lines()),
    )
    running.announce(folder, job.name, manifest.of_job(ended))
    mirror.push(folder)
    return ended


@dataclass(frozen=True)
class _Chosen:
    """A job on the images to explain. indices: also of those that data.only_correct leaves out; left_out: their ids.
    made_of: which images mosaics were made of."""

    job: Job
    cut_model: CutModel
    indices: tuple[int, ...]
    left_out: tuple[str, ...]
    made_of: mosaics.Choice | None

    def lines(self) -> tuple[str, ...]:
        """For the user."""
        made_of = () if self.made_of is None else (self.made_of.line(),)
        return (*made_of, *predictions.note(self.left_out, len(self.indices)))


def _chosen(config: dict[str, Any], job: Job, cut_model: CutModel, folder: Path) -> _Chosen:
    if not isinstance(job.data, MosaicImages) or job.data.confidence is not None:  # else they aren't read alone
        image_cache.announce(job)
    made = mosaics.made(job, cut_model, folder)
    if made is not None:
        job, cut_model = made.job, made.cut_model
    indices = job.indices
    left_out: tuple[str, ...] = ()
    if config["data"].get("only_correct"):
        job, left_out = predictions.only_correct(job, cut_model, folder)
    made_of = None if made is None else made.choice
    return _Chosen(compute.decided(job, cut_model), cut_model, indices, left_out, made_of)


def _begun(config: dict[str, Any], chosen: _Chosen, facts: Facts) -> Outcome:
    """What is known of a job before a value is computed."""
    job, kept = chosen.job, len(chosen.job.indices)
    others = predictions.OTHERS if config["data"].get("only_correct") else None
    known = manifest.facts(replace(job, indices=chosen.indices), kept, others, chosen.made_of)
    stored_values = {"records": [], "values": facts.values}
    return Outcome(job.name, config, known, stored_values, images=kept, left_out=chosen.left_out)


def run_folder(config: dict[str, Any]) -> Path:
    """Where a run's files are: <results>/<experiment>/<run>; of results in a store, the mirror on this machine."""
    return remote.folder_of(str(config["results"])) / str(config["experiment"]) / str(config["run"])
