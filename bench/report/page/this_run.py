"""The head of the page, and its last sections, which a reader needs to repeat the run: the models,
data, configuration and times, and the command that runs it again.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime

import yaml

from axiom_bench.columns import UNKNOWN_CLASS
from axiom_bench.errors import first_names, plural
from axiom_bench.judging.card import committed_card, leaders
from axiom_bench.records import running
from axiom_bench.records.by_metric import image_numbers
from axiom_bench.records.entries import Manifest, ProtocolEntry
from axiom_bench.report.card import ticks
from axiom_bench.report.page.html import Header, Section, Trust, render_part
from axiom_bench.report.tables.headline import all_notes, run_conclusion
from axiom_bench.report.tables.text import accuracy_text
from axiom_bench.statistics.answer import sentences
from axiom_bench.statistics.labels import NOTHING, Setting, number, share
from axiom_bench.statistics.ranking import FIX, at_chance, below_published
from axiom_bench.statistics.run_folder import RunFolder

MOST_ANSWERS = 3  # settings whose answers are below the title
MANY = 6  # the most names in a list; of more names, the list says how many there are
VERSIONS = ("axiom-bench", "torch")
PROTOCOL_TITLES = {  # fields of the manifest's protocol
    "differences": "What differs from it here",
    "paper_vs_code": "The paper and the authors' code",
    "not_covered": "What of the paper's evaluation isn't here",
}


def header(run: RunFolder, trust: Mapping[Setting, Mapping[str, str]] | None = None) -> Header:
    """Return the head of the page: the run's conclusion, networks, images and machine. If the run
    has no conclusion, the title says what was run.

    Args:
        run: The run, as read from its folder.
        trust: {setting: {metric: how far its order of the methods can be trusted}}.
    """
    manifest = run.manifest
    models = manifest.models
    rows = run.records.image_keys[["data", "image_id", "target_class"]].drop_duplicates()
    numbered_rows = rows.assign(image_id=image_numbers(rows["image_id"]))
    images = len(numbered_rows[["data", "image_id"]].drop_duplicates())
    image_count = plural(images, "image")
    data = " and ".join(map(run.data_title, manifest.data))
    machine = [str(manifest.device or "unknown device"), precision(manifest.precision)]
    machine += [
        f"{name} {manifest.versions[name]}" for name in VERSIONS if name in manifest.versions
    ]
    facts = {
        "Protocol": _protocol(manifest.protocol),
        "Networks": _names([_network(run, name) for name in models], "networks"),
        "Accuracy": accuracy_text(run),
        "Images": f"{image_count} of {data}, {plural(len(rows), 'row')}" if images else "none",
        "Computed": ", ".join(filter(None, (_day(manifest.created), *machine))),
    }
    method_count = plural(len(manifest.methods), "method")
    counts = f"{method_count} on {plural(len(models), 'network')} and {image_count}"
    above = f"axiom-bench, experiment {manifest.experiment}, run {manifest.run}"
    conclusion = run_conclusion(run)
    # If there is a conclusion, the counts are above it.
    title = counts
    if conclusion.sentence:
        title = conclusion.sentence
        above = f"{above}: {counts}"
    sentences_by_label = {}
    for answer in conclusion.answers[:MOST_ANSWERS]:
        if lines := sentences(run, answer, with_choice=answer != conclusion.answer):
            sentences_by_label[run.label(answer.setting)] = lines
    deciding = conclusion.answer
    choice = run.choice
    if choice is not None:
        title = choice.sentences[0]
        more = [*choice.sentences[1:], *([f"Use it: {choice.use}"] if choice.use else [])]
        sentences_by_label = {"Choice": more}
    trust_by_metric = (trust or {}).get(deciding.setting, {}) if deciding else {}
    inaccurate = [f"{sentence}." for sentence in below_published(run)]
    advice = []
    if inaccurate or at_chance(run):
        notes = [note for data in manifest.data.values() for note in data.notes]
        advice = [FIX, *(f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in notes)]
    return Header(
        above=above,
        title=title,
        facts={name: text for name, text in facts.items() if text},
        notices=(*running.progress_sentences(manifest), *inaccurate, *advice),
        answers=sentences_by_label,
        more_answers=0 if choice else max(len(conclusion.answers) - MOST_ANSWERS, 0),
        trust=_trust(run, deciding.metric, trust_by_metric) if deciding else None,
    )


def _trust(run: RunFolder, metric: str, trust_by_metric: Mapping[str, str]) -> Trust | None:
    """Return how far the order by a metric can be trusted; `None` if nothing tells."""
    verdicts = ticks(run, metric)
    on_these_images = trust_by_metric.get(metric, "")
    if not verdicts and not on_these_images:
        return None
    title = run.metadata.value(metric).title
    return Trust(title, verdicts, on_these_images, no_leader=not leaders(committed_card()))


def _protocol(protocol: ProtocolEntry) -> str:
    """Return the protocol's name and paper, and how many settings differ from it; "" without a
    protocol.
    """
    if protocol.is_empty:
        return ""
    differs = "nothing differs"
    if count := len(protocol.differences):
        verb = "differs" if count == 1 else "differ"
        differs = f"{plural(count, 'setting')} {verb}, see This run"
    return f"{protocol.name} ({protocol.cited.text}): {differs}"


def _network(run: RunFolder, name: str) -> str:
    """Return a network and its layer, such as "scenes_vgg at features.13". Of several layers,
    return only their number.
    """
    model = run.manifest.models[name]
    layers = model.all_layers
    place = layers[0] if len(layers) == 1 else f"{len(layers)} layers"
    weights = " (random weights)" if model.random_weights else ""
    return f"{name} at {place}{weights}"


def _names(names: list[str], noun: str, most: int = MANY) -> str:
    """Return all names, or how many there are and the first of them."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{len(names)} {noun}: {first_names(names, most)}"


