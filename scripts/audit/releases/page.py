"""docs/studies/peers-over-releases.md: installs and measures releases that aren't yet, and reads the files of all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import isfinite
from pathlib import Path

from ..cases import cases
from ..pages import DOCS, Page, table
from .comparison import Change, changes, counts, result
from .install import install, listed
from .release import LIBRARIES, Release, installed_in, stored, write_json

USED = ("torch", "numpy")
REPRODUCED, NOT, FAILS = "reproduced", "not reproduced", "doesn't run"
SECONDS = 1800  # for one release


def write(
    folder: Path, libraries: Sequence[str] | None, installed: Sequence[Path], photographs: int, docs: Path
) -> None:
    """Every release in turn, the newest first; then the page. folder: of all files that are kept. libraries: these
    alone. installed: of a user's own releases, measured alone. Raises SystemExit where such a version was measured from
    somewhere else."""
    for release in [_given(path, folder) for path in installed] or _from_pip(libraries or list(LIBRARIES), folder):
        if not release.failure and not release.result.is_file():
            measure(release, photographs)
    page_of(stored(folder)).write(docs)


def _given(path: Path, folder: Path) -> Release:
    release = installed_in(path, folder)
    for other in stored(folder):
        if other.folder == release.folder and other.installed != release.installed:
            raise SystemExit(f"{folder} has {release.library} {release.version} of {other.installed}; add --folder.")
    return release


def _from_pip(libraries: Sequence[str], folder: Path) -> Iterator[Release]:
    """The releases that pip offers, installed where they aren't, the newest first."""
    kept = {(release.library, release.version): release for release in stored(folder)}
    for library in libraries:
        for version in reversed(listed(library)):
            release = kept.get((library, version)) or install(library, version, folder / library / version)
            release.write()
            yield release


