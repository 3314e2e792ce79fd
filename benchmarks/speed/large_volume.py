"""Measures peak memory and seconds of one core of a session on a large volume.

    python benchmarks/speed/large_volume.py --segmenter geodesic --shape 600,512,512

makes a volume of noise around an ellipsoid, in 8 bits, opens a session, clicks, and prints one line for the table in
docs/explanation/reliability.md. Peak memory is that of the whole process, the volume included.
"""

import argparse
import resource
import time

import numpy as np

from synthfm_env import Click, make_segmenter


def make_image(shape: tuple[int, int, int]) -> np.ndarray:
    """Return uint8 (D, H, W), axes (z, y, x): an ellipsoid of a third of each side, brighter than the noise around."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 100, shape, dtype=np.uint8)
    z, y, x = (np.linspace(-3, 3, n, dtype=np.float32) for n in shape)
    for index, height in enumerate(z):  # slice by slice: the measure must not be of this
        image[index][height**2 + y[:, None] ** 2 + x[None] ** 2 < 1] += 80
    return image


def main() -> None:
    """Print seconds of one core and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segmenter", default="geodesic")
    parser.add_argument("--shape", default="600,512,512", help="z,y,x")
    parser.add_argument("--clicks", type=int, default=3)
    chosen = parser.parse_args()
    depth, height, width = (int(n) for n in chosen.shape.split(","))
    image = make_image((depth, height, width))
    segmenter = make_segmenter(chosen.segmenter)
    began = time.process_time()
    session = segmenter.start(image, (1.0, 0.8, 0.8))
    opened = time.process_time() - began
    seconds = []
    for number in range(chosen.clicks):
        began = time.process_time()
        session.add(Click((depth // 2, height // 2, width // 2 + 3 * number), positive=number % 2 == 0))
        seconds.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    later = max(seconds[1:], default=float("nan"))
    print(
        f"{chosen.segmenter} on {chosen.shape}: start {opened:.1f} s, first click {seconds[0]:.1f} s, "
        f"later clicks up to {later:.1f} s, peak {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
