"""Time a click over the bridge against the same click in this process.

    python benchmarks/speed/bridge.py

prints the table of docs/reference/segmenters/bridge.md: the mean over five clicks of the least of five times, in turns,
on synthetic volumes. Other work on the machine only adds time, so the least is what counts.
"""

import statistics
import sys
import time

from synthfm_env.prompts import Click
from synthfm_env.segmenters import Segmenter, make_segmenter
from synthfm_env.synthesis import SynthFM3D
from synthfm_env.volumes import Volume, to_uint8

SHAPES = ((32, 128, 128), (64, 256, 256))
NAMES = ("geodesic", "random-walker", "synthfm3d-nano")
CLICKS = 5
REPEATS = 5


def main() -> None:
    """Print one line for each segmenter and shape."""
    print("| segmenter | grid | in process, ms | bridged, ms | ratio |\n|---|---|---|---|---|")
    for name in sys.argv[1:] or NAMES:
        both = make_segmenter(name), make_segmenter(f"bridge:{sys.executable} -m synthfm_env.segmenters.bridge {name}")
        for shape in SHAPES:
            volume = SynthFM3D(shape=shape).sample(0)
            times = [[_click_times(segmenter, volume) for segmenter in both] for _ in range(REPEATS)]
            # The least time of each click, then the mean over clicks.
            here, bridged = (
                1000 * statistics.mean(map(min, zip(*spent, strict=True))) for spent in zip(*times, strict=True)
            )
            print(f"| `{name}` | {'x'.join(map(str, shape))} | {here:.0f} | {bridged:.0f} | {bridged / here:.2f} |")


def _click_times(segmenter: Segmenter, volume: Volume) -> list[float]:
    """Return the seconds of each click but the first, which pays for encoding."""
    depth, height, width = volume.image.shape
    times = []
    with segmenter.start(to_uint8(volume.image, volume.modality), volume.spacing) as session:
        for index in range(CLICKS + 1):
            began = time.perf_counter()
            session.add(Click((depth // 2, height // 3 + 4 * index, width // 2), positive=index % 2 == 0))
            times.append(time.perf_counter() - began)
    return times[1:]


if __name__ == "__main__":
    main()
