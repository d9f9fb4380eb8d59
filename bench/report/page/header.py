"""The head of the page: what ran, in a title and a few short facts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from axiom_bench.records import running
from axiom_bench.report.page.this_run import precision
from axiom_bench.statistics.run_folder import RunFolder

MANY = 6  # names; more are counted
VERSIONS = ("axiom-bench", "torch")


@dataclass(frozen=True)
class Header:
    """above: the line over the title. facts: {what: sentence}. notices: sentences about a run that hasn't ended.
    reload: seconds after which the page loads itself again, while a run is watched."""

    above: str
    title: str
    facts: dict[str, str]
    notices: tuple[str, ...] = ()
    reload: int | None = None


def header(run: RunFolder) -> Header:
    """Networks, images, methods and machine of the run."""
    methods = [run.metadata.method_title(name) for name in run.manifest.get("methods") or ()]
    models = list(run.manifest.get("models") or ())
    rows = run.records.of_images[["data", "image_id", "target_class"]].drop_duplicates()
    images = len(rows[["data", "image_id"]].drop_duplicates())
    data = " and ".join(run.manifest.get("data") or ())
    versions = run.manifest.get("versions") or {}
    machine = [str(run.manifest.get("device") or "unknown device"), precision(run.manifest.get("precision"))]
    machine += [f"{name} {versions[name]}" for name in VERSIONS if name in versions]
    facts = {
        "Networks": _names([_network(run, name) for name in models], "networks"),
        "Images": f"{_count(images, 'image')} of {data}, {_rows(len(rows))}" if images else "none",
        "Methods": _names(methods, "methods", 2 * MANY),
        "Computed": ", ".join(filter(None, (_day(run.manifest.get("created")), *machine))),
    }
    title = f"{_count(len(methods), 'method')} on {_count(len(models), 'network')} and {_count(images, 'image')}"
    above = f"axiom-bench, experiment {run.manifest.get('experiment')}, run {run.manifest.get('run')}"
    return Header(
        above,
        title,
        {name: text for name, text in facts.items() if text},
        tuple(running.sentences(run.manifest)),
        run.manifest.get("reload"),
    )


def _network(run: RunFolder, name: str) -> str:
    """ "scenes_vgg at features.13"; without the layer where there are several."""
    model = (run.manifest.get("models") or {})[name]
    layers = model.get("layers") or [model.get("layer")]
    weights = " (random weights)" if run.metadata.has_random_weights(name) else ""
    return f"{name} at {layers[0] if len(layers) == 1 else f'{len(layers)} layers'}{weights}"


def _names(names: list[str], noun: str, most: int = MANY) -> str:
    """All names, or how many there are and the first."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{len(names)} {noun}: {', '.join(names[:most])} and {len(names) - most} more"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _rows(count: int) -> str:
    return f"{_count(count, 'row')} (an image and an explained class each)"


def _day(created: object) -> str:
    """ "2 January 2026"; the text itself where it is no time."""
    try:
        when = datetime.fromisoformat(str(created))
    except ValueError:
        return str(created or "")
    return f"{when.day} {when:%B %Y}"
