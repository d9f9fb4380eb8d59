"""The manifest of a run: merge the results of its jobs, write them, and list what only the previous
manifest had.

Reports, the gate and `verify` read the manifest to know which record files count, and how their
values were computed. The module also reads the bibliography, whose entries the manifest cites.
"""

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

import torch

from axiom_bench.cutting.output import LOGITS
from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError, first_names, unknown_name
from axiom_bench.evaluation.plugins import AnyPlugin, Plugin, value_names, whole_set_value_names
from axiom_bench.evaluation.specs import MethodSpec, MetricSpec
from axiom_bench.records import artefacts, running
from axiom_bench.records.artefacts import common_value, listed_kinds, merge_facts
from axiom_bench.records.entries import (
    Cited,
    DataEntry,
    Facts,
    Manifest,
    MethodEntry,
    MetricEntry,
    ModelEntry,
)
from axiom_bench.records.sources import version_of
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.job import Job
from axiom_bench.run.result import JobResult

RECORDED = (
    "torch",
    "torchvision",
    "Pillow",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "hydra-core",
    "axiom-bench",
)
OF_A_METRIC = (
    "title", "unit", "kind", "better", "tolerance", "of", "needs", "note", "definition",
    "deviation", "reference", "unstable", "computed_from", "reached_by",
)  # fmt: skip
MAX_NAMES = 5  # the line about what is no longer shown lists at most this many names of each kind
ACCENTS = {  # {TeX's accent: Unicode's combining character}
    "'": "\u0301",
    "`": "\u0300",
    '"': "\u0308",
    "^": "\u0302",
    "~": "\u0303",
}
# {field of a BibTeX entry: (start of the label, start of the URL)}, the preferred field first
LINKS = {
    "eprint": ("arXiv:", "https://arxiv.org/abs/"),
    "doi": ("doi:", "https://doi.org/"),
    "url": ("", ""),
}


def facts(job: Job) -> Facts:
    """Return a job's share of the manifest. It lists all images, also those that data.only_correct
    leaves out.
    """
    explained_images = len(job.indices)
    job = replace(job, indices=job.all_indices)
    data = job.data
    orientations = dict.fromkeys(
        source.orientation for source in data.sources if source.orientation
    )
    precision = {"trunk": job.device.precision, "head": job.device.head_precision}
    budget = job.device.ablation_channels
    if budget is not None:
        precision["drops"] = f"of {budget} channels and a sample exact, others estimated"
    metrics: dict[str, MetricEntry] = {}
    for metric in job.metrics:
        metrics.update(value_entries(metric))
    data_entry = DataEntry(
        ids=[data.ids[index] for index in job.indices],
        fingerprint=job.data_fingerprint,
        notes=[*data.notes, *orientations],
    )
    return Facts(
        methods={method.name: method_entry(method) for method in job.methods},
        metrics=metrics,
        models={job.model.name: _model_entry(job, explained_images)},
        data={data.name: data_entry},
        device=job.device.device.type,  # which GPU of several doesn't matter
        hardware=hardware(job.device.device),
        threads=torch.get_num_threads(),  # the rounding of sums depends on it
        precision=precision,
    )


def _model_entry(job: Job, explained_images: int) -> ModelEntry:
    """Return the entry of a job's model, with the number of images that are explained."""
    model = job.model
    images: dict[str, object] = {
        "chosen": len(job.indices),
        "kept": explained_images,
        "others": job.left_out_reason,
    }
    if job.mosaic_sources is not None:
        images["mosaics"] = dict(job.mosaic_sources)
    # facts that most models lack are left out, so that the manifest stays short to read
    if model.finds_objects:
        images["noun"] = model.noun
    entry: dict[str, object] = {
        "layer": model.layer,
        "depths": {model.layer: model.depth},
        "output": model.output.name,
        "weights": model.weights,
        "weights_sha256": model.weights_sha256,
        "images": {job.data.name: images},
        "random_weights": model.random_weights,
        "tells_contributions": job.cut_model.has_true_contributions,
        "classes": list(job.class_names),
    }
    if model.accuracy:
        entry["published_accuracy"] = model.accuracy
    if model.output.returns != LOGITS.returns:
        entry["returns"] = model.output.returns
    note = f"{model.note} {model.recognition_note}".strip()
    if note:
        entry["note"] = note
    return ModelEntry.model_validate(entry)


