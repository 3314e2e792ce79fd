"""Records small episodes of the segmenters, or plays recorded ones again.

Run it as ``python tests/helpers/golden_episodes.py`` to write ``episodes.npz`` anew, with the kind of this machine in
``machine.json``. Only a change that is meant to change masks may do so, and the changelog has to name it.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
from machine_kind import machine_kind
from scipy import ndimage

from synthfm_env import Click, Segmenter, SynthFM3D, make_segmenter, to_uint8

FILE = Path(__file__).parents[1] / "golden" / "episodes.npz"
MACHINE_FILE = FILE.with_name("machine.json")
SHAPES = {"volume": (16, 56, 48), "thin": (5, 56, 64), "image": (1, 72, 64)}
SEEDS = {"volume": 7, "thin": 7, "image": 3}
SPACING = {"volume": (2.0, 1.0, 1.0), "thin": (5.0, 1.0, 1.0), "image": (1.0, 1.0, 1.0)}
BUILDERS = {
    "exact": lambda: make_segmenter("synthfm3d-nano", device="cpu", preset="stock"),
    "fast": lambda: make_segmenter("synthfm3d-nano", device="cpu", preset="fast"),
    # Without the ensemble, whose network runs in another precision on some CPUs.
    "views": lambda: make_segmenter("synthfm3d-nano", device="cpu", options={"ensemble": False}),
    "geodesic": lambda: make_segmenter("geodesic"),
}
SEGMENTERS = tuple(BUILDERS)
CLICKS = 5
LOGIT_STRIDE = 4  # every fourth pixel of the logits keeps the file small


@cache
def segmenter(name: str) -> Segmenter:
    """Return the segmenter of a name, built once."""
    return BUILDERS[name]()


def case(shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, uint8 (D, H, W), and the bool mask of its largest structure that is no background."""
    volume = SynthFM3D(SHAPES[shape]).sample(SEEDS[shape])
    ids, counts = np.unique(volume.label[volume.label > 0], return_counts=True)
    fits = [i for i, n in zip(ids, counts, strict=True) if 0.01 < n / volume.label.size < 0.2]
    chosen = fits[0] if fits else ids[counts.argmax()]
    return to_uint8(volume.image, volume.modality), volume.label == chosen


def next_click(mask: np.ndarray, truth: np.ndarray) -> Click:
    """Return the voxel of the mask's errors that is deepest inside them."""
    wrong = mask != truth
    if not wrong.any():
        wrong = truth
    depth = ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1, 1:-1]
    place = np.unravel_index(depth.argmax(), depth.shape)
    z, y, x = map(int, place)
    return Click((z, y, x), bool(truth[place]))


def play(name: str, shape: str, image: np.ndarray, clicks: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the masks and the thinned logits after each of the clicks, rows of (z, y, x, positive)."""
    masks, logits = [], []
    with segmenter(name).start(image, SPACING[shape]) as session:
        for z, y, x, positive in clicks.tolist():
            answer = session.add(Click((z, y, x), bool(positive)))
            masks.append(answer.mask)
            logits.append(np.zeros(0, np.float32) if answer.logits is None else thinned(answer.logits))
    return masks, logits


def thinned(logits: np.ndarray) -> np.ndarray:
    """Return the logits that the file keeps."""
    return logits[:, ::LOGIT_STRIDE, ::LOGIT_STRIDE]


def record() -> dict[str, np.ndarray]:
    """Play all episodes; each segmenter's clicks are placed by its own errors."""
    arrays: dict[str, np.ndarray] = {}
    for shape in SHAPES:
        image, truth = case(shape)
        for name in SEGMENTERS:
            with segmenter(name).start(image, SPACING[shape]) as session:
                mask = np.zeros(truth.shape, dtype=bool)
                clicks = []
                for _ in range(CLICKS):
                    clicks.append(next_click(mask, truth))
                    mask = session.add(clicks[-1]).mask
            rows = np.array([(*click.zyx, click.positive) for click in clicks])
            masks, logits = play(name, shape, image, rows)
            arrays[f"{shape}/{name}/clicks"] = rows
            arrays[f"{shape}/{name}/masks"] = np.packbits(np.stack(masks))
            arrays[f"{shape}/{name}/logits"] = np.stack(logits)
            dice = 2 * (masks[-1] & truth).sum() / (masks[-1].sum() + truth.sum())
            print(shape, name, "Dice after the last click", round(float(dice), 3))
        arrays[f"{shape}/image"] = image
    return arrays


if __name__ == "__main__":
    np.savez_compressed(FILE, **record())
    MACHINE_FILE.write_text(json.dumps(machine_kind(), indent=2) + "\n", encoding="utf-8")
