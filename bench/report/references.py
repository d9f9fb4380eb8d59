"""The works that a run cites, as BibTeX: its methods, metrics, protocol, data, libraries, and this
software.

The entries are those of conf/references.bib. A work that this file lacks is listed, not invented.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache

from axiom_bench.environment import conf_folder
from axiom_bench.report.tables.table import Table
from axiom_bench.statistics.run_folder import RunFolder

SOFTWARE = "axiombench"  # the key of this software
TITLE = "{axiom-bench}: which {CAM} method explains a {CNN} faithfully"  # as in CITATION.cff
PAPER = "fu2020axiom"  # the paper that this software implements
EQUAL = " = "  # between the titles of methods that coincide
KEY = re.compile(r"[A-Za-z0-9_.:+/-]+", re.ASCII)  # a key that BibTeX and \cite can read
ENTRY = re.compile(r"^@\w+\{([^,\s]+),\n.*?^\}", re.MULTILINE | re.DOTALL)
DATA = {  # {kind of a data set: the work that describes it}
    "coco": "lin2014coco",
    "funnybirds": "hesse2023funnybirds",
    "imagenet": "russakovsky2015imagenet",
    "imagenet_s": "gao2021luss",
    "imagenet_v2": "recht2019imagenet",
    "voc": "everingham2010voc",
    "wsol": "choe2020wsol",
}
LIBRARIES = {  # {distribution whose methods run: the work that describes it}
    "captum": "kokhlikyan2020captum",
    "grad-cam": "gildenblat2021gradcam",
    "torchcam": "fernandez2020torchcam",
}


def cited_keys(run: RunFolder) -> list[str]:
    """Return the keys of the works that a run cites and that conf/references.bib has, each once."""
    return _known(_keys(run, run.methods, run.metrics))


def table_keys(run: RunFolder, table: Table) -> list[str]:
    """Return the keys of the works that a table cites: those of the methods and metrics that it
    shows, of the protocol, data and libraries, and of this software.
    """
    titles = _shown_titles(table)
    methods = [name for name in run.methods if run.metadata.method_title(name) in titles]
    metrics = [name for name in run.metrics if run.metadata.value(name).title in titles]
    return [*_known(_keys(run, methods, metrics)), SOFTWARE]


def _shown_titles(table: Table) -> set[str]:
    """Return the words of a table that may be the title of a method or metric."""
    texts = [table.title, *table.header]
    for group in table.groups:
        texts.append(group.title)
        for row in group.rows:
            texts += [cell.text for cell in row]
    titles: set[str] = set()
    for text in texts:
        # before a column's second line, and before a metric's unit
        words = text.partition("\n")[0].partition(" [")[0]
        titles.update(words.split(EQUAL))
    return titles


def _known(keys: Iterable[str]) -> list[str]:
    """Return the keys that conf/references.bib has, each once."""
    return [key for key in dict.fromkeys(keys) if key in entries()]


def to_bibtex(run: RunFolder) -> str:
    """Return the BibTeX file of a run: the cited works, and this software with the version that
    computed the values.
    """
    parts = [
        "% The works that this run cites. Cite axiombench for the measurements. The second line of "
        "each table's .tex file has the keys of that table.\n"
    ]
    parts += [f"{entries()[key]}\n" for key in cited_keys(run)]
    parts.append(_software(run))
    keys = dict.fromkeys(_keys(run, run.methods, run.metrics))
    unknown = [key for key in keys if key not in entries()]
    shown = [key if KEY.fullmatch(key) else ascii(key) for key in unknown]
    parts += [f"% {key} is cited by this run, but conf/references.bib lacks it.\n" for key in shown]
    return "\n".join(parts)


def _keys(
    run: RunFolder,
    method_names: Collection[str],
    metric_names: Collection[str],
) -> Iterator[str]:
    """Yield the keys that these methods and metrics of a run cite, with repetitions."""
    yield PAPER
    manifest = run.manifest
    methods = [entry for name, entry in manifest.methods.items() if name in method_names]
    metrics = [entry for name, entry in manifest.metrics.items() if name in metric_names]
    for plugin in (*methods, *metrics):
        if plugin.reference:
            yield plugin.reference
    protocol = run.config.protocol or {}
    if protocol.get("reference"):
        yield str(protocol["reference"])
    configs = [job.config for job in manifest.jobs] or [run.config]
    for config in configs:
        data: object = config.data
        while isinstance(data, Mapping):  # a mosaic is made of the images of another data set
            kind = "imagenet_v2" if data.get("name") == "imagenet_v2" else data.get("kind")
            if kind in DATA:
                yield DATA[kind]
            data = data.get("of")
    for method in methods:
        if method.library in LIBRARIES:
            yield LIBRARIES[method.library]


@cache
def entries() -> Mapping[str, str]:
    """Return {key: entry} of conf/references.bib, each as it is written there."""
    text = (conf_folder() / "references.bib").read_text(encoding="utf-8")
    return {match[1]: match[0] for match in ENTRY.finditer(text)}


def _software(run: RunFolder) -> str:
    """Return the entry of this software. Its version and commit are those of the run, if it has
    them.
    """
    version = str(run.manifest.versions.get("axiom-bench", ""))
    commit = str(run.manifest.git_commit or "")
    notes = []
    if re.fullmatch(r"[0-9A-Za-z.+!-]{1,40}", version):
        notes.append(f"Version {version}")
    if re.fullmatch(r"[0-9a-f]{40}", commit):
        notes.append(f"commit {commit[:12]}")
    note = f"  note = {{{', '.join(notes)}}},\n" if notes else ""
    return (
        f"@misc{{{SOFTWARE},\n"
        f"  title = {{{TITLE}}},\n"
        "  author = {{The axiom-bench authors}},\n"
        f"{note}"
        "  howpublished = {Python package, MIT licence},\n"
        "}\n"
    )
