"""Compare the processor time of a click over the bridge with that of the same click in this process (Linux).

    OMP_NUM_THREADS=1 python benchmarks/speed/bridge.py

prints the table of docs/reference/segmenters/bridge.md: the mean over five clicks of the least of several times, in
turns, on synthetic volumes. Networks, whose clicks cost the most, are timed twice and on the small volume alone.
Processor time of both processes is added, because other work on the machine lengthens the wall-clock time of whatever
is handed from one process to another.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from synthfm_env.prompts import Click
from synthfm_env.segmenters import Segmenter, make_segmenter
from synthfm_env.segmenters.bridge import BridgeSegmenter
from synthfm_env.synthesis import SynthFM3D
from synthfm_env.volumes import Volume, to_uint8

SHAPES = ((32, 128, 128), (64, 256, 256))
NETWORKS = ("synthfm3d-unet", "synthfm3d-nano")
NAMES = ("random-walker", "geodesic", *NETWORKS)
CLICKS = 5


def main() -> None:
    """Print one line for each segmenter and shape."""
    print("| segmenter | grid | in process, ms | bridged, ms | ratio |\n|---|---|---|---|---|")
    for name in sys.argv[1:] or NAMES:
        here = make_segmenter(name)
        bridged = BridgeSegmenter(f"{sys.executable} -m synthfm_env.segmenters.bridge {name}")
        repeats, shapes = (2, SHAPES[:1]) if name in NETWORKS else (5, SHAPES)
        for shape in shapes:
            volume = SynthFM3D(shape=shape).sample(0)
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(repeats):
                times[0].append(_mean_click(here, volume, time.process_time))
                times[1].append(_mean_click(bridged, volume, partial(_of_both, bridged)))
            alone, over = (1000 * min(spent) for spent in times)
            print(f"| `{name}` | {'x'.join(map(str, shape))} | {alone:.0f} | {over:.0f} | {over / alone:.2f} |")


def _mean_click(segmenter: Segmenter, volume: Volume, clock: Callable[[], float]) -> float:
    """Return the mean processor seconds of the clicks after the first, which pays for encoding."""
    depth, height, width = volume.image.shape
    places = [(depth // 2, height // 3 + 4 * index, width // 2) for index in range(CLICKS + 1)]
    with segmenter.start(to_uint8(volume.image, volume.modality), volume.spacing) as session:
        session.add(Click(places[0]))
        began = clock()
        for index, zyx in enumerate(places[1:]):
            session.add(Click(zyx, positive=index % 2 == 1))
        return (clock() - began) / CLICKS


def _of_both(segmenter: BridgeSegmenter) -> float:
    """Return the processor seconds that this process and a bridged segmenter's have used."""
    fields = Path(f"/proc/{segmenter.process_id}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
