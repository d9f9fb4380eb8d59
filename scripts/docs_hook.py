"""A hook of mkdocs.yml: README.md and CONTRIBUTING.md as pages, with links between them and docs/ that hold there."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {"README.md": "start.md", "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)([\w./-]+)(#[\w-]+)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from outside of docs/."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(Path(config.config_file_path).parent / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text with links that lead from page to page; a link to what the site hasn't becomes plain text."""
    is_added, folder = page.file.src_uri in PAGES.values(), Path(page.file.src_uri).parent

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        text = Path(text).stem if text.endswith(".md") else text
        if is_added:
            target = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
        if target.startswith("../") and folder == Path():
            target = PAGES.get(target.removeprefix("../"), "")
        return f"[{text}]({target}{anchor})" if target else text

    return LINK.sub(link, markdown)