def assemble(
    results: Sequence[JobResult], settings: Settings, overrides: Sequence[str] = ()
) -> Manifest:
    """Return the manifest of a command.

    Args:
        results: The results of its jobs, in their order.
        settings: The settings of all jobs.
        overrides: The command line's overrides, as they were typed.
    """
    all_facts = [result.facts for result in results if not result.facts.is_empty]
    merged = merge_facts(all_facts)
    computed = [result for result in results if result.computed.shards]
    # jobs that fail before they are composed share the name of their model
    failures = {
        (result.job, result.failure.message): None
        for result in results
        if result.failure is not None
    }
    libraries = {method.library for method in merged.methods.values() if method.library}
    axes: dict[str, object] = {}
    for result in results:
        axes.update(result.axes)
    files: dict[str, list[str]] = {}
    for kind in listed_kinds():
        files[kind] = [path for result in results for path in result.files.get(kind, ())]
    seconds = {}
    for result in computed:
        seconds[result.job] = {
            stage: round(duration, 2) for stage, duration in result.seconds.items()
        }
    jobs = []
    for result in results:
        job = {
            "job": result.job,
            "config": result.config,
            "images": result.images,
            "left_out": list(result.left_out),
            "warnings": list(result.lines),
            "notes": list(result.notes),
            "records": list(result.files.get("records", ())),
            "values": result.values,
        }
        jobs.append(job)
    # jobs that ran on different machines may differ: then these are lists
    devices = common_value(facts.device for facts in all_facts)
    hardware_name = common_value(facts.hardware for facts in all_facts)
    threads = common_value(facts.threads for facts in all_facts)
    precision = common_value(facts.precision for facts in all_facts)
    versions = {name: version_of(name) for name in (*RECORDED, *sorted(libraries))}
    work = {result.job: result.work() for result in computed}
    failure_entries = [{"job": job, "message": message} for job, message in failures]
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
            "axes": axes,
            "device": devices,
            "hardware": hardware_name,
            "threads": threads,
            "precision": precision,
            "versions": versions,
            "git_commit": commit(),
            **files,
            "jobs": jobs,
            "seconds": seconds,
            "work": work,
            "failures": failure_entries,
        }
    )


def _protocol(results: Sequence[JobResult]) -> dict[str, object]:
    """Return the manifest's entry about the protocol that the run follows, or {} if it follows
    none.

    The entry has the protocol's own facts, the cited paper, and the differences between run and
    protocol. A difference that only some jobs have begins with their names.
    """
    protocols = {
        result.job: result.settings.protocol for result in results if result.settings is not None
    }
    followed = {job: protocol for job, protocol in protocols.items() if protocol}
    if not followed:
        return {}
    jobs_by_difference: dict[str, list[str]] = {}
    for job, protocol in followed.items():
        for difference in dict.fromkeys(protocol["differences"]):
            jobs_by_difference.setdefault(difference, []).append(job)
    differences = []
    for difference, jobs in jobs_by_difference.items():
        is_shared = len(jobs) == len(followed)
        differences.append(difference if is_shared else f"{', '.join(jobs)}: {difference}")
    facts = next(iter(followed.values()))
    return {"protocol": {**facts, "differences": differences, "cited": _cited(facts["reference"])}}


@dataclass(frozen=True)
class KeptManifest:
    """The manifest that a command has written."""

    folder: Path
    """The run folder."""
    content: Manifest
    """The manifest."""
    was_damaged: bool
    """True if the manifest of the previous command couldn't be read."""
    no_longer_shown: str | None
    """A line about what the previous manifest has and this one lacks; None if it lacks nothing."""


