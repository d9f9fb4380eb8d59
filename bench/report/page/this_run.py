"""The head of the page, and its end: what ran, how it was made, and the command that runs it
again.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import yaml

from axiom_bench.columns import UNKNOWN_CLASS
from axiom_bench.errors import first_names
from axiom_bench.records import running
from axiom_bench.records.by_metric import image_numbers
from axiom_bench.records.entries import Manifest, ProtocolEntry
from axiom_bench.report.options import options_of
from axiom_bench.report.page.html import Header, Section, part
from axiom_bench.report.tables.text import accuracy_text
from axiom_bench.statistics.labels import NOTHING, Setting, number, plural, share
from axiom_bench.statistics.ranking import (
    MEND,
    at_chance,
    below_published,
    coincidences,
    conclusion,
)
from axiom_bench.statistics.run_folder import RunFolder

MANY = 6  # names; more are counted
VERSIONS = ("axiom-bench", "torch")
OF_PROTOCOL = {  # fields of the manifest's protocol
    "differences": "What differs from it here",
    "paper_vs_code": "The paper and the authors' code",
    "not_covered": "What of the paper's evaluation isn't here",
}


def header(run: RunFolder, trust: Mapping[Setting, Mapping[str, str]] | None = None) -> Header:
    """The conclusion, or what was run where there is none; networks, images and machine. trust: of
    a setting's metrics how far their order can be trusted.
    """
    manifest = run.manifest
    methods, models = manifest.methods, manifest.models
    rows = run.records.of_images[["data", "image_id", "target_class"]].drop_duplicates()
    images = len(
        rows.assign(image_id=image_numbers(rows["image_id"]))[
            ["data", "image_id"]
        ].drop_duplicates()
    )
    data = " and ".join(manifest.data)
    machine = [str(manifest.device or "unknown device"), precision(manifest.precision)]
    machine += [
        f"{name} {manifest.versions[name]}" for name in VERSIONS if name in manifest.versions
    ]
    shown = plural(len(rows), "row")
    facts = {
        "Protocol": _protocol(manifest.protocol),
        "Networks": _names([_network(run, name) for name in models], "networks"),
        "Accuracy": accuracy_text(run),
        "Images": f"{plural(images, 'image')} of {data}, {shown}" if images else "none",
        "Computed": ", ".join(filter(None, (_day(manifest.created), *machine))),
    }
    counts = (
        f"{plural(len(methods), 'method')} on {plural(len(models), 'network')} and "
        f"{plural(images, 'image')}"
    )
    above = f"axiom-bench, experiment {manifest.experiment}, run {manifest.run}"
    options = options_of(run)
    sentence, setting, metrics = conclusion(
        run, options.headline, options.compare, options.rival, options.columns
    )
    title, above = (sentence, f"{above}: {counts}") if sentence else (counts, above)
    of_setting = (trust or {}).get(setting, {}) if setting else {}
    lines = {
        run.metadata.value(name).title: of_setting[name] for name in metrics if of_setting.get(name)
    }
    notes = [note for data in manifest.data.values() for note in data.notes]
    below = [f"{sentence}." for sentence in below_published(run)]
    mend = (
        [MEND, *(f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in notes)]
        if below or at_chance(run)
        else []
    )
    facts = {name: text for name, text in facts.items() if text}
    notices = (*running.sentences(manifest), *below, *mend)
    return Header(above, title, facts, notices, lines, coincidences(run, options.headline))


def _protocol(protocol: ProtocolEntry) -> str:
    """The protocol's name and paper, and whether all is as it says; "" without one."""
    if protocol.is_empty:
        return ""
    count = len(protocol.differences)
    differs = (
        f"{plural(count, 'setting')} differ{'s' * (count == 1)}, see This run"
        if count
        else "nothing differs"
    )
    return f"{protocol.name} ({protocol.cited.text}): {differs}"


def _network(run: RunFolder, name: str) -> str:
    """ "scenes_vgg at features.13"; without the layer where there are several."""
    model = run.manifest.models[name]
    layers = model.all_layers
    weights = " (random weights)" if model.random_weights else ""
    return f"{name} at {layers[0] if len(layers) == 1 else f'{len(layers)} layers'}{weights}"


