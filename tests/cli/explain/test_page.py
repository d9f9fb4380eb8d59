"""The page of explained images in a real browser: nothing is loaded, nothing is wider than a phone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from axiom_bench.cli.main import main
from axiom_bench.embedded import scenes

NAMES = ("chromium", "chromium-browser", "google-chrome")


def test_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed (extra `dev`)")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe isn't installed (extra `dev`)")
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(2):
        Image.fromarray(scenes.draw("evaluation", number, 0).image).save(f"photos/{number}.png")
    options = ["--model", "scenes_vgg", "device=cpu", "--top", "2", "--methods", "xgrad_cam,random"]
    assert main(["explain", "photos", "nowhere.png", *options, "--output", "e.html"]) == 2
    problems: list[str] = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable)
        context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme="dark")
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.goto((tmp_path / "e.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.locator(".explain-maps img").count() == 2 * 2 * 2
        serious = [
            violation["id"]
            for violation in axe.Axe().run(page).response["violations"]
            if violation["impact"] in ("serious", "critical")
        ]
        browser.close()
    assert problems == []
    assert serious == []
