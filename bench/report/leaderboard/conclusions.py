"""The section of the first page that says what a visitor may conclude from the published values,
and what not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from axiom_bench.judging.card import committed_card, leaders
from axiom_bench.report.leaderboard.parts import STYLE, Part
from axiom_bench.report.page.html import Section, render


@dataclass(frozen=True)
class Conclusions:
    """The counts from which the template conclusions.html.j2 makes its sentences. A table is one
    metric on the networks of one part.
    """

    tables: int
    networks: int
    """The number of different networks in all parts."""
    best_titles: tuple[str, ...]
    """The titles of the methods that lead the most tables; empty if nobody leads any."""
    best_count: int
    """The number of tables that each of them leads."""
    led_by_nobody: int
    """The number of tables in which a map that explains nothing is unbeaten on every network."""
    of_several_networks: int
    """The number of tables with a leader and several networks."""
    disagreeing: int
    """The number of these in which no method is among the best on every network."""
    trusted_metrics: str
    """The names of the metrics that pass every test of the scorecard; empty if none does."""


def conclusions_section(parts: Sequence[Part]) -> Section:
    """Return the section with what the values of all parts show, and what they don't."""
    body = render("leaderboard/conclusions.html.j2", counts=conclusions(parts))
    return Section("conclusions", "What the values show", body, (STYLE,))


def conclusions(parts: Sequence[Part]) -> Conclusions:
    """Return the counts over the tables of all parts. A table that two suites share counts once."""
    tables: set[tuple[frozenset[str], frozenset[str], str]] = set()
    led_by_nobody = 0
    of_several_networks = 0
    disagreeing = 0
    networks: set[str] = set()
    led_by_title: Counter[str] = Counter()
    for part in parts:
        manifest = part.run.manifest
        networks.update(manifest.models)
        for metric in part.standings:
            table = (frozenset(manifest.models), frozenset(manifest.data), metric)
            if table in tables:
                continue
            tables.add(table)
            lead = part.lead(metric)
            led_by_title.update(map(part.run.metadata.method_title, lead.methods))
            if not lead.methods:
                led_by_nobody += 1
                continue
            num_networks = len(part.run.settings)
            of_several_networks += num_networks > 1
            disagreeing += lead.count < num_networks
    most = max(led_by_title.values(), default=0)
    best_titles = [title for title, count in led_by_title.items() if count == most]
    return Conclusions(
        tables=len(tables),
        networks=len(networks),
        best_titles=tuple(best_titles),
        best_count=most,
        led_by_nobody=led_by_nobody,
        of_several_networks=of_several_networks,
        disagreeing=disagreeing,
        trusted_metrics=", ".join(leaders(committed_card())),
    )
