"""Times clicks in the page of ``synthfm play``, from the pointer's button to the painted mask, in headless Chromium.

    python benchmarks/speed/play.py --segmenter synthfm3d-unet --shape 32,128,128

starts ``synthfm play`` on a synthetic volume, clicks in the page and prints the milliseconds of each click as the page
measures them: the request there and back, the model's part of it, from the answer to the repaint, and the frame's part
of that. Processor time is printed too: other work on the machine does not change it. The script needs the built page
(``make page``), the extra ``serve``, playwright and a Chromium. Without a graphics card Chromium draws in software; the
script names what draws. ``--pixels`` sets the size of the window, which a software renderer pays for.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

SUITE = """
name = "timed"
segmenters = ["{segmenter}"]
clickers = ["random"]
clicks = {clicks}

[[data]]
kind = "synthetic"
name = "volumes"
shape = [{shape}]
cases = 1
"""
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SOFTWARE = ("--disable-gpu", "--enable-unsafe-swiftshader")
PARTS = ("all", "server", "model", "drawing", "frame")
RENDERER = """() => {
  const gl = document.createElement("canvas").getContext("webgl2");
  return gl.getParameter(gl.getExtension("WEBGL_debug_renderer_info").UNMASKED_RENDERER_WEBGL);
}"""


def until(page: Page, what: str) -> None:
    """Wait for a condition of the page, whose own policy forbids that the driver does."""
    while not page.evaluate(f"Boolean({what})"):
        time.sleep(0.01)


def processor_seconds(process: int) -> float:
    """Return the processor seconds that a process and its descendants have used (Linux: read from /proc)."""
    parents, seconds = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = entry.read_text(encoding="utf-8").rpartition(")")[2].split()
            parents[int(entry.parent.name)] = int(fields[1])
            seconds[int(entry.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    family = {process}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(seconds.get(one, 0.0) for one in family)


def click(page: Page, zyx: tuple[int, int, int], step: int) -> dict[str, float | None]:
    """Click on a voxel, and return the milliseconds that the page measured."""
    place = page.evaluate("zyx => window.synthfm.viewer.pageposition(zyx)", list(zyx))
    page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
    page.mouse.click(place["x"], place["y"])
    until(page, f"window.synthfm.facts()?.step === {step} && !window.synthfm.busy()")
    spent: dict[str, float | None] = page.evaluate("window.synthfm.spent()")
    return spent


def places(target: np.ndarray, clicks: int) -> list[tuple[int, int, int]]:
    """Return voxels (z, y, x) of the slice that holds most of a structure, spread over it."""
    z = int(target.sum(axis=(1, 2)).argmax())
    inside = np.argwhere(target[z])
    chosen = np.random.default_rng(0).choice(len(inside), clicks, replace=len(inside) < clicks)
    return [(z, int(y), int(x)) for y, x in inside[chosen]]


def main() -> None:
    """Print a line a click, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segmenter", default="synthfm3d-unet")
    parser.add_argument("--shape", default="32,128,128", help="z,y,x")
    parser.add_argument("--clicks", type=int, default=8)
    parser.add_argument("--pixels", default="1280,800", help="width,height of the window")
    parser.add_argument("--picture", help="a PNG of the page after the last click")
    args = parser.parse_args()
    depth, height, width = (int(n) for n in args.shape.split(","))
    across, down = (int(n) for n in args.pixels.split(","))
    browser_path = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if browser_path is None:
        sys.exit("no Chromium: apt install chromium")
    # A server with a suite of one volume
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "timed.toml"
        text = SUITE.format(segmenter=args.segmenter, clicks=args.clicks + 1, shape=args.shape)
        suite.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "synthfm_bench.cli", "play", str(suite), "--port", "0", "--practice"]
        server = subprocess.Popen([*command, "--out", f"{folder}/run"], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            # A browser that opens the page and begins
            with sync_playwright() as driver:
                sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
                browser = driver.chromium.launch(executable_path=browser_path, args=[*sandbox, *SOFTWARE])
                page = browser.new_page(viewport={"width": across, "height": down})
                page.goto(address)
                until(page, "window.synthfm")
                page.click("#curtain-button")
                until(page, "document.getElementById('curtain').hidden && !window.synthfm.busy()")
                print(f"{args.segmenter} on {args.shape}, window {args.pixels}, drawn by {page.evaluate(RENDERER)}")
                rows, used = [], {"server": 0.0, "browser and driver": 0.0}
                target = np.frombuffer(page.request.get(f"{address}api/target").body(), np.uint8)
                # Clicks, each with the processor time of both sides
                for number, zyx in enumerate(places(target.reshape(depth, height, width), args.clicks)):
                    before = processor_seconds(server.pid), processor_seconds(os.getpid())
                    spent = click(page, zyx, number + 1)
                    served = processor_seconds(server.pid) - before[0]
                    used["server"] += served
                    used["browser and driver"] += processor_seconds(os.getpid()) - before[1] - served
                    rows.append([spent[part] or 0.0 for part in PARTS])
                    shown = ", ".join(f"{part} {value:.0f}" for part, value in zip(PARTS, rows[-1], strict=True))
                    print(f"click {number + 1}: {shown} ms", flush=True)
                medians = zip(PARTS, np.median(rows, axis=0), strict=True)
                print("median: " + ", ".join(f"{part} {value:.0f}" for part, value in medians) + " ms")
                if args.picture:
                    page.screenshot(path=args.picture)
                means = (f"{name} {1000 * seconds / args.clicks:.0f}" for name, seconds in used.items())
                print("processor time a click: " + ", ".join(means) + " ms, the crosshair's frame before it included")
                browser.close()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
