"""Tests the page in a real browser: a person's session from the start to the report.

Needs the built page (`make play`) and a Chromium (Debian: apt install chromium); skipped with the reason if either
is missing.
"""

import io
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
import nibabel as nib
from games import made_game
from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console
from running import serving

from synthfm_bench.execution.verify import verify
from synthfm_bench.play.app import PAGE, make_app
from synthfm_bench.results.run_directory import read_run

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
SOFTWARE = ["--disable-gpu", "--enable-unsafe-swiftshader"]  # WebGL without a graphics card
PATIENCE_S = 120  # of the slowest machine; nothing is measured by it

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium"),
    pytest.mark.skipif(not (PAGE / "index.html").is_file(), reason="the page is not built: make play"),
]


class Browser:
    """A page of the game, and every address that it asked for."""

    def __init__(self, page, url):
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.goto(url)
        self.until("window.synthfm")

    def read(self, what):
        return self.page.evaluate(f"window.synthfm.{what}")

    def until(self, what):
        # The page's own policy forbids wait_for_function, which evaluates text inside it.
        end = time.monotonic() + PATIENCE_S
        while not self.page.evaluate(f"Boolean({what})"):
            assert time.monotonic() < end, (what, self.page.inner_text("#status"), self.complaints)
            time.sleep(0.02)

    def idle(self):
        self.until("!window.synthfm.busy()")

    def start(self):
        self.page.click("#curtain-button")
        self.until("document.getElementById('curtain').hidden")
        self.idle()

    def click(self, zyx, button="left"):
        before = self.page.evaluate("window.synthfm.facts()?.step ?? 0")
        place = self.page.evaluate("zyx => window.synthfm.viewer.pageposition(zyx)", list(zyx))
        self.page.mouse.click(place["x"], place["y"], button=button)
        self.until(f"window.synthfm.facts()?.step === {before + 1}")
        self.idle()

    def colour(self, zyx):
        """Return red, green and blue of the screen where a voxel of the axial slice under the crosshair is."""
        self.page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
        place = self.page.evaluate("zyx => window.synthfm.viewer.placeOf(zyx)", list(zyx))
        with Image.open(io.BytesIO(self.page.screenshot())) as screen:
            return screen.convert("RGB").getpixel((round(place["x"]), round(place["y"])))

    def press(self, key):
        self.page.keyboard.press(key)


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as driver:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*sandbox, *SOFTWARE])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, request):
    def open_page(url, width=1280, height=800):
        page = chromium.new_page(viewport={"width": width, "height": height})
        request.addfinalizer(page.close)
        return Browser(page, url)

    return open_page


def picture(browser, name):
    """Save a screenshot where SYNTHFM_SCREENSHOTS names a folder."""
    if folder := os.environ.get("SYNTHFM_SCREENSHOTS"):
        browser.page.screenshot(path=Path(folder) / f"{name}.png")


