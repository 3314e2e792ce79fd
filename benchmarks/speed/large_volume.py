"""Measures peak memory and seconds of one core on a large volume: a session, and the command ``synthfm segment``.

    python benchmarks/speed/large_volume.py --segmenter geodesic --shape 600,512,512
    python benchmarks/speed/large_volume.py --segmenter geodesic --shape 600,512,512 --command

make a volume of noise around an ellipsoid, click, and print one line for the table in docs/explanation/reliability.md.
A session gets 8 bits; the command reads and writes uncompressed NIfTI files, float32 and uint8. Peak memory is that of
the whole process, the volume included.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from synthfm_env import Click, Volume, make_segmenter, save_volume


def make_image(shape: tuple[int, int, int]) -> np.ndarray:
    """Return uint8 (D, H, W), axes (z, y, x): an ellipsoid of a third of each side, brighter than the noise around."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 100, shape, dtype=np.uint8)
    z, y, x = (np.linspace(-3, 3, n, dtype=np.float32) for n in shape)
    for index, height in enumerate(z):  # slice by slice, to take little memory itself
        image[index][height**2 + y[:, None] ** 2 + x[None] ** 2 < 1] += 80
    return image


def measure_session(segmenter: str, shape: tuple[int, int, int], clicks: int) -> str:
    """Return seconds of the start and of clicks, and the peak memory of this process."""
    image = make_image(shape)
    model = make_segmenter(segmenter)
    began = time.process_time()
    session = model.start(image, (1.0, 0.8, 0.8))
    opened = time.process_time() - began
    seconds = []
    for number in range(clicks):
        began = time.process_time()
        z, y, x = (n // 2 for n in shape)
        session.add(Click((z, y, x + 3 * number), positive=number % 2 == 0))
        seconds.append(time.process_time() - began)
    later = max(seconds[1:], default=float("nan"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"start {opened:.1f} s, first click {seconds[0]:.1f} s, later clicks up to {later:.1f} s, peak {peak:.0f} MiB"
    )


def measure_command(segmenter: str, shape: tuple[int, int, int]) -> str:
    """Return seconds and peak memory of ``synthfm segment`` with one click."""
    with tempfile.TemporaryDirectory() as folder:
        save_volume(Volume(make_image(shape).astype(np.float32), spacing=(1.0, 0.8, 0.8)), f"{folder}/scan.nii")
        click = ",".join(str(n // 2) for n in shape) + ",+"
        command = ["segment", f"{folder}/scan.nii", "--click", click, "-o", f"{folder}/mask.nii"]
        subprocess.run(
            [sys.executable, "-m", "synthfm_bench.cli", *command, "--segmenter", segmenter],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return f"synthfm segment {used.ru_utime + used.ru_stime:.1f} s, peak {used.ru_maxrss / 1024:.0f} MiB"


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segmenter", default="geodesic")
    parser.add_argument("--shape", default="600,512,512", help="z,y,x")
    parser.add_argument("--clicks", type=int, default=3)
    parser.add_argument("--command", action="store_true", help="measure synthfm segment")
    args = parser.parse_args()
    depth, height, width = (int(n) for n in args.shape.split(","))
    shape = depth, height, width
    if args.command:
        line = measure_command(args.segmenter, shape)
    else:
        line = measure_session(args.segmenter, shape, args.clicks)
    print(f"{args.segmenter} on {args.shape}: {line}")


if __name__ == "__main__":
    main()