def keep(
    settings: Settings, results: Sequence[JobResult], overrides: Sequence[str] = ()
) -> KeptManifest | None:
    """Write and return the manifest of a command. Only values that a manifest lists count for
    reports.

    Args:
        settings: The settings of all jobs.
        results: The results of the jobs, in their order.
        overrides: The command line's overrides, as they were typed.

    Returns:
        The manifest, or None if every job has failed. In this case no manifest is written.

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
        # A job that found all its values in the folder keeps the numbers of the command that
        # computed them.
        seconds = before.seconds | content.seconds
        work = before.work | content.work
        update: dict[str, object] = {
            "seconds": {job: seconds[job] for job in jobs if job in seconds},
            "work": {job: work[job] for job in jobs if job in work},
        }
        command = running.running_command(folder)
        if command is not None:
            update["command"] = command
        content = content.model_copy(update=update)
        artefacts.write(folder, content)
        kept = KeptManifest(folder, content, was_damaged, no_longer_shown(before, content))
    running.end_command(folder)
    return kept


def _previous(folder: Path) -> Manifest:
    """Return the manifest of the previous command, or an empty one if none can be read."""
    try:
        return artefacts.read(folder)
    except BenchError:
        return Manifest()


def job_manifest(result: JobResult) -> Manifest:
    """Return the manifest of one job, which `records.running` keeps until the command has ended."""
    assert result.settings is not None
    return assemble([result], result.settings)


def method_entry(method: Plugin[MethodSpec]) -> MethodEntry:
    """Return the metadata of a method."""
    return MethodEntry.model_validate(method.as_dict() | _described(method))


def value_entries(metric: Plugin[MetricSpec]) -> dict[str, MetricEntry]:
    """Return {name: metadata} of each value of a metric, values of the whole data set first.

    The metadata of a value replace those of its metric.
    """
    spec = metric.spec.as_dict()
    spec_by_value = {**metric.spec.aggregate_values, **metric.spec.values}
    shared = {key: spec[key] for key in OF_A_METRIC if key in spec} | _described(metric)
    entries = {}
    for name in [*whole_set_value_names(metric), *value_names(metric)]:
        own = spec_by_value[name].as_dict() if name in spec_by_value else {}
        metadata = {"title": name, **shared, **own, "metric": metric.name}
        entries[name] = MetricEntry.model_validate(metadata)
    return entries


def _described(plugin: AnyPlugin) -> dict[str, object]:
    """Return the description of a plug-in, which is the first line of its docstring, and the work
    that it cites.
    """
    entry: dict[str, object] = {}
    if plugin.description:
        entry["description"] = plugin.description
    if plugin.spec.reference:
        entry["cited"] = _cited(plugin.spec.reference)
    return entry


def _cited(key: str) -> Cited:
    """Return the text, title and link of a cited work."""
    work = bibliography().get(key)
    if work is None:  # a user's own file may cite a work that conf/references.bib lacks
        return Cited(text=key, title="", url="")
    return Cited(text=work.cited, title=work.title, url=work.url)


def hardware(device: torch.device) -> str:
    """Return the hardware that decides the bits of values: the GPU's name, or the widest CPU
    instructions of torch.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()


@cache
def commit() -> str | None:
    """Return the commit of the checkout that this code runs from, or None for an installed
    package.
    """
    top = conf_folder().resolve().parent  # in an editable install, the folder is a link
    if not (top / ".git").exists() or shutil.which("git") is None:
        return None
    result = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=top, capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or None


@dataclass(frozen=True)
class Reference:
    """A work of the bibliography."""

    authors: str
    """The family names of at most two authors, or that of the first with "et al."."""
    year: str
    title: str
    label: str = ""
    """A label such as "arXiv:2008.02312" or "doi:...", or ""."""
    url: str = ""
    """The link, or "" if the entry has none."""

    @property
    def cited(self) -> str:
        """The text of a citation, such as "Fu et al. 2020, arXiv:2008.02312"."""
        text = f"{self.authors} {self.year}"
        return f"{text}, {self.label}" if self.label else text


