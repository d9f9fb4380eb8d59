"""The leaderboard: a static site of suites' published values, from these alone. There is no total
over metrics, but a reader may weigh them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from axiom_bench.records import files
from axiom_bench.report import gallery
from axiom_bench.report.index import NAME, Run
from axiom_bench.report.leaderboard import cards
from axiom_bench.report.leaderboard.parts import (
    ABOVE,
    BACK,
    ORDER,
    STYLE,
    Costs,
    Part,
    leading,
    link,
    page,
    pages_of,
)
from axiom_bench.report.page.html import Header, Section, assemble, part, render
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Which method explains a CNN faithfully?"
TEXTS = {  # pages of text: {template: (title, heading)}
    "limits": ("What the leaderboard can't tell", "Limits"),
    "submit": ("How to submit a method", "Four steps"),
}


def write(
    suites: Mapping[str, Mapping[str, Path]],
    output: Path,
    costs: Costs | None = None,
    galleries: Mapping[tuple[str, str], Path] | None = None,
) -> list[Path]:
    """Writes the pages into a folder, which may exist; their paths, the first page first. suites:
    {suite: {part: run folder}}. costs: of methods; without, no page tells any. galleries: {(suite,
    part): a run folder with pictures}, a page for each. Raises BenchError where a run can't be
    read, or the folder can't be written.
    """
    parts = [
        Part.read(suite, name, folder)
        for suite, folders in suites.items()
        for name, folder in folders.items()
    ]
    costs = costs or {}
    shown = {
        f"{suite}/{name}": RunFolder.read(folder)
        for (suite, name), folder in (galleries or {}).items()
    }
    pages = {
        NAME: _index(parts, shown),
        **{each.page: page(each, costs, each.name in shown) for each in parts},
    }
    pages |= {
        each.gallery: _gallery(each, shown[each.name]) for each in parts if each.name in shown
    }
    pages |= {cards.METRICS: cards.metrics(parts), **cards.methods(parts, costs)}
    for name, (title, heading) in TEXTS.items():
        section = Section(name, heading, render(f"leaderboard/{name}.html.j2"), (STYLE,))
        pages[f"{name}.html"] = assemble(Header(ABOVE, title, BACK), [section])
    for name, text in pages.items():
        files.write(output / name, text.encode())
    return [output / name for name in pages]


def _index(parts: Sequence[Part], shown: Mapping[str, RunFolder]) -> str:
    """shown: {a part's name: its run with pictures}."""
    families: dict[str, dict[str, str]] = {}
    metrics: dict[str, str] = {}
    for each in parts:
        methods, definitions = each.definitions
        pages = pages_of(methods)
        for entry in methods:
            families.setdefault(each.family(entry.name), {})[entry.title] = pages[entry.name]
        ranked = (entry for entry in definitions if entry.name in each.standings)
        metrics |= {entry.title: f"{cards.METRICS}#{entry.name}" for entry in ranked}
    runs = part("runs", runs=[_entry(each) for each in parts], left_out={})
    lists = {**{name: families[name] for name in ORDER if name in families}, "Metrics": metrics}
    sections = [
        leading(
            "Who leads",
            [each.panel(next(iter(each.standings)), f"{each.name}: ") for each in parts],
        ),
        Section("suites", "Suites", runs, ("index.css", STYLE), ("index.js",)),
        Section("methods", "Methods and metrics", render("leaderboard/lists.html.j2", lists=lists)),
        Section(
            "limits", "What it can't tell, and your method", render("leaderboard/about.html.j2")
        ),
    ]
    if pictured := [each for each in parts if each.name in shown]:
        most = max(pictured, key=lambda each: len(each.run.methods))
        row = gallery.row(shown[most.name], None, most.gallery)
        sections.insert(
            1, Section("maps", f"Maps of {len(most.run.methods)} methods", row, ("maps.css", STYLE))
        )
    return assemble(Header(ABOVE, TITLE, {}), sections)


def _gallery(part: Part, run: RunFolder) -> str:
    images = sorted({image for about in run.manifest.data.values() for image in about.ids})
    about = (
        f"Maps of all methods on the first {len(images)} images and on {len(run.settings)} of the "
        "networks."
    )
    header = Header(
        ABOVE, f"{part.name}: gallery", BACK | {"Part": link(part.page, part.name), "Shown": about}
    )
    return assemble(header, [gallery.section(run)])


def _entry(part: Part) -> Run:
    manifest = part.run.manifest
    facts = {
        "Networks": ", ".join(manifest.models),
        "Images": ", ".join(
            f"{name} (n = {len(about.ids)})" for name, about in manifest.data.items()
        ),
        **({"Note": part.images} if part.images else {}),
        "Methods": str(len(part.run.methods)),
        "Computed": part.origin,
    }
    created = datetime.fromisoformat(manifest.created)
    return Run(part.name, part.page, created, "", facts, "")
