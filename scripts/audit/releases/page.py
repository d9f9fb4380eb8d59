"""docs/peers-over-releases.md from the files of the releases: nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import isfinite

from ..cases import libraries_of
from ..markdown import paragraph, table
from ..methods.claims import CLAIMS
from .comparison import Change, changes, counts, result
from .release import LIBRARIES, Release

COMMAND = "python -m scripts.audit releases"
USED = ("torch", "numpy")
REPRODUCED, NOT, FAILS = "reproduced", "not reproduced", "doesn't run"


def page(releases: Sequence[Release]) -> str:
    """The whole page. releases: in order, as `stored` returns them."""
    lines = _head([release for release in releases if release.result.is_file()])
    for library in LIBRARIES:
        own = [release for release in releases if release.library == library]
        if own:
            lines += [f"## {library}", "", *_releases(own), *_cases(library, own)]
    return "\n".join(lines).rstrip() + "\n"


def _head(measured: Sequence[Release]) -> list[str]:
    contents = [content for content in map(result, measured) if content["versions"]]
    versions = sorted({" and ".join(f"{name} {content['versions'][name]}" for name in USED) for content in contents})
    photographs = sorted({str(content["photographs"]) for content in contents})
    return [
        "# Other libraries over their releases",
        "",
        f"Written by `{COMMAND}`; don't edit. {len(measured)} releases were run, with {'; '.join(versions)}.",
        "",
        *paragraph(
            f"""Each release that pip offers is installed into a folder of its own, without what it depends on, and
            measured in a process that sees that folder first: every method that [audit.md](audit.md) compares with
            ours, on that page's tiny network and on {" or ".join(photographs)} images of its trained networks, and
            every case of that page. Of each map three numbers become a baseline of `axiom-bench gate`: its largest
            difference to our formula, its mean, and its sum times a fixed pattern. Each release is compared with the
            one before it of which any method could be called, by the gate's own comparison; a mean over the images may
            move by 1e-5."""
        ),
        *paragraph(
            """Measured: the methods whose maps were returned and are finite, of those that the release has. Changed:
            the methods of which the gate has a finding; how far their maps moved, the largest difference as a fraction
            of a map's largest value, of the worst image of either network; and the mean of the largest differences to
            our formula on the trained network, before and now. Earlier call: how today's documented call was bridged
            (`scripts/audit/releases/earlier.py`). Fails: the first line of the error. The date is that of the newest
            file in the release's archive; a dash where the archive has none."""
        ),
    ]


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
    for case in (name for name in CLAIMS if library in libraries_of(name)):
        outcomes = [(version, outcome(content["cases"].get(case, {}))) for version, content in measured]
        cells = [ranges(outcomes, kind) for kind in (REPRODUCED, NOT, FAILS)]
        rows.append((code(case), CLAIMS[case].kind, standing(outcomes), *cells))
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