def reference(key: str) -> Reference:
    """Return the reference of a key. If there is none, raise BenchError with the nearest keys."""
    if key not in bibliography():
        raise unknown_name("entry in conf/references.bib", key, bibliography())
    return bibliography()[key]


@cache
def bibliography() -> Mapping[str, Reference]:
    """Return {key: reference} of conf/references.bib."""
    return parsed((conf_folder() / "references.bib").read_text(encoding="utf-8"))


def parsed(text: str) -> dict[str, Reference]:
    """Parse a BibTeX text in which each field is one line, such as `name = {text},`. Return {key:
    reference}.

    Raise BenchError if two entries have the same key.
    """
    references: dict[str, Reference] = {}
    for key, body in re.findall(r"^@\w+\{([^,\s]+),\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        if key in references:
            raise BenchError(f"conf/references.bib has two entries {key!r}; remove one.")
        fields = re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", body, re.MULTILINE)
        entry = {name.lower(): _without_tex(value) for name, value in fields}
        label = ""
        url = ""
        field = next((name for name in LINKS if name in entry), None)
        if field is not None:
            label_start, url_start = LINKS[field]
            label = f"{label_start}{entry[field]}" if label_start else ""
            url = f"{url_start}{entry[field]}"
        names = [name.partition(",")[0] for name in re.split(r"\s+and\s+", entry.get("author", ""))]
        authors = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        references[key] = Reference(
            authors, entry.get("year", ""), entry.get("title", ""), label, url
        )
    return references


def _without_tex(text: str) -> str:
    """Replace TeX's accents by letters, and remove braces."""
    accented = re.sub(r"\\(['`\"^~])\{?(\w)\}?", lambda match: match[2] + ACCENTS[match[1]], text)
    return unicodedata.normalize("NFC", re.sub(r"[{}]", "", accented))


def no_longer_shown(before: Manifest, after: Manifest) -> str | None:
    """Return a line that lists what the new manifest leaves out, and says what to type to keep
    both.

    It lists models, layers, weights, methods, metrics, images and the protocol. It is None if
    nothing is left out.
    """
    parts = list(_missing(before, after))
    if not parts:
        return None
    return (
        f"the report no longer shows {'; '.join(parts)}: this run folder held them until now, and "
        "their records are kept. For a folder of its own, give one of the two commands run=NAME."
    )


def _missing(before: Manifest, after: Manifest) -> Iterator[str]:
    """Yield a phrase for everything that the previous manifest has and the new one lacks."""
    kind_by_field = {
        "models": "model",
        "methods": "method",
        "metrics": "metric",
        "data": "data set",
    }
    for key, kind in kind_by_field.items():
        names = [name for name in getattr(before, key) if name not in getattr(after, key)]
        if names:
            yield _listed(kind, names)
    for name in [name for name in before.models if name in after.models]:
        old = before.models[name]
        new = after.models[name]
        layers = [layer for layer in old.layers if layer not in new.layers]
        if layers:
            yield f"{_listed('layer', layers)} of {name}"
        # weights are compared only if both manifests state them
        has_weights = old.weights_sha256 and "weights_sha256" in new.model_fields_set
        if has_weights and old.weights_sha256 != new.weights_sha256:
            yield f"other weights of {name}"
    for name in [name for name in before.data if name in after.data]:
        old_data = before.data[name]
        new_data = after.data[name]
        count = len(set(old_data.ids) - set(new_data.ids))
        if count:
            yield f"{count} image{'s' if count > 1 else ''} of {name}"
        elif old_data.ids == new_data.ids and old_data.fingerprint != new_data.fingerprint:
            yield f"other files of {name}"
    old_protocol = (before.config.protocol or {}).get("name")
    new_protocol = (after.config.protocol or {}).get("name")
    if not before.is_empty and old_protocol != new_protocol:
        yield f"protocol {old_protocol}" if old_protocol else "values without a protocol"


def _listed(kind: str, names: Sequence[str]) -> str:
    """Return the kind in singular or plural, followed by the first names."""
    return f"{kind}{'s' if len(names) > 1 else ''} {first_names(names, MAX_NAMES)}"