def _day(created: str) -> str:
    """Return a time as a day, such as "2 January 2026". Return the text itself if it is no time."""
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{when.day} {when:%B %Y}"


def this_run(run: RunFolder) -> Section:
    """Return the section that describes the run: tables of models, data and seconds, sentences, the
    folded configuration, and the command with a button that copies it.
    """
    manifest = run.manifest
    protocol = manifest.protocol
    # to make a combination again, each run comes first, and then the command that combines them
    if manifest.is_combined:
        commands = [["axiom-bench", *source.overrides] for source in manifest.runs]
        folders = [source.folder for source in manifest.runs]
        commands.append(["axiom-bench", "report", *folders, "--output", "."])
        commands[-1] += run.view.words
    else:
        commands = [["axiom-bench", *manifest.overrides]]
        if run.view.words:
            folder = f"results/{manifest.experiment}/{manifest.run}"
            commands.append(["axiom-bench", "report", folder, *run.view.words])
    body = render_part(
        "this_run",
        models=_models(run),
        data=_data(run),
        device=manifest.device,
        precision=precision(manifest.precision),
        versions=manifest.versions,
        is_combined=manifest.is_combined,
        protocol=None if protocol.is_empty else protocol,
        protocol_notes={
            title: getattr(protocol, field) for field, title in PROTOCOL_TITLES.items()
        },
        notes=[*_warnings(manifest), *all_notes(run, run_conclusion(run).answers)],
        commit=manifest.git_commit,
        added=manifest.added,
        stages=_stages(manifest.seconds, manifest.work),
        configurations=_configurations(manifest),
        command="\n".join(map(shlex.join, commands)),
    )
    return Section("run", "This run", body)


def _warnings(manifest: Manifest) -> list[str]:
    """Return the sentences that change the meaning of jobs' values, with the names of the jobs."""
    jobs_by_sentence: dict[str, list[str]] = {}
    for job in manifest.jobs:
        for sentence in job.warnings:
            jobs_by_sentence.setdefault(sentence, []).append(job.job)
    return [f"{first_names(jobs, MANY)}: {text}" for text, jobs in jobs_by_sentence.items()]


def _models(run: RunFolder) -> list[dict[str, str]]:
    """Return the rows of the table of models. "images" is how many images of each data set the
    model explains, such as "108", or "97 of 108" if others are left out.
    """
    rows = []
    for name, model in run.manifest.models.items():
        counts = []
        for images in model.images.values():
            total = f" of {images.chosen:,}" if images.others else ""
            counts.append(f"{images.kept:,}{total}")
        accuracies = [
            str(accuracy) for (network, _), accuracy in run.accuracies.items() if network == name
        ]
        row = {
            "name": name,
            "layers": ", ".join(model.all_layers),
            "weights": str(model.weights or ""),
            "sha256": (model.weights_sha256 or "")[:12],
            "images": ", ".join(counts),
            "correct": ", ".join(accuracies),
        }
        rows.append(row)
    return rows


