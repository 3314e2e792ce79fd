"""Compares stock SAM 2 and this engine in one run: the same weights, the same clicks on different slices.

``python benchmarks/speed/engine.py`` prints seconds of whole episodes and the ratios, of synthfm3d-nano and of
``sam2.1-hiera-tiny`` with random weights; ``--rows`` chooses. ``--real FOLDER`` adds synthfm3d-nano on a real case,
``FOLDER/image.nii.gz`` and ``label.nii.gz``, under the clicks of ``ritm-3d-v1`` on its errors. Stock is
``SAM2VideoPredictor`` with the frames given in memory, all clicked slices conditioning, propagated forward and in
reverse after each click. One torch thread. On a CPU seconds are those of this process alone, which other work on the
machine disturbs less than the clock's; on CUDA they are the clock's, and bfloat16 autocast is on in fast mode.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import sam2.sam2_video_predictor as stock
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from synthfm_agents import make_clicker
from synthfm_env import Volume, VolumeEnv, load_volume, to_uint8
from synthfm_env.metrics import dice
from synthfm_env.prompts import Click
from synthfm_env.segmenters.sam2 import SAM2Segmenter, build_official, load_weights, seeded
from synthfm_env.synthesis import SynthFM3D


class Row(NamedTuple):
    """One episode to time."""

    weights: str
    size: int  # pixels along a slice's side
    slices: int
    clicks: int
    image_size: int | None = None  # that an official model is built for, with random weights
    device: str = "cpu"


ROWS = {
    "nano": Row("synthfm3d-nano", 256, 64, 8),
    "tiny256": Row("sam2.1-hiera-tiny", 256, 8, 3, 256),
    "tiny512": Row("sam2.1-hiera-tiny", 512, 4, 2, 512),
}
CUDA_ROWS = {
    "nano-cuda": Row("synthfm3d-nano", 256, 64, 8, None, "cuda"),
    "tiny1024-cuda": Row("sam2.1-hiera-tiny", 1024, 32, 4, 1024, "cuda"),
}


def seconds(device: str) -> float:
    """Return the clock that a device is measured by."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def build(row: Row) -> stock.SAM2VideoPredictor:
    """Return a row's model."""
    return load_weights(row.weights) if row.image_size is None else build_random(row.weights, row.image_size)


def build_random(name: str, image_size: int) -> stock.SAM2VideoPredictor:
    """Return an official model with random weights and an object score above 0, else every mask is empty."""
    with seeded(0):
        model = build_official(name, image_size)
    score = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    torch.nn.init.zeros_(score.weight)
    torch.nn.init.ones_(score.bias)
    return model


def play_stock(segmenter: SAM2Segmenter, image: NDArray, clicks: list[Click]) -> NDArray:
    """Return the last logits (D, h, w)."""
    model = segmenter.model
    assert isinstance(model, stock.SAM2VideoPredictor)
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
    return torch.cat([slices[z]["pred_masks"][0] for z in range(len(image))]).float().cpu().numpy()


def play_ours(segmenter: SAM2Segmenter, image: NDArray, clicks: list[Click]) -> NDArray:
    """Return the last logits (D, h, w)."""
    with segmenter.start(image, (1.0, 1.0, 1.0)) as session:
        for click in clicks:
            logits = session.add(click).logits
    assert logits is not None
    return logits


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


