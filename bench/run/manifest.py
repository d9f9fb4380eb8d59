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
from axiom_bench.evaluation.specs import MetricSpec
from axiom_bench.records import artefacts, running
from axiom_bench.records.artefacts import common, listed, merge_facts
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


def facts(job: Job) -> dict[str, Any]:
    """A job's share of the manifest: of all its images, also of those that data.only_correct leaves out."""
    kept, job = len(job.indices), replace(job, indices=job.all_indices)
    model, data, budget = job.model, job.data, job.device.ablation_channels
    chosen = {} if job.made_of is None else {"mosaics": dict(job.made_of)}
    counts = {"chosen": len(job.indices), "kept": kept, "others": job.others, **chosen}
    drops = {} if budget is None else {"drops": f"of {budget} channels and a sample exact, others estimated"}
    of_model = {
        **{"layer": model.layer, "depths": {model.layer: model.depth}, "output": model.output.name},
        **{"weights": model.weights, "weights_sha256": model.weights_sha256, "images": {data.name: counts}},
        **{"random_weights": model.random_weights, "tells_contributions": job.cut_model.tells_contributions},
        **{"classes": list(job.class_names)},
        **({"published_accuracy": model.accuracy} if model.accuracy else {}),
        **({} if model.output.returns == LOGITS.returns else {"returns": model.output.returns}),
        **({"note": note} if (note := f"{model.note} {model.recognised}".strip()) else {}),
    }
    ids = [data.ids[index] for index in job.indices]
    orientations = dict.fromkeys(source.orientation for source in data.sources if source.orientation)
    of_data = {"ids": ids, "fingerprint": job.data_fingerprint, "notes": [*data.notes, *orientations]}
    return {
        "methods": {method.name: method.as_dict() | _explained(method) for method in job.methods},
        "metrics": {name: about for metric in job.metrics for name, about in values_of(metric).items()},
        "models": {model.name: of_model},
        "data": {data.name: of_data},
        "device": job.device.device.type,  # which GPU of several doesn't matter
        "hardware": hardware(job.device.device),
        "threads": torch.get_num_threads(),  # sums of other numbers of threads differ in rounding
        "precision": {"trunk": job.device.precision, "head": job.device.head_precision, **drops},
    }


def assemble(results: Sequence[JobResult], settings: Settings, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the manifest of a command.

    Args:
        results: Of its jobs, in their order.
        settings: Those of all jobs.
        overrides: As they were typed.
    """
    all_facts = [result.facts for result in results if result.facts]
    merged = merge_facts(all_facts)
    computed = [result for result in results if result.computed.shards]
    failures = {result.job: result.failure.message for result in results if result.failure is not None}
    libraries = {about["library"] for about in merged["methods"].values() if "library" in about}
    return {
        "experiment": settings.experiment,
        "run": settings.run,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "overrides": list(overrides),
        "config": results[0].config if results else {},
        **_protocol(results),
        **merged,
        "axes": {name: axes for result in results for name, axes in result.axes.items()},
        "device": common(facts["device"] for facts in all_facts),
        "hardware": common(facts.get("hardware") for facts in all_facts),
        "threads": common(facts.get("threads") for facts in all_facts),
        "precision": common(facts["precision"] for facts in all_facts),
        "versions": {name: version_of(name) for name in (*RECORDED, *sorted(libraries))},
        "git_commit": commit(),
        **{kind: [path for result in results for path in result.files.get(kind, ())] for kind in listed()},
        "jobs": [
            {
                **{"job": result.job, "config": result.config, "images": result.images},
                **{"left_out": list(result.left_out), "records": list(result.files.get("records", ()))},
                "values": result.values,
            }
            for result in results
        ],
        "seconds": {each.job: {stage: round(s, 2) for stage, s in each.seconds.items()} for each in computed},
        "work": {result.job: result.work() for result in computed},
        "failures": [{"job": job, "message": message} for job, message in failures.items()],
    }


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
    content: dict[str, Any]
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
        try:
            before = artefacts.read(folder)
        except BenchError:
            before = {}
        was_damaged = not before and os.path.lexists(folder / artefacts.NAME)
        content = assemble(results, settings, overrides)
        for kind in artefacts.OF_JOBS:  # if a job computed nothing, what it cost the previous command
            numbers = {**(before.get(kind) or {}), **content[kind]}
            content[kind] = {job["job"]: numbers[job["job"]] for job in content["jobs"] if job["job"] in numbers}
        if (command := running.command(folder)) is not None:
            content["command"] = command
        artefacts.write(folder, content)
        kept = KeptManifest(folder, content, was_damaged, no_longer_shown(before, content))
    running.end(folder)
    return kept


def of_job(result: JobResult) -> dict[str, Any]:
    """Return the manifest of one job, as `records.running` keeps it until the sweep has ended."""
    assert result.settings is not None
    return assemble([result], result.settings)


def values_of(metric: Plugin[MetricSpec]) -> dict[str, dict[str, Any]]:
    """Each value of a metric with its metadata, those of the whole data set first; a value's own entries replace the
    metric's."""
    plain = metric.spec.as_dict()
    of_value = {**plain.get("aggregate_values", {}), **plain.get("values", {})}
    shared = {key: plain[key] for key in OF_A_METRIC if key in plain} | _explained(metric)
    names = dict.fromkeys([*whole_set_value_names(metric), *value_names(metric)])
    return {name: {"title": name, **shared, **of_value.get(name, {}), "metric": metric.name} for name in names}


def _explained(plugin: Plugin) -> dict[str, Any]:
    """What a plug-in computes, in the first line of its docstring, and what it cites: text and link."""
    about = {"description": plugin.description} if plugin.description else {}
    key = plugin.spec.reference
    return {**about, "cited": _cited(key)} if key else about


def _cited(key: str) -> dict[str, str]:
    work = bibliography().get(key)  # a user's own file may cite what isn't there
    cited = (work.cited, work.title, work.url) if work else (key, "", "")
    return dict(zip(("text", "title", "url"), cited, strict=True))


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


def no_longer_shown(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
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


def _missing(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key, kind in (("models", "model"), ("methods", "method"), ("metrics", "metric"), ("data", "data set")):
        if names := [name for name in before.get(key) or {} if name not in (after.get(key) or {})]:
            yield _listed(kind, names)
    for model, old, new in _in_both(before, after, "models"):
        if layers := [layer for layer in old.get("layers") or () if layer not in (new.get("layers") or ())]:
            yield f"{_listed('layer', layers)} of {model}"
        if (weights := old.get("weights_sha256")) and weights != new.get("weights_sha256", weights):
            yield f"other weights of {model}"
    for data, old, new in _in_both(before, after, "data"):
        if count := len(set(old.get("ids") or ()) - set(new.get("ids") or ())):
            yield f"{count} image{'s' if count > 1 else ''} of {data}"
        elif old.get("ids") == new.get("ids") and old.get("fingerprint") != new.get("fingerprint"):
            yield f"other files of {data}"
    protocols = [((manifest.get("config") or {}).get("protocol") or {}).get("name") for manifest in (before, after)]
    if before and protocols[0] != protocols[1]:
        yield f"protocol {protocols[0]}" if protocols[0] else "values without a protocol"


def _in_both(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> list[tuple[str, Any, Any]]:
    """(name, old, new) of what both manifests have."""
    new = after.get(key) or {}
    return [(name, old, new[name]) for name, old in (before.get(key) or {}).items() if name in new]


def _listed(kind: str, names: Sequence[str]) -> str:
    return f"{kind}{'s' if len(names) > 1 else ''} {first_names(names, MAX_NAMES)}"
