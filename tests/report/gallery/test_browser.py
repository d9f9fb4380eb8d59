"""The gallery in a browser: what is shown, sorted, filtered, linked to and coloured."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import matplotlib
import numpy as np
import pytest
from PIL import Image

from axiom_bench.report import gallery
from axiom_bench.report.page.html import Header, assemble

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

MARKUP = "<script>alert(1)</script>"
ONE, TWO = "one", "a/two.jpg"


@pytest.fixture
def page(gallery_page: Any, open_page: Any) -> Page:
    opened: Page = open_page(gallery_page())
    return opened


def link(*parts: str) -> str:
    return "#gallery/" + "/".join(quote(part, safe="!~*'()") for part in parts)


def titles(page: Page) -> list[str]:
    """Of the images, in the order in which they stand."""
    return page.locator(".gallery-image h3").all_inner_texts()


def control(page: Page, name: str) -> Locator:
    return page.locator(f"[name={name}]").first


def pixels(frame: Locator) -> Any:
    return np.asarray(Image.open(io.BytesIO(frame.screenshot())).convert("RGB")).astype(int)


def test_an_image_is_shown_with_its_values(page: Page) -> None:
    first = page.locator(".gallery-image").first
    assert first.locator("h3").inner_text() == f"first: {ONE}, class cat"
    assert "Explained: cat (probability 0.25). It is the predicted class." in first.inner_text()
    assert first.locator("figcaption").all_inner_texts()[1].split("\n")[0] == "Good-CAM"
    assert first.locator(".gallery-values").first.inner_text().replace("\n", " ").replace("\xa0", " ") == (
        "↓ Sensitivity error 0.100 ↑ Confidence drop 0.900"
    )
    assert first.locator(".gallery-best").count() == 2
    assert first.get_by_text("same map as Good-CAM").count() == 1
    assert first.get_by_text("The map isn't finite.").count() == 1
    described = "sensitivity error 0.400 (rank 2 of 2), confidence drop 0.500 (rank 2 of 3)"  # for screen readers
    assert page.get_by_role("img", name=f"Bad-CAM on image {ONE}, class cat: {described}").count() == 1


def test_no_rank_is_best_where_all_are_the_same(page: Page) -> None:
    """On the third image the drops of all methods are 0.5."""
    page.locator(".gallery-image a").nth(2).click()
    third = page.get_by_role("dialog").locator("dl").first
    assert "0.300 (1)" in third.inner_text()
    assert "0.500" in third.inner_text()
    assert "0.500 (" not in third.inner_text()
    assert third.locator(".gallery-best").count() == 1


@pytest.mark.parametrize(
    ("sort", "method", "order"),
    [
        ("order", "", [ONE, TWO, MARKUP]),
        ("disagreement", "", [TWO, MARKUP, ONE]),
        ("wrong", "", [TWO, ONE, MARKUP]),
        ("0 high", "", [MARKUP, ONE, TWO]),  # medians of the errors: 0.6, 0.25, 0.2
        ("0 low", "", [TWO, ONE, MARKUP]),
        ("0 high", "1", [MARKUP, ONE, TWO]),  # of Bad-CAM: 0.9, 0.4, 0.2
        ("1 low", "0", [TWO, MARKUP, ONE]),  # drops of Good-CAM: 0.1, 0.5, 0.9
    ],
)
def test_sorting(page: Page, sort: str, method: str, order: list[str]) -> None:
    control(page, "sort").select_option(sort)
    assert control(page, "method").is_disabled() == (" " not in sort)
    if method:
        control(page, "method").select_option(method)
    assert [title.removeprefix("first: ").split(", class")[0] for title in titles(page)] == order
    first = page.locator(".gallery-image dt").first.inner_text()  # the metric of the order
    assert ("Confidence drop" in first) == sort.startswith("1")


def test_filters(page: Page) -> None:
    control(page, "setting").select_option(label="second")
    control(page, "class").select_option(label="cat")
    assert titles(page) == [f"second: {ONE}, class cat"]
    assert page.get_by_text("1 of 1 shown, one for each image, explained class and network; 6 in all.").count() == 1
    assert not page.get_by_role("button", name="Show").is_visible()


def test_one_network_is_shown_until_all_are_asked_for(page: Page) -> None:
    assert {title.split(":")[0] for title in titles(page)} == {"first"}
    control(page, "setting").select_option(label="all")
    assert page.locator(".gallery-count").inner_text().startswith("4 of 6 shown")
    page.get_by_role("button", name="Show 2 more").click()
    assert {title.split(":")[0] for title in titles(page)} == {"first", "second"}


def test_names_that_are_markup_stay_text(page: Page) -> None:
    assert titles(page)[2] == f"first: {MARKUP}, class dog {MARKUP}"
    assert f"Odd {MARKUP}" in page.locator(".gallery-image").first.inner_text()
    assert page.locator("#gallery script").count() == 0


@pytest.mark.parametrize("image", [ONE, TWO, MARKUP])
def test_a_link_opens_its_image(gallery_page: Any, open_page: Any, image: str) -> None:
    page = open_page(f"{gallery_page()}{link('second', image)}")
    assert page.get_by_role("dialog").locator("h3").inner_text().startswith(f"second: {image}, class ")
    page.evaluate("hash => { location.hash = hash; }", link("first", ONE))
    page.wait_for_function("document.querySelector('#gallery-dialog-title').textContent.startsWith('first: one')")


def test_a_link_to_a_filtered_image_shows_it(page: Page) -> None:
    control(page, "setting").select_option(label="first")
    page.evaluate("hash => { location.hash = hash; }", link("second", ONE))
    page.get_by_role("dialog").wait_for()
    assert titles(page)[0].startswith("second: ")


@pytest.mark.parametrize("hash_", ["#gallery/first/absent", "#gallery/%E0%A4%A"])
def test_a_link_to_nothing_is_told(page: Page, hash_: str) -> None:
    page.evaluate("hash => { location.hash = hash; }", hash_)
    page.get_by_text(f"The link {hash_} names no image of this gallery.").wait_for()
    assert page.get_by_role("dialog").count() == 0


def test_by_keyboard(page: Page) -> None:
    heading = page.locator(".gallery-image h3 a").first
    heading.press("Enter")
    dialog = page.get_by_role("dialog")
    assert page.evaluate("location.hash") == link("first", ONE)
    assert dialog.get_by_role("button", name="Previous").is_disabled()
    page.keyboard.press("ArrowRight")
    assert dialog.locator("h3").inner_text().startswith(f"first: {TWO}")
    assert page.evaluate("location.hash") == link("first", TWO)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # there is none before the first
    assert dialog.locator("h3").inner_text().startswith(f"first: {ONE}")
    dialog.get_by_label("Opacity").press("ArrowRight")  # of the slider, not of the images
    assert dialog.locator("h3").inner_text().startswith(f"first: {ONE}")
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert page.evaluate("location.hash") == "#gallery"
    assert heading.evaluate("node => node === document.activeElement")


def test_the_large_view_has_notes_and_statuses_and_its_link_is_copied(gallery_page: Any, open_page: Any) -> None:
    page = open_page(gallery_page(), permissions=["clipboard-read", "clipboard-write"])
    page.locator(".gallery-grid").first.click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_text("A note.", exact=True).count() == 1
    assert dialog.get_by_text("not on score scale").count() == 1
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("The link is copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").endswith(f"page.html{link('first', ONE)}")
    dialog.get_by_role("button", name="Close").click()
    assert page.get_by_role("dialog").count() == 0


def coloured(page: Page, name: str) -> Any:
    """The first map alone, as the large view has it, and what matplotlib makes of its ramp from 0 to 1."""
    control(page, "colours").select_option(name)
    page.locator(".gallery-grid").first.click()
    shown = pixels(page.locator("dialog .gallery-card:not(.gallery-own) .gallery-frame").first)
    page.keyboard.press("Escape")
    row = shown[shown.shape[0] // 2]
    place = (np.arange(len(row)) + 0.5) / len(row)
    heat = (place * 80 - 0.5).clip(0, 79) / 79  # of 80 pixels, from middle to middle
    return row, 255 * matplotlib.colormaps[name](heat)[:, :3]


@pytest.mark.parametrize("name", ["inferno", "viridis", "gray", "jet"])
def test_the_map_has_the_colours_of_matplotlib(page: Page, name: str) -> None:
    control(page, "boxes").uncheck()
    control(page, "opacity").fill("100")
    shown, expected = coloured(page, name)
    assert np.abs(shown - expected)[4:-4].max() < 12  # the rounded corners aside; a browser interpolates its own way
    assert np.abs(shown - expected).mean() < 2
    assert page.get_by_text("Jet isn't perceptually uniform").is_visible() == (name == "jet")


def test_opacity_mixes_map_and_picture(page: Page) -> None:
    """Half of the map's colour, half of the picture's grey of 200."""
    control(page, "boxes").uncheck()
    control(page, "opacity").fill("50")
    shown, expected = coloured(page, "viridis")
    assert np.abs(shown - (expected + 200) / 2)[4:-4].max() < 8
    control(page, "opacity").fill("0")
    assert set(np.ravel(coloured(page, "viridis")[0][4:-4])) == {200}


def test_all_controls_of_one_kind_move_together(page: Page) -> None:
    control(page, "opacity").fill("35")
    page.locator(".gallery-grid").first.click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_label("Opacity").input_value() == "35"
    dialog.get_by_label("Colours").select_option("gray")
    assert control(page, "colours").input_value() == "gray"


def test_methods_without_a_map_are_named(gallery_page: Any, open_page: Any, entry_of: Any) -> None:
    """A method that has values, but no map; and one to which nothing applies, whose status is said."""
    entry = entry_of("first", ONE)
    page = open_page(gallery_page({**entry, "methods": ["good"], "maps": entry["maps"][:1]}))
    assert page.get_by_text(f"Without a map: Bad-CAM (none is stored), Odd {MARKUP} (none is stored).").count() == 1


def test_boxes_stand_where_they_are(page: Page) -> None:
    frame = page.locator(".gallery-own .gallery-frame").first
    outer, box = (frame.bounding_box(), frame.locator("rect.gallery-line").bounding_box())
    scale = outer["width"] / 80
    assert box["x"] - outer["x"] == pytest.approx(10 * scale, abs=1.5)
    assert box["y"] - outer["y"] == pytest.approx(15 * scale, abs=1.5)
    assert (box["width"], box["height"]) == (pytest.approx(40 * scale, abs=2.5), pytest.approx(30 * scale, abs=2.5))
    control(page, "boxes").uncheck()
    assert not frame.locator("svg").is_visible()


@pytest.fixture
def many(gallery_page: Any, open_page: Any, entry_of: Any) -> Page:
    """Thirty entries of one network."""
    opened: Page = open_page(gallery_page(*(entry_of("first", ONE, image_id=f"image {i}") for i in range(30))))
    return opened


def test_a_few_entries_are_shown_until_a_reader_asks_for_more(many: Page) -> None:
    status, button = many.locator(".gallery-count"), many.get_by_role("button", name="Show")
    assert status.inner_text() == "4 of 30 shown, one for each image, explained class and network."
    button.press("Enter")
    assert status.inner_text().startswith("12 of 30 shown")
    assert many.locator(":focus").inner_text() == "image 4, class cat"  # the first of the new ones
    assert many.locator(":focus").is_visible()
    for _ in range(3):
        button.click()
    assert titles(many) == [f"image {i}, class cat" for i in range(30)]
    assert not button.is_visible()
    control(many, "sort").select_option("disagreement")  # another order begins with the first again
    assert len(titles(many)) == 4


def test_an_entry_that_is_not_in_the_list_opens_by_its_link(many: Page) -> None:
    many.evaluate("hash => { location.hash = hash; }", link("first", "image 29"))
    dialog = many.get_by_role("dialog")
    dialog.wait_for()
    assert dialog.locator("h3").inner_text() == "image 29, class cat"
    assert dialog.get_by_role("button", name="Next").is_disabled()
    many.keyboard.press("Escape")
    assert many.get_by_role("button", name="Show 8 more").evaluate("node => node === document.activeElement")


def test_an_entry_of_eleven_maps_is_low(gallery_page: Any, open_page: Any, entry_of: Any) -> None:
    """Two rows of maps beside the image."""
    maps = []
    for grey in range(0, 220, 20):
        buffer = io.BytesIO()
        Image.new("L", (80, 80), grey).save(buffer, "WEBP")
        maps.append(buffer.getvalue())
    path = gallery_page(entry_of("first", ONE, width=80, height=80, methods=["good"] * 11, maps=maps))
    page = open_page(path, viewport={"width": 1280, "height": 900})
    assert page.locator(".gallery-card").count() == 12
    rows = page.locator(".gallery-card").evaluate_all("all => all.map((card) => card.getBoundingClientRect().top)")
    assert len(set(rows)) == 2
    assert page.locator(".gallery-image").bounding_box()["height"] <= 450


def test_a_phone_has_nothing_beside_its_screen(gallery_page: Any, open_page: Any) -> None:
    page = open_page(f"{gallery_page()}{link('first', TWO)}", viewport={"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.locator("dialog").evaluate("node => node.scrollWidth <= node.clientWidth")


def test_paper_has_the_first_images(page: Page) -> None:
    control(page, "setting").select_option("")
    page.get_by_role("button", name="Show 2 more").click()
    page.emulate_media(media="print")
    images = page.locator(".gallery-image")
    assert [images.nth(place).is_visible() for place in range(images.count())] == [True] * 4 + [False] * 2
    assert images.nth(3).locator(".gallery-card").count() == 1 + 3
    assert not page.locator(".gallery-controls").is_visible()
    assert not page.locator(".gallery-more").is_visible()
    assert page.get_by_text("On paper are the first 4").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility(gallery_page: Any, open_page: Any, barriers: Any, theme: str) -> None:
    page = open_page(gallery_page(), color_scheme=theme)
    assert barriers(page) == []
    page.locator(".gallery-grid").first.click()
    assert barriers(page) == []


def test_a_folder_works_from_a_disk_and_unzipped(
    gallery_run: Any, open_page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "MAX_INLINE", 2)
    run = gallery_run()
    section = gallery.folder_section(run)
    (run.path / "report/index.html").write_text(assemble(Header("A run", "A title", {}), [section]), encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "report.zip", "w") as packed:
        for path in (run.path / "report").rglob("*.*"):
            packed.write(path, path.relative_to(run.path))
    with zipfile.ZipFile(tmp_path / "report.zip") as packed:
        packed.extractall(tmp_path / "elsewhere")
    page = open_page(tmp_path / "elsewhere/report/index.html")
    control(page, "boxes").uncheck()
    control(page, "opacity").fill("100")
    shown, expected = coloured(page, "inferno")
    assert np.abs(shown - expected)[4:-4].max() < 12
