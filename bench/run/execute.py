"""One job of a sweep, from its configuration to what it leaves in the run folder."""

from __future__ import annotations

import traceback
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.records import artefacts, claims, mirror, remote, running
from axiom_bench.run import manifest, notes
from axiom_bench.run.composing import launcher_signals, launchers
from axiom_bench.run.composing.settings import add_current_folder
from axiom_bench.run.computing import stored
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.ready import ReadyJob, loaded
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
    stages, folder = Stages(name), run_folder(config)
    with stages.stage(START):
        job, cut_model = loaded(config, folder)
    with notes.collected() as warned, claims.running(folder):
        with stages.stage(START):
            ready = ReadyJob.of(job, cut_model, bool(config["data"].get("only_correct")), folder)
            facts = Facts(ready.job)
            begun = _begun(config, ready, facts)
            if not share:
                shards = {facts.shard(shard): len(shard) for shard in ready.job.shards}
                running.announce(folder, begun.job, {**manifest.of_job(begun), "shards": shards})
        with stages.stage(WRITING) as parts:
            budget = config["metrics"]["max_forwards_per_image"]
            computed, records = stored.ensure(facts, ready.cut_model, folder, budget, share)
            parts.update(computed.seconds)
        if share:
            return replace(begun, computed=computed)
        files = {"records": records.records, "curves": records.curves}
        step = Step(facts, ready.cut_model, config, folder, records.as_dict())
        for kind, module in artefacts.steps().items():
            made_by = import_module(module)
            with stages.stage(made_by.STAGE):
                files[kind] = made_by.ensure(step)
    lines = (*ready.lines(), *warned.lines())
    ended = replace(begun, stored=records, files=files, computed=computed, seconds=stages.seconds, notes=lines)
    running.announce(folder, ended.job, manifest.of_job(ended))
    mirror.push(folder)
    return ended


def _begun(config: dict[str, Any], ready: ReadyJob, facts: Facts) -> Outcome:
    """What is known of a job before a value is computed."""
    job, kept = ready.job, len(ready.job.indices)
    return Outcome(
        job.name,
        config,
        manifest.facts(replace(job, indices=ready.indices), kept, ready.others, ready.made_of),
        images=kept,
        left_out=ready.left_out,
        shards=len(job.shards),
        stored=stored.Stored(values=facts.values),
    )


def run_folder(config: dict[str, Any]) -> Path:
    """Where a run's files are: <results>/<experiment>/<run>; of results in a store, the mirror on this machine."""
    return remote.folder_of(str(config["results"])) / str(config["experiment"]) / str(config["run"])
