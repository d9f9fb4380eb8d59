"""A hook of mkdocs.yml: README.md and CONTRIBUTING.md as pages, with links between them and docs/
that hold there, and docs/notebooks/, run from top to bottom.
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
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)([\w./-]+)(#[\w-]+)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from outside of docs/, and a page and its pictures for each notebook."""
    for name, page in PAGES.items():
        files.append(
            File.generated(
                config, page, abs_src_path=str(Path(config.config_file_path).parent / name)
            )
        )
    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        text, resources = MarkdownExporter().from_notebook_node(
            executed(path), {"unique_key": path.stem}
        )
        note = f"[{path.name}]({path.name}), as it ran when this page was built."
        title, _, rest = text.lstrip().partition("\n")
        files.append(
            File.generated(
                config, f"notebooks/{path.stem}.md", content=f"{title}\n\n{note}\n{rest}"
            )
        )
        for name, picture in resources["outputs"].items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
    return files


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs, run in a temporary folder. Raises nbclient's
    CellExecutionError.
    """
    notebook = nbformat.read(path, as_version=4)
    # The command of this environment, which needn't be activated.
    path_variable = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=300, coalesce_streams=True, resources=resources)
        return client.execute(env=os.environ | {"PATH": path_variable})


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text with links that lead from page to page; a link to what the site hasn't becomes plain
    text.
    """
    is_added, folder = page.file.src_uri in PAGES.values(), Path(page.file.src_uri).parent

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        text = Path(text).stem if text.endswith(".md") else text
        if is_added:
            target = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
        if target.startswith("notebooks/"):
            target = target.replace(".ipynb", ".md")
        if target.startswith("../") and folder == Path():
            target = PAGES.get(target.removeprefix("../"), "")
        return f"[{text}]({target}{anchor})" if target else text

    return LINK.sub(link, markdown)