def test_a_person_plays_a_suite_to_its_end(tmp_path, opened):
    game = made_game(tmp_path)
    with serving(make_app(game)) as url:
        browser = opened(url)
        assert "nowhere else" in browser.page.inner_text("#curtain-text")
        browser.start()
        assert browser.page.inner_text("#target") == "1"

        # A click reaches the voxel under the pointer, and the mask shown is the server's.
        browser.click((5, 10, 10))
        assert browser.read("viewer.marks")[0] == {"zyx": [5, 10, 10], "positive": True}
        assert browser.read("viewer.maskAt([5, 10, 10])")
        assert browser.read("viewer.maskVoxels") == np.count_nonzero(game.mask)
        for zyx in np.argwhere(game.mask)[::40].tolist() + np.argwhere(~game.mask)[::400].tolist():
            assert browser.read(f"viewer.maskAt({zyx})") == bool(game.mask[tuple(zyx)])
        away = [voxel for voxel in np.ndindex(1, 24, 32) if min(abs(voxel[1] - 10), abs(voxel[2] - 10)) > 2]
        inside = next((5, y, x) for _, y, x in away if game.mask[5, y, x])
        outside = next((5, y, x) for _, y, x in away if not game.mask[4:7, y - 1 : y + 2, x - 1 : x + 2].any())
        red, _, blue = browser.colour(inside)
        assert red > blue + 40
        red, _, blue = browser.colour(outside)
        assert abs(red - blue) < 20
        spent = browser.read("spent()")
        assert spent["all"] == pytest.approx(spent["server"] + spent["drawing"])
        assert "Mask on the screen after" in browser.page.inner_text("#facts")
        print(f"\nfrom the click to the mask on the screen: {browser.read('spent().all'):.0f} ms (geodesic)")
        picture(browser, "clicked")

        # The right button marks outside; undo takes that back.
        browser.click((2, 3, 28), button="right")
        assert browser.read("viewer.marks")[1] == {"zyx": [2, 3, 28], "positive": False}
        browser.page.click("#undo")
        browser.until("window.synthfm.facts().step === 3")
        browser.idle()
        assert browser.read("viewer.maskVoxels") == np.count_nonzero(game.mask)
        assert browser.read("viewer.marks.length") == 1
        browser.read("viewer.moveTo([5, 10, 10])")
        red, _, blue = browser.colour(inside)
        assert red > blue + 40

        # The mask is saved on the grid of the image's file.
        with browser.page.expect_download() as download:
            browser.page.click("#save")
        download.value.save_as(tmp_path / download.value.suggested_filename)
        saved, scan = nib.load(tmp_path / "scan_1.nii.gz"), nib.load(tmp_path / "scan.nii.gz")
        assert np.array_equal(saved.affine, scan.affine)
        assert np.asarray(saved.dataobj).sum() == np.count_nonzero(game.mask)
        browser.idle()

        browser.page.click("#finish")
        browser.until("window.synthfm.facts().ended")
        browser.idle()
        assert browser.page.is_visible("#chart svg")
        assert [cell.inner_text() for cell in browser.page.query_selector_all("#table tbody th")] == [
            "human:anna",
            "ritm-3d-v1",
            "synthfm-mm-v1",
        ]
        picture(browser, "finished")

        # The next structure by keyboard alone: crosshair, mark, finish.
        browser.press("n")
        browser.until("window.synthfm.facts() === null")
        browser.idle()
        assert browser.page.inner_text("#target") == "2"
        browser.page.focus("#canvas")
        z, y, x = browser.read("viewer.crosshair")
        for key, times in (("ArrowRight", 24 - x), ("ArrowUp", 17 - y), ("PageDown", z - 4)):
            for _ in range(times):
                browser.press(key)
        assert browser.read("viewer.crosshair") == [4, 17, 24]
        browser.press("Enter")
        browser.until("window.synthfm.facts()?.step === 1")
        browser.idle()
        assert browser.read("viewer.maskAt([4, 17, 24])")
        browser.press("f")
        browser.until("window.synthfm.facts().ended")
        browser.idle()
        browser.page.click("#end")
        browser.until("!document.getElementById('curtain').hidden")
        assert "Mean Dice" in browser.page.inner_text("#curtain-text")
        picture(browser, "ended")

        assert browser.complaints == []
        assert {address.split("/")[2] for address in browser.requests if address.startswith("http")} == {url[7:]}
    run = read_run(tmp_path / "anna")
    assert [[step.undone for step in episode.steps] for episode in run.episodes] == [
        [False, False, True, False],
        [False, False],
    ]
    assert all(step.t_click_s > 0 for step in run.records)
    assert json.loads((tmp_path / "anna" / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert verify(tmp_path / "anna", episodes=None, workers=1, console=Console(quiet=True), trusted=True).equal


def test_practice_shows_dice_and_a_pause_is_not_thought(tmp_path, opened):
    game = made_game(tmp_path, practice=True)
    with serving(make_app(game)) as url:
        browser = opened(url)
        browser.start()
        browser.page.click("#pause")
        assert browser.page.is_visible("#curtain")
        browser.press("Enter")  # on the button that goes on
        assert browser.page.is_hidden("#curtain")
        browser.click((5, 10, 10))
        assert "Dice 0." in browser.page.inner_text("#status")
        browser.press("f")
        browser.until("window.synthfm.facts().ended")
        browser.idle()
    (episode,) = read_run(tmp_path / "anna").episodes if (tmp_path / "anna").exists() else (None,)
    assert episode.steps[0].t_pause_s > 0
    assert episode.oracle


def test_every_control_has_a_name_and_is_reached_by_tab(tmp_path, opened):
    with serving(make_app(made_game(tmp_path))) as url:
        browser = opened(url)
        browser.start()
        controls = browser.page.query_selector_all("button, input, canvas[tabindex]")
        names = [
            browser.page.evaluate(
                "e => e.getAttribute('aria-label') || e.innerText || e.labels[0].innerText",
                control,
            ).strip()
            for control in controls
            if control.is_visible()
        ]
        assert len(names) >= 14
        assert all(names)
        assert browser.page.get_attribute("#status", "aria-live") == "polite"
        seen = set()
        for _ in range(30):
            browser.press("Tab")
            seen.add(browser.page.evaluate("document.activeElement.id"))
        assert {"canvas", "inside", "pause", "finish", "opacity", "level", "window", "save"} <= seen


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1024, 768), (768, 1024)])
def test_it_fits_laptops_and_tablets(tmp_path, opened, width, height):
    with serving(make_app(made_game(tmp_path))) as url:
        browser = opened(url, width, height)
        browser.start()
        assert browser.page.evaluate("document.documentElement.scrollWidth") <= width
        canvas = browser.page.query_selector("#canvas").bounding_box()
        assert canvas["width"] > 0.6 * width or canvas["height"] > 0.8 * height
        browser.click((5, 10, 10))
        assert browser.read("viewer.maskAt([5, 10, 10])")
        picture(browser, f"{width}x{height}")


def test_a_token_in_the_address_opens_the_page(tmp_path, opened):
    with serving(make_app(made_game(tmp_path), token="a long secret")) as url:
        browser = opened(f"{url}/#token=a%20long%20secret")
        browser.start()
        assert browser.page.inner_text("#target") == "1"
        assert not any("secret" in address for address in browser.requests if "/api/" in address)
