"""Add README.md, CONTRIBUTING.md, the docstrings and the notebooks to the pages of mkdocs.yml.

Links between docs/ and the added pages are rewritten so that they work on the site. The notebooks
of docs/notebooks/ run from top to bottom.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

PAGES = {"README.md": "start.md", "CONTRIBUTING.md": "contributing.md"}
WIDE = ("scorecard.md",)  # pages whose table takes the room of both side columns
API = "api.md"
DOCSTRINGS = "docstrings.md"
# A kernel warns that other users of the machine could read what the notebooks print.
ONLY_ERRORS = ["--IPKernelApp.log_level=ERROR"]
# a row of api.md: a link to the definition, and the call
API_ROW = re.compile(r"^\| \[(`\w+`)\]\(\.\./[^)]+\) \| `(?:ab\.)?([\w.]+)", re.MULTILINE)
# All members of these modules are on the page of docstrings.
API_MODULES = ("methods", "metrics", "outputs")
# The text of a cell between two tags, and a joint of a name at which a line may break.
CELL_TEXT = re.compile(r"(?<=>)[^<]+(?=<)")
JOINT = re.compile(r"(?<=\w)[_+](?=\w)")
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)([\w./-]+)(#[\w-]+)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/, and a page with its pictures for each notebook."""
    root = Path(config.config_file_path).parent
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(root / name)))
    api = Path(config.docs_dir, API).read_text(encoding="utf-8")
    files.append(File.generated(config, DOCSTRINGS, content=docstrings_page(api)))
    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        text, resources = MarkdownExporter().from_notebook_node(
            executed(path), {"unique_key": path.stem}
        )
        title, _, rest = text.lstrip().partition("\n")
        note = f"[{path.name}]({path.name}), as it ran when this page was built."
        content = f"{title}\n\n{note}\n{rest}"
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=content))
        for name, picture in resources["outputs"].items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
    return files


def docstrings_page(api: str) -> str:
    """Return the page with the full docstring of each name of api.md, which only the site has."""
    names = []
    for _, name in API_ROW.findall(api):
        module = name.partition(".")[0]
        names.append(module if module in API_MODULES else name)
    directives = [f"::: axiom_bench.{name}" for name in dict.fromkeys(names)]
    introduction = (
        "The full docstrings of the public names. [Python API](api.md) lists them by job."
    )
    return "\n".join(["# Docstrings", "", introduction, "", *directives])


def with_links_to_docstrings(api: str) -> str:
    """Return the text of api.md, whose names lead to the page of docstrings instead of the code."""
    return API_ROW.sub(
        lambda row: (
            f"| [{row[1]}]({DOCSTRINGS}#axiom_bench.{row[2]}) | `{row[0].rpartition('`')[2]}"
        ),
        api,
    )


def executed(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with its outputs, run in a temporary folder.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    # The notebooks find the command of this environment even if it isn't activated.
    path_variable = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook,
            timeout=300,
            coalesce_streams=True,
            resources=resources,
            extra_arguments=ONLY_ERRORS,
        )
        return client.execute(env=os.environ | {"PATH": path_variable})


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the text with links that lead from page to page.

    A link to something that the site lacks becomes plain text.
    """
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["navigation", "toc"]
    if page.file.src_uri == API:
        markdown = with_links_to_docstrings(markdown)
    is_added = page.file.src_uri in PAGES.values()
    is_at_top = Path(page.file.src_uri).parent == Path()

    def link(match: re.Match[str]) -> str:
        text = match[1]
        target = match[2]
        anchor = match[3] or ""
        if text.endswith(".md"):
            text = Path(text).stem
        if is_added:
            target = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
        if target.startswith("notebooks/"):
            target = target.replace(".ipynb", ".md")
        if target.startswith("../") and is_at_top:
            target = PAGES.get(target.removeprefix("../"), "")
        return f"[{text}]({target}{anchor})" if target else text

    return LINK.sub(link, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the HTML of a page. In a wide table, lines may also break inside long names, after
    "_" and "+", so that the table fits on a usual screen.
    """
    if page.file.src_uri not in WIDE:
        return html
    before, table, after = html.partition("<tbody>")
    return before + table + CELL_TEXT.sub(lambda text: JOINT.sub(r"\g<0><wbr>", text[0]), after)
