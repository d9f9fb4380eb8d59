"""The manifest of a run: its jobs' results merged and written, and what the previous one had in addition."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from axiom_bench.cutting.output import LOGITS
from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError, first_names, unknown
from axiom_bench.evaluation.plugins import Plugin, value_names, whole_set_value_names
from axiom_bench.evaluation.specs import MethodSpec, MetricSpec
from axiom_bench.records import artefacts, running
from axiom_bench.records.artefacts import common, listed, merge_facts
from axiom_bench.records.entries import Cited, DataEntry, Facts, Manifest, MethodEntry, MetricEntry, ModelEntry
from axiom_bench.records.sources import version_of
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.job import Job
from axiom_bench.run.result import JobResult

RECORDED = ("torch", "torchvision", "Pillow", "numpy", "pandas", "pyarrow", "scipy", "hydra-core", "axiom-bench")
OF_A_METRIC = (
    "title", "unit", "kind", "better", "tolerance", "of", "needs", "note", "definition", "deviation", "reference",
    "unstable", "computed_from", "reached_by",
)  # fmt: skip
MAX_NAMES = 5  # of each kind of what is no longer shown
ACCENTS = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303"}
LINKS = {"eprint": ("arXiv:", "https://arxiv.org/abs/"), "doi": ("doi:", "https://doi.org/"), "url": ("", "")}


def facts(job: Job) -> Facts:
    """Return a job's share of the manifest. It counts all images, also those that data.only_correct leaves out."""
    kept = len(job.indices)
    job = replace(job, indices=job.all_indices)
    data = job.data
    orientations = dict.fromkeys(source.orientation for source in data.sources if source.orientation)
    precision = {"trunk": job.device.precision, "head": job.device.head_precision}
    budget = job.device.ablation_channels
    if budget is not None:
        precision["drops"] = f"of {budget} channels and a sample exact, others estimated"
    return Facts(
        methods={method.name: method_entry(method) for method in job.methods},
        metrics={name: value for metric in job.metrics for name, value in values_of(metric).items()},
        models={job.model.name: _model(job, kept)},
        data={
            data.name: DataEntry(
                ids=[data.ids[index] for index in job.indices],
                fingerprint=job.data_fingerprint,
                notes=[*data.notes, *orientations],
            )
        },
        device=job.device.device.type,  # which GPU of several doesn't matter
        hardware=hardware(job.device.device),
        threads=torch.get_num_threads(),  # sums of other numbers of threads differ in rounding
        precision=precision,
    )


def _model(job: Job, kept: int) -> ModelEntry:
    """Return the entry of a job's model. kept: the number of images that are explained."""
    model = job.model
    images: dict[str, Any] = {"chosen": len(job.indices), "kept": kept, "others": job.others}
    if job.made_of is not None:
        images["mosaics"] = dict(job.made_of)
    entry: dict[str, Any] = {
        "layer": model.layer,
        "depths": {model.layer: model.depth},
        "output": model.output.name,
        "weights": model.weights,
        "weights_sha256": model.weights_sha256,
        "images": {job.data.name: images},
        "random_weights": model.random_weights,
        "tells_contributions": job.cut_model.tells_contributions,
        "classes": list(job.class_names),
    }
    if model.accuracy:
        entry["published_accuracy"] = model.accuracy
    if model.output.returns != LOGITS.returns:
        entry["returns"] = model.output.returns
    if note := f"{model.note} {model.recognised}".strip():
        entry["note"] = note
    return ModelEntry.model_validate(entry)


def assemble(results: Sequence[JobResult], settings: Settings, overrides: Sequence[str] = ()) -> Manifest:
    """Return the manifest of a command.

    Args:
        results: Of its jobs, in their order.
        settings: Those of all jobs.
        overrides: As they were typed.
    """
    all_facts = [result.facts for result in results if not result.facts.is_empty]
    merged = merge_facts(all_facts)
    computed = [result for result in results if result.computed.shards]
    failures = {result.job: result.failure.message for result in results if result.failure is not None}
    libraries = {method.library for method in merged.methods.values() if method.library}
    return Manifest.model_validate(
        {
            "experiment": settings.experiment,
            "run": settings.run,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "overrides": list(overrides),
            "config": results[0].config if results else {},
            **_protocol(results),
            "methods": merged.methods,
            "metrics": merged.metrics,
            "models": merged.models,
            "data": merged.data,
            "axes": {name: axes for result in results for name, axes in result.axes.items()},
            "device": common(facts.device for facts in all_facts),
            "hardware": common(facts.hardware for facts in all_facts),
            "threads": common(facts.threads for facts in all_facts),
            "precision": common(facts.precision for facts in all_facts),
            "versions": {name: version_of(name) for name in (*RECORDED, *sorted(libraries))},
            "git_commit": commit(),
            **{kind: [path for result in results for path in result.files.get(kind, ())] for kind in listed()},
            "jobs": [
                {
                    "job": result.job,
                    "config": result.config,
                    "images": result.images,
                    "left_out": list(result.left_out),
                    "records": list(result.files.get("records", ())),
                    "values": result.values,
                }
                for result in results
            ],
            "seconds": {each.job: {stage: round(s, 2) for stage, s in each.seconds.items()} for each in computed},
            "work": {result.job: result.work() for result in computed},
            "failures": [{"job": job, "message": message} for job, message in failures.items()],
        }
    )