def measure(release: Release, photographs: int) -> None:
    """Run `measure` on it in a process of its own; where that dies, the last line of its errors is the release's
    failure.

    Raises SystemExit for an error of our own code, which says nothing about the release.
    """
    release.write()
    settings = [release.folder, release.library, release.version, release.installed, photographs]
    command = [sys.executable, "-m", "scripts.audit.releases.measure", *map(str, settings)]
    try:
        done = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=False, timeout=SECONDS)
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        failure = lines[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = f"not done after {SECONDS} seconds"
    if "axiom_bench" in failure:
        raise SystemExit(f"{release.library} {release.version} isn't measured: {failure}")
    if failure:
        write_json(release.result, {"failure": failure, "failures": {}, "earlier": [], "versions": {}, "cases": {}})
    print(f"{release.library} {release.version}: {failure or 'measured'}", flush=True)


def page_of(releases: Sequence[Release]) -> Page:
    """releases: in order, as `stored` returns them."""
    page = Page("studies/peers-over-releases.md")
    contents = [result(each) for each in releases if each.result.is_file()]
    ran = [content for content in contents if content["versions"]]
    versions = sorted({" and ".join(f"{name} {content['versions'][name]}" for name in USED) for content in ran})
    photographs = sorted({str(content["photographs"]) for content in ran})
    page.replace(r"(?<=don't edit\. ).*\.$", f"{len(contents)} releases were run, with {'; '.join(versions)}.")
    page.replace(r"(?<= on )\d+( or \d+)*(?= images)", " or ".join(photographs))
    lines = list[str]()
    for library in LIBRARIES:
        own = [release for release in releases if release.library == library]
        if own:
            lines += [f"## {library}", "", *_releases(own), *_cases(library, own)]
    page.replace(r"^## (.|\n)*", "\n".join(lines))
    return page


def _releases(releases: Sequence[Release]) -> list[str]:
    """A row for each release, the newest first."""
    rows, before = [], None
    for release in releases:
        about = [release.version, release.date or "-"]
        if release.failure or not release.result.is_file():
            why = f"can't be installed: {code(release.failure)}" if release.failure else "not measured yet"
            rows.append([*about, "-", "", "", why])
            before = before if release.failure else None
            continue
        done, has = counts(release)
        changed = "; ".join(map(sentence, changes(before, release))) or "nothing" if done and before else ""
        earlier = ", ".join(result(release)["earlier"])
        rows.append([*about, f"{done} of {has}" if has else "0", changed, earlier, _failures(release)])
        before = release if done else before
    header = ("Release", "Date", "Measured", "Changed from the one before", "Earlier call", "Fails")
    return table(header, rows[::-1], text_columns=len(header))


def sentence(change: Change) -> str:
    """One method's change: that it came, went, fails or runs again, and how far its maps moved."""
    statuses, moved, (before, now) = change.statuses, change.moved, change.to_formula
    parts = [_standing_of(statuses.text)] if statuses else []
    if moved and isfinite(moved):
        to_formula = f" (to the formula {before:.1e}, now {now:.1e})" if isfinite(before + now) else ""
        parts.append(f"by {moved:.1e}{to_formula}")
    elif moved and not parts:
        parts.append("has maps of another size")
    return f"{short(change.method)} {', '.join(parts) or 'fails otherwise'}"


def _standing_of(statuses: str) -> str:
    """Of a finding "statuses was absent:8, is ok:8"."""
    before, _, after = statuses.partition(", is ")
    if "absent:" in before + after:
        return "is new" if "absent:" in before else "is gone"
    if "failed:" in before + after:
        return "runs again" if "failed:" in before else "fails"
    return "has NaN in other maps"


def _failures(release: Release) -> str:
    """The methods that fail, by their error."""
    content = result(release)
    if content["failure"]:
        return f"all: {code(content['failure'])}"
    by_error: dict[str, list[str]] = {}
    for method, error in content["failures"].items():
        by_error.setdefault(error, []).append(short(method))
    return "; ".join(f"{', '.join(methods)}: {code(error)}" for error, methods in by_error.items())


def _cases(library: str, releases: Sequence[Release]) -> list[str]:
    """A row for each case: in which releases it was reproduced."""
    measured = [(release.version, result(release)) for release in releases if release.result.is_file()]
    rows = []
    for case in (case for case in cases("methods") if library in case.libraries):
        outcomes = [(version, outcome(content["cases"].get(case.name, {}))) for version, content in measured]
        cells = [ranges(outcomes, kind) for kind in (REPRODUCED, NOT, FAILS)]
        rows.append((code(case.name), case.kind, standing(outcomes), *cells))
    head = ("Case", "Class", "Now", "Reproduced", "Not reproduced", "Doesn't run")
    return ["Cases ([audit.md](audit.md) describes each):", "", *table(head, rows, text_columns=6)]


def outcome(entry: dict[str, object]) -> str:
    """Of what `measure` kept of a case."""
    return FAILS if "reproduced" not in entry else REPRODUCED if entry["reproduced"] else NOT


def ranges(outcomes: Sequence[tuple[str, str]], chosen: str) -> str:
    """The releases with an outcome, neighbours joined.

    >>> ranges([("1.0", "a"), ("1.1", "a"), ("1.2", "b"), ("1.3", "a")], "a")
    '1.0 to 1.1, 1.3'
    """
    parts = []
    for kind, group in groupby(outcomes, key=lambda entry: entry[1]):
        versions = [version for version, _ in group]
        if kind == chosen:
            parts.append(versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}")
    return ", ".join(parts)


def standing(outcomes: Sequence[tuple[str, str]]) -> str:
    """What the newest release says of a case.

    >>> standing([("1", REPRODUCED), ("2", FAILS), ("3", NOT), ("4", NOT)])
    'mended in 3'
    """
    if not outcomes or outcomes[-1][1] == FAILS:
        return "doesn't run"
    last, ran = outcomes[-1][1], [entry for entry in outcomes if entry[1] != FAILS]
    since = next((place for place in range(len(ran) - 1, -1, -1) if ran[place][1] != last), -1) + 1
    if last == REPRODUCED:
        return f"still there, since {ran[since][0]}" if since else "still there"
    return f"mended in {ran[since][0]}" if since else "not reproduced"


def short(method: str) -> str:
    """A method without its library.

    >>> short("guided_grad_cam@captum (`interpolate_mode` bilinear)")
    '`guided_grad_cam` (`interpolate_mode` bilinear)'
    """
    name, _, rest = method.partition("@")
    settings = rest.partition(" ")[2]
    return f"{code(name)} {settings}".rstrip()


def code(text: str) -> str:
    """As code in a cell of a table."""
    return f"`{text.strip().replace('`', chr(39)).replace('|', '/')}`"
