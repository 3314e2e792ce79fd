"""From raw labels to named structures: one connected component each, shards dropped."""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as components


def tidy(
    raw: NDArray[np.int16], kinds: dict[int, str], most: int, smallest: int, largest: float
) -> tuple[NDArray[np.int16], dict[int, str]]:
    """Return the label map with ids 1..N, each 6-connected, and the name of each.

    Args:
        raw: (D, H, W), 0 background.
        kinds: what each raw label is; parts of it that are cut off become structures of their own.
        most: N at most; structures drawn first go last, clusters before organs.
        smallest: components of fewer voxels are dropped.
        largest: components of more than this share of the volume are dropped.
    """
    parts = components(raw, background=0, connectivity=1)
    sizes = np.bincount(parts.ravel())
    owner = np.zeros(len(sizes), np.int64)
    owner[parts.ravel()] = raw.ravel()
    keep = np.flatnonzero((sizes >= smallest) & (sizes <= largest * raw.size) & (owner > 0))
    best: dict[int, int] = {}
    for part in keep[np.argsort(-sizes[keep], kind="stable")]:
        best.setdefault(int(owner[part]), int(part))
    first = set(best.values())
    is_region = np.array([kinds[int(owner[p])] == "region" for p in keep], bool)
    is_rest = np.array([int(p) not in first for p in keep], bool)
    order = keep[np.lexsort((owner[keep], is_rest, is_region))][:most]
    table = np.zeros(len(sizes), np.int16)
    names: dict[int, str] = {}
    for new, part in enumerate(sorted(order, key=lambda p: (owner[p], p)), start=1):
        table[part] = new
        names[new] = f"{kinds[int(owner[part])]} {new}"
    return table[parts], names
