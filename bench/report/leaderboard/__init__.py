"""The leaderboard: a static site of the published values of suites, and of nothing else. It has no
total over metrics, but readers can weigh them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from axiom_bench.records import files
from axiom_bench.records.store import GalleryRow
from axiom_bench.report import gallery
from axiom_bench.report.index import NAME, IndexRow
from axiom_bench.report.leaderboard import cards
from axiom_bench.report.leaderboard.conclusions import conclusions_section
from axiom_bench.report.leaderboard.making import MadePart
from axiom_bench.report.leaderboard.parts import (
    ABOVE,
    BACK,
    ORDER,
    STYLE,
    Costs,
    Part,
    leaders_section,
    link,
    pages_of,
)
from axiom_bench.report.page import html
from axiom_bench.report.page.html import Header, Section, assemble, render

TITLE = "Which method explains a CNN faithfully?"
TEXTS = {  # the pages of text: {template: (title, heading)}
    "limits": ("What the leaderboard can't tell", "Limits"),
    "submit": ("How to submit a method", "Four steps"),
}


def write(
    made: Sequence[MadePart],
    output: Path,
    costs: Costs | None = None,
    pictures: Mapping[str, Sequence[GalleryRow]] | None = None,
) -> list[Path]:
    """Write the pages of the leaderboard into a folder.

    Args:
        made: The parts with their pages, see `making`.
        output: The folder, which may exist.
        costs: The costs of methods; `None`: no page shows any.
        pictures: {a part's name: its pictures}. Each has a page.

    Returns:
        The paths of the pages, the first page first.

    Raises:
        BenchError: If the folder can't be written.
    """
    costs = costs or {}
    pictures = pictures or {}
    parts = [made_part.part for made_part in made]
    pages = {NAME: _index(parts, pictures)}
    for made_part in made:
        pages[made_part.part.page] = made_part.page
    for part in parts:
        if part.name in pictures:
            pages[part.gallery] = _gallery(part, pictures[part.name])
    pages[cards.METRICS] = cards.metrics(parts)
    pages |= cards.methods(parts, costs)
    for name, (title, heading) in TEXTS.items():
        section = Section(name, heading, render(f"leaderboard/{name}.html.j2"), (STYLE,))
        pages[f"{name}.html"] = assemble(Header(ABOVE, title, BACK), [section])
    for name, text in pages.items():
        files.write(output / name, text.encode())
    return [output / name for name in pages]


def _index(parts: Sequence[Part], pictures: Mapping[str, Sequence[GalleryRow]]) -> str:
    """Return the first page as HTML. `pictures` is {a part's name: its pictures}."""
    families: dict[str, dict[str, str]] = {}
    metrics: dict[str, str] = {}
    for part in parts:
        method_definitions, metric_definitions = part.definitions
        pages = pages_of(method_definitions)
        for definition in method_definitions:
            family = families.setdefault(part.family(definition.name), {})
            family[definition.title] = pages[definition.name]
        for definition in metric_definitions:
            if definition.name in part.standings:
                metrics[definition.title] = f"{cards.METRICS}#{definition.name}"
    lists = {name: families[name] for name in ORDER if name in families}
    lists["Metrics"] = metrics
    # parts of the same content have one panel, that of the last suite
    parts_by_content = {part.content: part for part in parts}
    panels = []
    for part in parts_by_content.values():
        panels.append(part.panel(next(iter(part.standings)), f"{part.name}: "))
    entries = [_entry(part) for part in parts]
    runs = html.render_part("runs", runs=entries, left_out={}, given_order="by suite")
    sections = [
        conclusions_section(parts),
        leaders_section("Who leads", panels),
        Section("suites", "Suites", runs, ("index.css", STYLE), ("index.js",)),
        Section("methods", "Methods and metrics", render("leaderboard/lists.html.j2", lists=lists)),
        Section("your-method", "Your method", render("leaderboard/about.html.j2")),
    ]
    pictured_parts = [part for part in parts if part.name in pictures]
    if pictured_parts:
        # the row of maps is of the part with the most methods
        part = max(pictured_parts, key=lambda part: len(part.run.methods))
        row = gallery.maps_row(part.run, None, part.gallery, pictures[part.name])
        title = f"Maps of {len(part.run.methods)} methods"
        sections.insert(2, Section("maps", title, row, ("maps.css", STYLE)))
    return assemble(Header(ABOVE, TITLE, {}), sections)


def _gallery(part: Part, pictures: Sequence[GalleryRow]) -> str:
    """Return the page of a part's pictures as HTML. Values are the published ones."""
    num_images = gallery.number_of_images(pictures)
    num_networks = len({entry["model"] for entry in pictures})
    facts = {
        **BACK,
        "Part": link(part.page, part.name),
        "Shown": (
            f"Maps of all methods on {num_images} images and on {num_networks} of the networks, "
            "with the published values."
        ),
    }
    return assemble(
        Header(ABOVE, f"{part.name}: gallery", facts), [gallery.section(part.run, pictures)]
    )


def _entry(part: Part) -> IndexRow:
    """Return a part's entry in the list of suites."""
    manifest = part.run.manifest
    data_sets = [f"{name} (n = {len(data.ids)})" for name, data in manifest.data.items()]
    facts = {"Networks": ", ".join(manifest.models), "Images": ", ".join(data_sets)}
    if part.images:
        facts["Note"] = part.images
    facts["Methods"] = str(len(part.run.methods))
    facts["Computed"] = part.origin
    created = datetime.fromisoformat(manifest.created)
    return IndexRow(part.name, part.page, created, "", facts, "")