def _protocol(results: Sequence[JobResult]) -> dict[str, Any]:
    """What a run's protocol says of itself, what it cites, and what differs from it, of single jobs with their names;
    empty without one."""
    protocols = {result.job: result.settings.protocol for result in results if result.settings is not None}
    followed = {job: protocol for job, protocol in protocols.items() if protocol}
    if not followed:
        return {}
    about = next(iter(followed.values()))
    differing = {job: protocol["differences"] for job, protocol in followed.items()}
    sentences = dict.fromkeys(sentence for of_job in differing.values() for sentence in of_job)
    jobs = {text: [job for job, of_job in differing.items() if text in of_job] for text in sentences}
    differences = [text if len(of) == len(differing) else f"{', '.join(of)}: {text}" for text, of in jobs.items()]
    return {"protocol": {**about, "differences": differences, "cited": _cited(about["reference"])}}


@dataclass(frozen=True)
class KeptManifest:
    """The manifest that a command has written.

    Attributes:
        folder: The run folder.
        content: The manifest.
        was_damaged: Whether the manifest of the previous command couldn't be read.
        no_longer_shown: A line about what the previous manifest had and this one hasn't.
    """

    folder: Path
    content: Manifest
    was_damaged: bool
    no_longer_shown: str | None


def keep(settings: Settings, results: Sequence[JobResult], overrides: Sequence[str] = ()) -> KeptManifest | None:
    """Write the manifest of a sweep, with which its values count. It is None if every job has failed.

    Raises:
        BenchError: If the folder can't be written.
    """
    folder = settings.run_folder
    kept = None
    if any(result.failure is None for result in results):
        before = _previous(folder)
        was_damaged = before.is_empty and os.path.lexists(folder / artefacts.NAME)
        content = assemble(results, settings, overrides)
        jobs = [job.job for job in content.jobs]
        # A job that found all its values in the folder keeps the numbers of the command that computed them.
        seconds = before.seconds | content.seconds
        work = before.work | content.work
        changed: dict[str, Any] = {
            "seconds": {job: seconds[job] for job in jobs if job in seconds},
            "work": {job: work[job] for job in jobs if job in work},
        }
        if (command := running.command(folder)) is not None:
            changed["command"] = command
        content = content.model_copy(update=changed)
        artefacts.write(folder, content)
        kept = KeptManifest(folder, content, was_damaged, no_longer_shown(before, content))
    running.end(folder)
    return kept


def _previous(folder: Path) -> Manifest:
    """Return the manifest of the command before this one; an empty one if there is none that can be read."""
    try:
        return artefacts.read(folder)
    except BenchError:
        return Manifest()


def of_job(result: JobResult) -> Manifest:
    """Return the manifest of one job, as `records.running` keeps it until the sweep has ended."""
    assert result.settings is not None
    return assemble([result], result.settings)


def method_entry(method: Plugin[MethodSpec]) -> MethodEntry:
    """Return a method's metadata."""
    return MethodEntry.model_validate(method.as_dict() | _explained(method))


def values_of(metric: Plugin[MetricSpec]) -> dict[str, MetricEntry]:
    """Return each value of a metric with its metadata, those of the whole data set first; a value's own entries replace
    the metric's."""
    plain = metric.spec.as_dict()
    of_value = {**plain.get("aggregate_values", {}), **plain.get("values", {})}
    shared = {key: plain[key] for key in OF_A_METRIC if key in plain} | _explained(metric)
    names = dict.fromkeys([*whole_set_value_names(metric), *value_names(metric)])
    return {
        name: MetricEntry.model_validate({"title": name, **shared, **of_value.get(name, {}), "metric": metric.name})
        for name in names
    }


def _explained(plugin: Plugin) -> dict[str, Any]:
    """What a plug-in computes, in the first line of its docstring, and what it cites: text and link."""
    about: dict[str, Any] = {"description": plugin.description} if plugin.description else {}
    key = plugin.spec.reference
    return {**about, "cited": _cited(key)} if key else about


