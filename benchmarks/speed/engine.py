"""Stock SAM 2 against our engine, in one run: the same weights, the same clicks on different slices.

``python benchmarks/speed/engine.py`` prints seconds of a whole episode and the ratios. Stock is
``SAM2VideoPredictor`` with the frames given in memory, all clicked slices conditioning, propagated forward and in
reverse after each click. One torch thread.
"""

import time
from typing import Annotated

import numpy as np
import sam2.sam2_video_predictor as stock
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from synthfm_env.prompts import Click
from synthfm_env.segmenters.sam2 import SAM2Segmenter, load_weights, pick_device
from synthfm_env.synthesis import SynthFM3D


def play_stock(segmenter: SAM2Segmenter, image: NDArray, clicks: list[Click]) -> tuple[float, NDArray]:
    """Return seconds of the episode and the last logits (D, h, w)."""
    model = segmenter.model
    assert isinstance(model, stock.SAM2VideoPredictor)
    started = time.perf_counter()
    stock.load_video_frames = lambda **_: (segmenter.frames(image), *image.shape[1:])
    stock.tqdm = lambda order, **_: order
    state = model.init_state("in memory")
    for click in clicks:
        z, y, x = click.zyx
        model.add_new_points_or_box(
            state, z, obj_id=1, points=[[float(x), float(y)]], labels=[int(click.positive)], clear_old_points=False
        )
        for reverse in (False, True):
            for _ in model.propagate_in_video(state, reverse=reverse):
                pass
    outputs = state["output_dict_per_obj"][0]
    slices = outputs["non_cond_frame_outputs"] | outputs["cond_frame_outputs"]
    logits = torch.cat([slices[z]["pred_masks"][0] for z in range(len(image))])
    return time.perf_counter() - started, logits.float().cpu().numpy()


def play_ours(segmenter: SAM2Segmenter, image: NDArray, clicks: list[Click]) -> tuple[float, NDArray]:
    """Return seconds of the episode and the last logits (D, h, w)."""
    started = time.perf_counter()
    with segmenter.start(image, (1.0, 1.0, 1.0)) as session:
        for click in clicks:
            logits = session.add(click).logits
    assert logits is not None
    return time.perf_counter() - started, logits


def clicks_on_one_structure(label: NDArray[np.integer], count: int) -> list[Click]:
    """Return positive clicks near the middle of the largest structure, on slices spread over its extent."""
    sizes = np.bincount(label.ravel())
    mask = label == 1 + sizes[1:].argmax()
    found = np.flatnonzero(mask.any((1, 2)))
    clicks = []
    for z in np.linspace(found[0], found[-1], count).round().astype(int):
        inside = np.argwhere(mask[z])
        y, x = inside[np.abs(inside - inside.mean(0)).sum(1).argmin()]
        clicks.append(Click((int(z), int(y), int(x))))
    return clicks


def main(
    weights: Annotated[str, typer.Option(help="a segmenter's name or weights file")] = "synthfm3d-nano",
    slices: int = 64,
    size: int = 256,
    clicks: int = 8,
    repeats: int = 3,
    device: str = "auto",
) -> None:
    """Time stock SAM 2, exact mode and fast mode on one synthetic volume, in turn, and print the ratios."""
    torch.set_num_threads(1)
    volume = SynthFM3D(shape=(slices, size, size), recipe="any").sample(0)
    assert volume.label is not None
    placed = clicks_on_one_structure(volume.label, clicks)
    model = load_weights(weights)
    engines = {mode: SAM2Segmenter(weights, model, pick_device(device), mode) for mode in ("exact", "fast")}
    seconds: dict[str, list[float]] = {"stock": [], "exact": [], "fast": []}
    logits = {}
    for _ in range(repeats):
        elapsed, logits["stock"] = play_stock(engines["exact"], volume.image, placed)
        seconds["stock"].append(elapsed)
        for mode, engine in engines.items():
            elapsed, logits[mode] = play_ours(engine, volume.image, placed)
            seconds[mode].append(elapsed)
    table = Table("engine", "episode s", "times stock's speed", "ms a slice and click", "largest logit difference")
    for name, values in seconds.items():
        best = min(values)
        difference = np.abs(logits[name] - logits["stock"]).max()
        table.add_row(
            name, f"{best:.2f}", f"{min(seconds['stock']) / best:.2f}",
            f"{1000 * best / slices / clicks:.2f}", f"{difference:.3g}",
        )  # fmt: skip
    table.title = f"{weights}, {slices} slices of {size} x {size}, {clicks} clicks, best of {repeats}, one thread"
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