def _names(names: list[str], noun: str, most: int = MANY) -> str:
    """All names, or how many there are and the first."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{len(names)} {noun}: {first_names(names, most)}"


def _day(created: str) -> str:
    """ "2 January 2026"; the text itself where it is no time."""
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{when.day} {when:%B %Y}"


def this_run(run: RunFolder) -> Section:
    """Tables of models, data and seconds; sentences; the folded configuration; the command, with a
    button.
    """
    manifest = run.manifest
    protocol = manifest.protocol
    overrides = (
        [each.overrides for each in manifest.runs] if manifest.is_combined else [manifest.overrides]
    )
    commands = [["axiom-bench", *of_command] for of_command in overrides]
    if manifest.is_combined:
        commands += [
            ["axiom-bench", "report", *(each.folder for each in manifest.runs), "--output", "."]
        ]
    body = part(
        "this_run",
        models=_models(run),
        data=_data(run),
        device=manifest.device,
        precision=precision(manifest.precision),
        versions=manifest.versions,
        is_combined=manifest.is_combined,
        protocol=None if protocol.is_empty else protocol,
        of_protocol={title: getattr(protocol, key) for key, title in OF_PROTOCOL.items()},
        commit=manifest.git_commit,
        added=manifest.added,
        stages=_stages(manifest.seconds, manifest.work),
        configurations=_configurations(manifest),
        command="\n".join(map(shlex.join, commands)),
    )
    return Section("run", "This run", body)


def _models(run: RunFolder) -> list[dict[str, str]]:
    """images: how many each explains, "108", or "97 of 108" where others are left out; of each data
    set.
    """
    models = []
    for name, model in run.manifest.models.items():
        kept = [
            f"{images.kept:,}" + (f" of {images.chosen:,}" if images.others else "")
            for images in model.images.values()
        ]
        correct = [str(accuracy) for (of, _), accuracy in run.accuracies.items() if of == name]
        models.append(
            {
                "name": name,
                "layers": ", ".join(model.all_layers),
                "weights": str(model.weights or ""),
                "sha256": (model.weights_sha256 or "")[:12],
                "images": ", ".join(kept),
                "correct": ", ".join(correct),
            }
        )
    return models


def _data(run: RunFolder) -> list[dict[str, str]]:
    """Each data set's images, how many of them have records that aren't of a bad image, and what
    else is to be said.
    """
    rows = []
    for name, data in run.manifest.data.items():
        records = run.records.of_images[run.records.of_images["data"] == name]
        bad = records.loc[records["target_class"] == UNKNOWN_CLASS, "image_id"].nunique()
        rows.append(
            {
                "name": name,
                "fingerprint": (data.fingerprint or "")[:12],
                "notes": ". ".join(data.notes),
                "ids": f"{len(data.ids):,}",
                "seen": f"{records['image_id'].nunique():,}",
                "bad": f"{bad:,}",
            }
        )
    return rows


def precision(precision: Any) -> str:
    """ "fp32", "trunk fp16, head fp32", or what else the manifest says."""
    if isinstance(precision, dict) and len(set(precision.values())) == 1:
        return str(next(iter(precision.values())))
    if isinstance(precision, dict):
        return ", ".join(f"{part} {kind}" for part, kind in precision.items())
    return str(precision or "")


def _stages(
    seconds: Mapping[str, Mapping[str, float]], work: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """The jobs, and of each stage the seconds and share of each job, then their sums, and the
    images a second: of the command that computed a job's values.
    """
    totals = {job: sum(stages.values()) for job, stages in seconds.items()}
    rows = {
        name: [
            f"{stages[name]:.1f} ({share(stages[name], totals[job])})"
            if name in stages
            else NOTHING
            for job, stages in seconds.items()
        ]
        for name in dict.fromkeys(name for stages in seconds.values() for name in stages)
    }
    rows["together"] = [f"{total:.1f}" for total in totals.values()]
    rows["images/s"] = [_images_per_second(work.get(job) or {}) or NOTHING for job in seconds]
    return {"jobs": list(seconds), "rows": rows}


def time_lines(
    jobs: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]], report: float
) -> Iterator[str]:
    """Where the time of a run went: a line for each job, and one of the report, which all of them
    share.

    jobs: {job: (the manifest's seconds of each stage, its work)}. report: seconds.
    """
    together = report + sum(sum(seconds.values()) for seconds, _ in jobs.values())
    for job, (seconds, work) in jobs.items():
        total = sum(seconds.values())
        rate = _images_per_second(work)
        speed = f", {rate} images/s" if rate else ""
        stages = (f"{name} {part:.1f} s ({share(part, total)})" for name, part in seconds.items())
        yield f"{job}: {total:.1f} s{speed}: {', '.join(stages)}"
    yield f"together {together:.1f} s: report {report:.1f} s ({share(report, together)})"


def _images_per_second(work: Mapping[str, float]) -> str:
    """How many images a second were computed; "" where the manifest doesn't say."""
    rate = work.get("images_per_second", math.nan)
    return number(rate) if math.isfinite(rate) else ""


def _configurations(manifest: Manifest) -> dict[str, str]:
    """{title: YAML}: the whole configuration of the first job, and of each other what differs from
    it.
    """
    first = manifest.config.model_dump()
    texts = {"Configuration": first} if first else {}
    for job in manifest.jobs[1:]:
        if differing := _differing(job.config.model_dump(), first):
            texts[f"What differs in {job.job}"] = differing
    look: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 100}
    return {title: str(yaml.safe_dump(dict(config), **look)) for title, config in texts.items()}


def _differing(config: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a configuration that the first doesn't have alike; of groups, the entries in
    them.
    """
    differing = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and isinstance(first.get(key), Mapping):
            if inner := _differing(value, first[key]):
                differing[key] = inner
        elif key not in first or value != first[key]:
            differing[key] = value
    return differing


def combined_runs(run: RunFolder) -> Section:
    """A table of the runs, and one of the versions."""
    runs = run.manifest.runs
    about = [
        {
            "name": f"{each.experiment}/{each.run}",
            "folder": each.folder,
            "made": each.created,
            "models": ", ".join(each.models),
            "data": ", ".join(each.data),
            "device": str(each.device or "unknown"),
            "precision": precision(each.precision) or "unknown",
            "commit": (each.git_commit or "")[:12],
        }
        for each in runs
    ]
    libraries = dict.fromkeys(name for each in runs for name in each.versions)
    versions = [(name, [each.versions.get(name) or "" for each in runs]) for name in libraries]
    return Section("combined", "Combined runs", part("combined", runs=about, versions=versions))