def _cited(key: str) -> Cited:
    work = bibliography().get(key)
    if work is None:  # a user's own file may cite what isn't there
        return Cited(text=key, title="", url="")
    return Cited(text=work.cited, title=work.title, url=work.url)


def hardware(device: torch.device) -> str:
    """On which values have the same bits: the GPU's name, or the widest instructions that torch uses of the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()


@cache
def commit() -> str | None:
    """The commit of the checkout this code runs from; None for an installed package."""
    top = conf_folder().resolve().parent  # of an editable install it is a link
    if not (top / ".git").exists() or shutil.which("git") is None:
        return None
    result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=top, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


@dataclass(frozen=True)
class Reference:
    """authors: family names of at most two, or the first with "et al.". label: "arXiv:2008.02312", "doi:..." or "".
    url: empty where the entry names none."""

    authors: str
    year: str
    title: str
    label: str = ""
    url: str = ""

    @property
    def cited(self) -> str:
        """ "Fu et al. 2020, arXiv:2008.02312"."""
        return ", ".join(filter(None, (f"{self.authors} {self.year}", self.label)))


def reference(key: str) -> Reference:
    """The reference of a key. Raises BenchError, with the nearest keys, where there is none."""
    if key not in bibliography():
        raise unknown("entry in conf/references.bib", key, bibliography())
    return bibliography()[key]


@cache
def bibliography() -> Mapping[str, Reference]:
    """All references by key."""
    return parsed((conf_folder() / "references.bib").read_text(encoding="utf-8"))


def parsed(text: str) -> dict[str, Reference]:
    """The entries of a BibTeX text in which each field is one line, as `name = {text},`. Raises BenchError for a key
    that stands there twice."""
    references: dict[str, Reference] = {}
    for key, body in re.findall(r"^@\w+\{([^,\s]+),\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        if key in references:
            raise BenchError(f"conf/references.bib has two entries {key!r}; remove one.")
        fields = re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", body, re.MULTILINE)
        entry = {name.lower(): _without_tex(value) for name, value in fields}
        link = next((name for name in LINKS if name in entry), None)
        shown, start = LINKS[link] if link else ("", "")
        label = f"{shown}{entry[link]}" if link and shown else ""
        names = [name.partition(",")[0] for name in re.split(r"\s+and\s+", entry.get("author", ""))]
        authors = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        url = f"{start}{entry[link]}" if link else ""
        references[key] = Reference(authors, entry.get("year", ""), entry.get("title", ""), label, url)
    return references


def _without_tex(text: str) -> str:
    """TeX's accents as letters, without braces."""
    accented = re.sub(r"\\(['`\"^~])\{?(\w)\}?", lambda match: match[2] + ACCENTS[match[1]], text)
    return unicodedata.normalize("NFC", re.sub(r"[{}]", "", accented))


def no_longer_shown(before: Manifest, after: Manifest) -> str | None:
    """Return one line that names what the new manifest leaves out, and what to type to have both.

    The line has models, layers, weights, methods, metrics, images and a protocol. It is `None` if nothing is left out.
    """
    parts = list(_missing(before, after))
    if not parts:
        return None
    return (
        f"the report no longer shows {'; '.join(parts)}: this run folder held them until now, and their records are "
        "kept. For a folder of its own, give one of the two commands run=NAME."
    )


def _missing(before: Manifest, after: Manifest) -> Iterator[str]:
    for key, kind in (("models", "model"), ("methods", "method"), ("metrics", "metric"), ("data", "data set")):
        if names := [name for name in getattr(before, key) if name not in getattr(after, key)]:
            yield _listed(kind, names)
    for name in [name for name in before.models if name in after.models]:
        old, new = before.models[name], after.models[name]
        if layers := [layer for layer in old.layers if layer not in new.layers]:
            yield f"{_listed('layer', layers)} of {name}"
        has_weights = old.weights_sha256 and "weights_sha256" in new.model_fields_set
        if has_weights and old.weights_sha256 != new.weights_sha256:
            yield f"other weights of {name}"
    for name in [name for name in before.data if name in after.data]:
        old_data, new_data = before.data[name], after.data[name]
        if count := len(set(old_data.ids) - set(new_data.ids)):
            yield f"{count} image{'s' if count > 1 else ''} of {name}"
        elif old_data.ids == new_data.ids and old_data.fingerprint != new_data.fingerprint:
            yield f"other files of {name}"
    protocols = [(manifest.config.protocol or {}).get("name") for manifest in (before, after)]
    if not before.is_empty and protocols[0] != protocols[1]:
        yield f"protocol {protocols[0]}" if protocols[0] else "values without a protocol"


def _listed(kind: str, names: Sequence[str]) -> str:
    return f"{kind}{'s' if len(names) > 1 else ''} {first_names(names, MAX_NAMES)}"
