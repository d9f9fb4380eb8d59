"""The gallery in a browser: what is shown, sorted, filtered, linked to and coloured."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import matplotlib
import numpy as np
import pytest
from PIL import Image

from axiom_bench.report import gallery
from axiom_bench.report.page.html import Header, assemble
from tests.report.gallery.conftest import MARKUP, encoded, make_entry

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ONE, TWO = "one", "a/two.jpg"
SET_HASH = "hash => { location.hash = hash; }"


@pytest.fixture
def page(gallery_page, open_page) -> Page:
    opened: Page = open_page(gallery_page())
    return opened


def link(*parts: str) -> str:
    return "#gallery/" + "/".join(quote(part, safe="!~*'()") for part in parts)


def titles(page: Page) -> list[str]:
    """Return the titles of the shown images in their order on the page."""
    return page.locator(".gallery-image h3").all_inner_texts()


def control(page: Page, name: str) -> Locator:
    return page.locator(f"[name={name}]").first


def test_an_image_is_shown_with_its_values_and_names_that_are_markup_stay_text(page):
    first = page.locator(".gallery-image").first
    assert titles(page)[::2] == [f"first: {ONE}, class cat", f"first: {MARKUP}, class dog {MARKUP}"]
    assert "Explained: cat (probability 0.25). It is the predicted class." in first.inner_text()
    assert first.locator("figcaption").all_inner_texts()[1].split("\n")[0] == "Good-CAM"
    assert first.locator(".gallery-values").first.inner_text().replace("\n", " ").replace(
        "\xa0", " "
    ) == ("↓ Sensitivity error 0.100 ↑ Confidence drop 0.900")
    assert first.locator(".gallery-best").count() == 2
    assert first.get_by_text("same map as Good-CAM").count() == 1
    assert first.get_by_text("The map isn't finite.").count() == 1
    # for screen readers
    described = "sensitivity error 0.400 (rank 2 of 2), confidence drop 0.500 (rank 2 of 3)"
    assert (
        page.get_by_role("img", name=f"Bad-CAM on image {ONE}, class cat: {described}").count() == 1
    )
    assert f"Odd {MARKUP}" in first.inner_text()
    assert page.locator("#gallery script").count() == 0
    page.locator(".gallery-image a").nth(2).click()
    third = (
        page.get_by_role("dialog").locator("dl").first
    )  # where the drops of all methods are 0.5: none is best
    assert "0.300 (1)" in third.inner_text()
    assert "0.500" in third.inner_text()
    assert "0.500 (" not in third.inner_text()
    assert third.locator(".gallery-best").count() == 1


@pytest.mark.parametrize("num_methods", [3, 5])
def test_maps_of_few_methods_are_as_wide_as_the_page(gallery_page, open_page, num_methods):
    shape = {"width": 80, "height": 80}  # a square, as the images of most networks
    maps = [encoded(np.full((80, 80), 200))] * num_methods
    entry = make_entry("first", ONE, methods=["good"] * num_methods, maps=maps, **shape)
    page = open_page(gallery_page(entry), viewport={"width": 1280, "height": 800})
    grid = page.locator(".gallery-grid").first
    widths = grid.evaluate(
        "grid => [...grid.querySelectorAll('.gallery-frame')].map((frame) => frame.clientWidth)"
    )
    assert len(widths) == 1 + num_methods
    assert len(set(widths)) == 1
    assert sum(widths) > 0.8 * grid.evaluate("grid => grid.clientWidth")


# The words of metrics' names that a line break cuts.
CUT_WORDS = """() => {
  const cut = [];
  for (const name of document.querySelectorAll(".gallery-values dt")) {
    for (const word of name.textContent.matchAll(/\\w+/g)) {
      const range = document.createRange();
      range.setStart(name.firstChild, word.index);
      range.setEnd(name.firstChild, word.index + word[0].length);
      if (range.getClientRects().length > 1) cut.push(word[0]);
    }
  }
  return cut;
}"""


def test_a_narrow_column_cuts_no_word_of_a_metric_s_name(gallery_run, open_page, tmp_path):
    run = gallery_run()
    data = gallery.gallery_data(run, gallery.stored_pictures(run), gallery.data_address)
    data["metrics"][0]["title"] = "Conservation error"
    for image in data["images"]:
        image["maps"] = [image["maps"][0]] * 11
    path = tmp_path / "narrow.html"
    header = Header("above", "Narrow", {})
    path.write_text(assemble(header, [gallery.gallery_section(data)]), encoding="utf-8")
    page = open_page(path, viewport={"width": 390, "height": 800})
    assert page.locator(".gallery-values dt").count() >= 22
    assert page.evaluate(CUT_WORDS) == []
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 690, "height": 970})  # A4 without margins
    assert page.evaluate(CUT_WORDS) == []


def test_signals_have_wide_maps(gallery_run, open_page, tmp_path):
    """Check pictures 256 wide and 96 high, under eleven maps."""
    run = gallery_run()
    data = gallery.gallery_data(run, gallery.stored_pictures(run), gallery.data_address)
    for image in data["images"]:
        image["width"], image["height"] = 256, 96
        image["maps"] = [image["maps"][0]] * 11
    path = tmp_path / "signals.html"
    header = Header("above", "Signals", {})
    path.write_text(assemble(header, [gallery.gallery_section(data)]), encoding="utf-8")
    for width, narrowest in ((1280, 200), (390, 160)):
        page = open_page(path, viewport={"width": width, "height": 800})
        frames = page.locator(".gallery-image").first.locator(".gallery-frame")
        widths = frames.evaluate_all("frames => frames.map((frame) => frame.clientWidth)")
        assert len(widths) == 12
        assert min(widths) >= narrowest
        assert page.evaluate("document.documentElement.scrollWidth") == width


# The choice of the order, the choice of the method, and the expected order of the images.
ORDERS = [
    ("order", "", [ONE, TWO, MARKUP]),
    ("disagreement", "", [TWO, MARKUP, ONE]),
    ("wrong", "", [TWO, ONE, MARKUP]),
    ("0 high", "", [MARKUP, ONE, TWO]),  # medians of the errors: 0.6, 0.25, 0.2
    ("0 low", "", [TWO, ONE, MARKUP]),
    ("0 high", "1", [MARKUP, ONE, TWO]),  # Bad-CAM's errors: 0.9, 0.4, 0.2
    ("1 low", "0", [TWO, MARKUP, ONE]),  # Good-CAM's drops: 0.1, 0.5, 0.9
]


def test_sorting(page):
    for sort, method, order in ORDERS:
        control(page, "sort").select_option(sort)
        assert control(page, "method").is_disabled() == (" " not in sort)
        if method:
            control(page, "method").select_option(method)
        images = [title.removeprefix("first: ").split(", class")[0] for title in titles(page)]
        assert images == order, (sort, method)
        first_metric = page.locator(".gallery-image dt").first.inner_text()
        assert ("Confidence drop" in first_metric) == sort.startswith("1")


def test_filters_and_paper_has_the_first_images(page):
    # Only the first network is shown until the reader asks for others.
    assert {title.split(":")[0] for title in titles(page)} == {"first"}
    control(page, "setting").select_option(label="second")
    control(page, "class").select_option(label="cat")
    assert titles(page) == [f"second: {ONE}, class cat"]
    assert (
        page.get_by_text(
            "1 of 1 shown, one for each image, explained class and network; 6 in all."
        ).count()
        == 1
    )
    assert not page.get_by_role("button", name="Show").is_visible()
    control(page, "class").select_option(label="all")
    control(page, "image").fill("TWO")
    assert titles(page) == [f"second: {TWO}, class dog {MARKUP}"]
    control(page, "image").fill("")
    page.locator(".gallery-methods summary").click()
    page.get_by_role("checkbox", name="Bad-CAM").uncheck()
    assert page.locator(".gallery-image").first.locator(".gallery-card").count() == 1 + 2
    page.get_by_role("checkbox", name="Bad-CAM").check()
    control(page, "setting").select_option(label="all")
    assert page.locator(".gallery-count").inner_text().startswith("4 of 6 shown")
    page.get_by_role("button", name="Show 2 more").click()
    assert {title.split(":")[0] for title in titles(page)} == {"first", "second"}
    page.emulate_media(media="print")
    images = page.locator(".gallery-image")
    assert [images.nth(place).is_visible() for place in range(images.count())] == [True] * 4 + [
        False
    ] * 2
    assert images.nth(3).locator(".gallery-card").count() == 1 + 3
    assert not page.locator(".gallery-controls").is_visible()
    assert not page.locator(".gallery-more").is_visible()
    assert page.get_by_text("A printed page shows at most four").is_visible()


@pytest.mark.parametrize("image", [ONE, TWO, MARKUP])
def test_a_link_opens_its_image(gallery_page, open_page, image):
    page = open_page(f"{gallery_page()}{link('second', image)}")
    assert (
        page.get_by_role("dialog").locator("h3").inner_text().startswith(f"second: {image}, class ")
    )
    page.evaluate(SET_HASH, link("first", ONE))
    page.locator("#gallery-dialog-title", has_text=re.compile("^first: one")).wait_for()


def test_a_link_to_nothing_is_told_and_one_to_a_filtered_image_shows_it(page):
    for hash_ in ("#gallery/first/absent", "#gallery/%E0%A4%A"):
        page.evaluate(SET_HASH, hash_)
        page.get_by_text(f"The link {hash_} names no image of this gallery.").wait_for()
        assert page.get_by_role("dialog").count() == 0
    control(page, "setting").select_option(label="first")
    page.evaluate(SET_HASH, link("second", ONE))
    page.get_by_role("dialog").wait_for()
    assert titles(page)[0].startswith("second: ")


def test_by_keyboard(page):
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
    page.wait_for_url(
        lambda url: url.endswith("#gallery")
    )  # the dialog's closing is told in a task of its own
    assert dialog.count() == 0
    assert heading.evaluate("node => node === document.activeElement")


def test_the_large_view_has_notes_statuses_and_controls_and_its_link_is_copied(
    gallery_page, open_page
):
    page = open_page(gallery_page(), permissions=["clipboard-read", "clipboard-write"])
    control(page, "opacity").fill("35")
    page.locator(".gallery-grid").first.click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_text("A note.", exact=True).count() == 1
    assert dialog.get_by_text("not on score scale").count() == 1
    assert dialog.get_by_label("Opacity").input_value() == "35"
    dialog.get_by_label("Colours").select_option("gray")
    assert control(page, "colours").input_value() == "gray"
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("The link is copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").endswith(
        f"page.html{link('first', ONE)}"
    )
    dialog.get_by_role("button", name="Close").click()
    dialog.wait_for(state="hidden")


def coloured(page: Page, name: str, opacity: int = 100) -> Any:
    """The first map alone without boxes, as the large view has it, and what matplotlib makes of its
    ramp from 0 to 1; the rounded corners aside.
    """
    control(page, "boxes").uncheck()
    control(page, "opacity").fill(str(opacity))
    control(page, "colours").select_option(name)
    page.locator(".gallery-grid").first.click()
    frame = page.locator("dialog .gallery-card:not(.gallery-own) .gallery-frame").first
    shown = np.asarray(Image.open(io.BytesIO(frame.screenshot())).convert("RGB")).astype(int)
    page.keyboard.press("Escape")
    row = shown[shown.shape[0] // 2]
    place = (np.arange(len(row)) + 0.5) / len(row)
    heat = (place * 80 - 0.5).clip(0, 79) / 79  # of 80 pixels, from middle to middle
    return row[4:-4], 255 * matplotlib.colormaps[name](heat)[4:-4, :3]


def test_the_map_has_the_colours_of_matplotlib_and_opacity_mixes_it_with_the_picture(page):
    for name in ("inferno", "viridis", "gray", "jet"):
        shown, expected = coloured(page, name)
        assert np.abs(shown - expected).max() < 12  # a browser interpolates in another way
        assert np.abs(shown - expected).mean() < 2
        assert page.get_by_text("Jet isn't perceptually uniform").is_visible() == (name == "jet")
    shown, expected = coloured(page, "viridis", 50)
    assert np.abs(shown - (expected + 200) / 2).max() < 8  # the picture is grey of 200
    assert set(np.ravel(coloured(page, "viridis", 0)[0])) == {200}


def test_methods_without_a_map_are_named(gallery_page, open_page):
    """A method that has values, but no map; and one to which nothing applies, whose status is
    said.
    """
    entry = make_entry("first", ONE)
    page = open_page(gallery_page({**entry, "methods": ["good"], "maps": entry["maps"][:1]}))
    assert (
        page.get_by_text(
            f"Without a map: Bad-CAM (none is stored), Odd {MARKUP} (none is stored)."
        ).count()
        == 1
    )


def test_boxes_stand_where_they_are(page):
    frame = page.locator(".gallery-own .gallery-frame").first
    outer = frame.bounding_box()
    box = frame.locator("rect.gallery-line").bounding_box()
    scale = outer["width"] / 80
    assert box["x"] - outer["x"] == pytest.approx(10 * scale, abs=1.5)
    assert box["y"] - outer["y"] == pytest.approx(15 * scale, abs=1.5)
    assert box["width"] == pytest.approx(40 * scale, abs=2.5)
    assert box["height"] == pytest.approx(30 * scale, abs=2.5)
    control(page, "boxes").uncheck()
    assert not frame.locator("svg").is_visible()


def test_a_few_of_many_entries_are_shown_until_a_reader_asks_for_more(gallery_page, open_page):
    entries = [make_entry("first", ONE, image_id=f"image {i}") for i in range(30)]
    many = open_page(gallery_page(*entries))
    status = many.locator(".gallery-count")
    button = many.get_by_role("button", name="Show")
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
    many.evaluate(SET_HASH, link("first", "image 29"))  # which isn't in the list
    dialog = many.get_by_role("dialog")
    dialog.wait_for()
    assert dialog.locator("h3").inner_text() == "image 29, class cat"
    assert dialog.get_by_role("button", name="Next").is_disabled()
    many.keyboard.press("Escape")
    many.locator(
        "button:focus", has_text="Show 8 more"
    ).wait_for()  # the dialog's closing is told in a task of its own


def test_an_entry_of_eleven_maps_is_low(gallery_page, open_page):
    """Two rows of maps beside the image."""
    maps = [encoded(np.full((80, 80), grey)) for grey in range(0, 220, 20)]
    path = gallery_page(
        make_entry("first", ONE, width=80, height=80, methods=["good"] * 11, maps=maps)
    )
    page = open_page(path, viewport={"width": 1280, "height": 900})
    assert page.locator(".gallery-card").count() == 12
    rows = page.locator(".gallery-card").evaluate_all(
        "all => all.map((card) => card.getBoundingClientRect().top)"
    )
    assert len(set(rows)) == 2
    assert page.locator(".gallery-image").bounding_box()["height"] <= 450


def test_a_phone_has_nothing_beside_its_screen(gallery_page, open_page):
    page = open_page(
        f"{gallery_page()}{link('first', TWO)}", viewport={"width": 400, "height": 800}
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.locator("dialog").evaluate("node => node.scrollWidth <= node.clientWidth")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility(gallery_page, open_page, barriers, theme):
    page = open_page(gallery_page(), color_scheme=theme)
    assert barriers(page) == []
    page.locator(".gallery-grid").first.click()
    assert barriers(page) == []


def test_a_folder_works_from_a_disk_and_unzipped(gallery_run, open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MAX_INLINE", 2)
    run = gallery_run()
    section = gallery.folder_section(run)
    (run.path / "report/index.html").write_text(
        assemble(Header("A run", "A title", {}), [section]), encoding="utf-8"
    )
    with zipfile.ZipFile(tmp_path / "report.zip", "w") as packed:
        for path in (run.path / "report").rglob("*.*"):
            packed.write(path, path.relative_to(run.path))
    with zipfile.ZipFile(tmp_path / "report.zip") as packed:
        packed.extractall(tmp_path / "elsewhere")
    shown, expected = coloured(open_page(tmp_path / "elsewhere/report/index.html"), "inferno")
    assert np.abs(shown - expected).max() < 12
