"""Measure how heavy a report's page is, and how long a browser takes to open it.

python scripts/measure_page.py results/quick/default/report.html

Prints the page's weight by part, and the median over several fresh openings of when the first text is drawn, all text
is there (DOMContentLoaded: the page's scripts have run), and all is loaded. Needs Playwright
(`pip install axiom-bench[dev]`) and Chromium.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

TIMES = """() => {
  const entry = performance.getEntriesByType("navigation")[0];
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return [paint.startTime, entry.domContentLoadedEventEnd, entry.loadEventEnd];
}"""
NAMES = ("first text drawn", "all text there", "loaded")


def weights(text: str) -> dict[str, int]:
    """Bytes of the page's scripts, data, styles and pictures, and of the rest."""
    patterns = {
        "data": r"<script type=\"application/json\".*?</script>",
        "scripts": r"<script>.*?</script>",
        "styles": r"<style>.*?</style>",
        "pictures": r"data:image/[^\"')]*",
    }
    parts = {}
    for name, pattern in patterns.items():
        found = re.findall(pattern, text, re.DOTALL)
        parts[name] = sum(len(part.encode()) for part in found)
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    return {**parts, "text and tables": len(text.encode())}


def open_once(browser: Browser, path: Path) -> list[float]:
    """Milliseconds of NAMES, in a fresh context."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(path.resolve().as_uri(), wait_until="load")
    page.wait_for_timeout(300)  # the first drawing may come after loading
    times: list[float] = page.evaluate(TIMES)
    context.close()
    return times


def main() -> int:
    """Print both."""
    parser = argparse.ArgumentParser(description="Measure the weight of a report's page and how long it takes to open.")
    parser.add_argument("page", type=Path)
    parser.add_argument("--times", type=int, default=5, help="openings of which the median is printed")
    options = parser.parse_args()
    text = options.page.read_text(encoding="utf-8")
    print(f"{options.page}: {len(text.encode()) / 1e6:.2f} MB")
    for name, size in weights(text).items():
        print(f"  {name}: {size / 1e6:.2f} MB")
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        print("No browser: chromium, chromium-browser or google-chrome must be on the PATH.")
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        times = [open_once(browser, options.page) for _ in range(options.times)]
        browser.close()
    for name, column in zip(NAMES, zip(*times, strict=True), strict=True):
        print(f"  {name}: {statistics.median(column):.0f} ms (least {min(column):.0f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