def _data(run: RunFolder) -> list[dict[str, str]]:
    """Return the rows of the table of data sets: how many images each has, how many images have
    records, how many of these are bad, and the data set's notes.
    """
    rows = []
    for name, data in run.manifest.data.items():
        records = run.records.image_keys[run.records.image_keys["data"] == name]
        bad_images = records.loc[records["target_class"] == UNKNOWN_CLASS, "image_id"]
        row = {
            "name": name,
            "fingerprint": (data.fingerprint or "")[:12],
            "notes": ". ".join(data.notes),
            "ids": f"{len(data.ids):,}",
            "seen": f"{records['image_id'].nunique():,}",
            "bad": f"{bad_images.nunique():,}",
        }
        rows.append(row)
    return rows


def precision(precision: object) -> str:
    """Return the precision as text: "fp32", "trunk fp16, head fp32", or whatever else the manifest
    says.
    """
    if isinstance(precision, dict) and len(set(precision.values())) == 1:
        return str(next(iter(precision.values())))
    if isinstance(precision, dict):
        return ", ".join(f"{part} {kind}" for part, kind in precision.items())
    return str(precision or "")


def _stages(
    seconds: Mapping[str, Mapping[str, float]], work: Mapping[str, Mapping[str, float]]
) -> dict[str, object]:
    """Return the table of times: per stage the seconds and share of each job, then each job's sum
    and images a second. The numbers are of the command that computed a job's values.
    """
    totals = {job: sum(stages.values()) for job, stages in seconds.items()}
    names = dict.fromkeys(name for stages in seconds.values() for name in stages)
    rows = {}
    for name in names:
        texts = []
        for job, stages in seconds.items():
            if name in stages:
                texts.append(f"{stages[name]:.1f} ({share(stages[name], totals[job])})")
            else:
                texts.append(NOTHING)
        rows[name] = texts
    rows["together"] = [f"{total:.1f}" for total in totals.values()]
    rows["images/s"] = [_images_per_second(work.get(job) or {}) or NOTHING for job in seconds]
    return {"jobs": list(seconds), "rows": rows}


def time_lines(
    jobs: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]], report: float
) -> Iterator[str]:
    """Yield how long the parts of a run took: a line for each job, and one for the report, which
    all jobs share.

    Args:
        jobs: {job: (the manifest's seconds of each stage, its work)}.
        report: The seconds that the report took.
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
    """Return how many images a second were computed; "" if the manifest doesn't say."""
    rate = work.get("images_per_second", math.nan)
    return number(rate) if math.isfinite(rate) else ""


def _configurations(manifest: Manifest) -> dict[str, str]:
    """Return {title: YAML}: the whole configuration of the first job, and the entries of every
    other job that differ from it.
    """
    first = manifest.config.model_dump()
    configurations = {"Configuration": first} if first else {}
    for job in manifest.jobs[1:]:
        if differing := _differing(job.config.model_dump(), first):
            configurations[f"What differs in {job.job}"] = differing
    texts = {}
    for title, config in configurations.items():
        texts[title] = str(
            yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100)
        )
    return texts


def _differing(config: Mapping[str, object], first: Mapping[str, object]) -> dict[str, object]:
    """Return the entries of a configuration that differ from the first one. Of a group, only the
    differing entries are returned.
    """
    differing: dict[str, object] = {}
    for key, value in config.items():
        first_value = first.get(key)
        if isinstance(value, Mapping) and isinstance(first_value, Mapping):
            if inner := _differing(value, first_value):
                differing[key] = inner
        elif key not in first or value != first_value:
            differing[key] = value
    return differing


def combined_runs(run: RunFolder) -> Section:
    """Return the section with a table of the combined runs and a table of their versions."""
    sources = run.manifest.runs
    rows = []
    for source in sources:
        row = {
            "name": f"{source.experiment}/{source.run}",
            "folder": source.folder,
            "made": source.created,
            "models": ", ".join(source.models),
            "data": ", ".join(source.data),
            "device": str(source.device or "unknown"),
            "precision": precision(source.precision) or "unknown",
            "commit": (source.git_commit or "")[:12],
        }
        rows.append(row)
    libraries = dict.fromkeys(name for source in sources for name in source.versions)
    versions = []
    for name in libraries:
        versions.append((name, [source.versions.get(name) or "" for source in sources]))
    return Section(
        "combined", "Combined runs", render_part("combined", runs=rows, versions=versions)
    )
