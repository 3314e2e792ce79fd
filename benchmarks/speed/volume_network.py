"""Times the volume network beside SAM 2 with everything on, in one run: seconds a click and memory beside the volume.

``python benchmarks/speed/volume_network.py``, one thread. Each segmenter plays the same synthetic structures under
``ritm-3d-v1``; the volume network also answers clicks on 512 x 512 x 600 voxels, in a process of its own whose peak
memory is read before and after.
"""

import resource
import subprocess
import sys
import time
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from synthfm_agents import make_clicker
from synthfm_env import Click, Segmenter, SynthFM3D, Volume, VolumeEnv, make_segmenter

CLICKS = 6
LARGE = (600, 512, 512)
PLACES = (((310, 240, 220), True), ((310, 240, 60), False), ((400, 250, 225), True), ((20, 20, 20), False))


def play(volume: Volume, structure: int, segmenter: Segmenter) -> list[float]:
    """Return the seconds of each answer, without encoding."""
    env = VolumeEnv(image=volume, segmenter=segmenter, reveal_truth=True, max_clicks=CLICKS)
    clicker = make_clicker("ritm-3d-v1")
    observation, info = env.reset(seed=0, options={"structure": structure})
    clicker.reset(0)
    seconds, ended = [], False
    while not ended:
        observation, _, terminated, truncated, info = env.step(clicker.act(observation, info))
        ended = terminated or truncated
        if env.prediction:
            seconds.append(env.prediction.seconds.predict)
    env.close()
    return seconds


def large() -> None:
    """Print seconds and MiB of clicks on a large volume; see the module."""
    torch.set_num_threads(1)
    segmenter = make_segmenter("synthfm3d-unet")
    with segmenter.start(np.zeros((16, 32, 32), np.uint8), (1.0, 1.0, 1.0)) as warm:
        warm.add(Click((8, 16, 16)))
    image = np.full(LARGE, 60, np.uint8)
    image[210:410, 160:320, 110:330] = 140
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    session = segmenter.start(image, (0.8, 0.8, 0.8))
    opened = time.perf_counter() - started
    seconds = []
    for place, positive in PLACES:
        started = time.perf_counter()
        session.add(Click(place, positive))
        seconds.append(time.perf_counter() - started)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    clicks = ", ".join(f"{1000 * each:.0f}" for each in seconds)
    print(f"512 x 512 x 600: start {opened:.2f} s, clicks {clicks} ms, {memory:.0f} MiB beside the volume")


def main(
    volumes: Annotated[int, typer.Option(help="synthetic volumes to play")] = 4,
    alone: Annotated[bool, typer.Option("--large", hidden=True)] = False,
) -> None:
    """Time both segmenters and print the table."""
    if alone:
        large()
        return
    torch.set_num_threads(1)
    names = ("synthfm3d-unet", "synthfm3d-nano")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    generator = SynthFM3D((48, 160, 160))
    for name in names:
        segmenter = make_segmenter(name)
        play(generator.sample(99), 1, segmenter)  # warms up
        for seed in range(volumes):
            seconds[name] += play(generator.sample(seed), 1, segmenter)
    table = Table("segmenter", "clicks", "median s", "slowest s", "times as quick")
    reference = float(np.median(seconds["synthfm3d-nano"]))
    for name, each in seconds.items():
        median = float(np.median(each))
        table.add_row(name, str(len(each)), f"{median:.3f}", f"{max(each):.3f}", f"{reference / median:.1f}")
    Console().print(table)
    sys.stdout.flush()
    subprocess.run([sys.executable, __file__, "--large"], check=True)


if __name__ == "__main__":
    typer.run(main)