def measure(row: Row, repeats: int, compiled: bool, real: Path | None = None) -> Table:
    """Play a row's episode with all engines in turn and return the best times and the ratios.

    Args:
        row: the model; of a synthetic volume its size too.
        repeats: of which the best time counts.
        compiled: whether torch compiles the model first.
        real: the folder of a real case, instead of a synthetic volume.
    """
    # Engines with the same weights, and clicks
    model = build(row)
    if compiled:
        model.image_encoder.compile()
        model.memory_attention.compile(dynamic=True)
    device = torch.device(row.device)
    exact, fast = (SAM2Segmenter(row.weights, model, device, exact=exact) for exact in (True, False))
    volume, placed = synthetic_case(row) if real is None else real_case(real, exact, row.clicks)
    engines: dict[str, Callable[[], NDArray]] = {
        "stock": lambda: play_stock(exact, volume.image, placed),
        "exact": lambda: play_ours(exact, volume.image, placed),
        "fast": lambda: play_ours(fast, volume.image, placed),
    }
    # In turns, so that other work on the machine disturbs all alike
    best = dict.fromkeys(engines, float("inf"))
    logits = {}
    for _ in range(repeats):
        for name, play in engines.items():
            started = seconds(row.device)
            logits[name] = play()
            best[name] = min(best[name], seconds(row.device) - started)
    table = Table(
        "engine", "episode s", "ms a click", "times stock's speed", "largest logit difference", "Dice with stock"
    )
    for name, value in best.items():
        table.add_row(
            name, f"{value:.2f}", f"{1000 * value / len(placed):.0f}", f"{best['stock'] / value:.2f}",
            f"{np.abs(logits[name] - logits['stock']).max():.3g}",
            f"{dice(logits[name] > 0, logits['stock'] > 0):.4f}",
        )  # fmt: skip
    random = "" if row.image_size is None else f", random weights, fed at {row.image_size}"
    slices, height, width = volume.image.shape
    table.title = (
        f"{row.weights}{random}, {volume.case_id}: {slices} slices of {height} x {width}, {len(placed)} clicks, "
        f"best of {repeats}, {row.device}"
    )
    return table


def synthetic_case(row: Row) -> tuple[Volume, list[Click]]:
    """Return a synthetic volume and clicks spread over its largest structure."""
    volume = SynthFM3D(shape=(row.slices, row.size, row.size), recipe="any").sample(0)
    assert volume.label is not None
    return volume, clicks_on_one_structure(volume.label, row.clicks)


def real_case(folder: Path, segmenter: SAM2Segmenter, count: int) -> tuple[Volume, list[Click]]:
    """Return a real volume and the clicks of ``ritm-3d-v1`` on a segmenter's errors, in its largest structure."""
    volume = load_volume(folder / "image.nii.gz", folder / "label.nii.gz", case_id=folder.name)
    image: NDArray[Any] = to_uint8(volume.image, volume.modality)
    volume = replace(volume, image=image)
    assert volume.label is not None
    largest = int(np.bincount(volume.label.ravel())[1:].argmax()) + 1
    env = VolumeEnv(image=volume, segmenter=segmenter, reveal_truth=True, max_clicks=count)
    clicker = make_clicker("ritm-3d-v1")
    observation, info = env.reset(seed=0, options={"structure": largest})
    clicker.reset(0)
    clicks: list[Click] = []
    ended = False
    while not ended:
        z, y, x, kind = map(int, action := clicker.act(observation, info))
        clicks.append(Click((z, y, x), kind == 1))
        observation, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
    env.close()
    return volume, clicks


def main(
    rows: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(ROWS | CUDA_ROWS)}; all by default")] = None,
    real: Annotated[list[Path] | None, typer.Option(help="folder of a real case; again for more")] = None,
    repeats: int = 1,
    compiled: Annotated[bool, typer.Option(help="torch.compile encoder and memory attention, on CUDA")] = False,
) -> None:
    """Time stock SAM 2, exact mode and fast mode on the same clicks, in turn, and print the ratios."""
    torch.set_num_threads(1)
    console = Console(width=120)
    chosen = {name: row for name, row in (ROWS | CUDA_ROWS).items() if rows is None or name in rows}
    for name, row in chosen.items():
        if row.device == "cuda" and not torch.cuda.is_available():
            console.print(f"{name}: no CUDA device here")
        else:
            console.print(measure(row, repeats, compiled and row.device == "cuda"))
    for folder in real or ():
        console.print(measure(ROWS["nano"], repeats, compiled=False, real=folder))


if __name__ == "__main__":
    typer.run(main)
