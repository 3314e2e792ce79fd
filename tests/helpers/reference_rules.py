"""Implements the click protocols a second time from their descriptions, with scipy on whole volumes.

Nothing of the project's own rules is used. Ties and draws are left open: what is given is every admissible voxel.
"""

import numpy as np
from scipy import ndimage

NEGATIVE, POSITIVE, STOP = 0, 1, 2
DONE = ([(0, 0, 0)], STOP)
TOUCHING = np.ones((3, 3, 3))


def depth(region, spacing=(1, 1, 1)):
    """Distance to the border, the image's edge being one save along axes of one voxel."""
    pad = [(1, 1) if n > 1 else (0, 0) for n in region.shape]
    far = ndimage.distance_transform_edt(np.pad(region, pad), sampling=spacing)
    return far[tuple(slice(before, before + n) for (before, _), n in zip(pad, region.shape, strict=True))]


def at_most(values):
    """All voxels of the greatest value."""
    return [tuple(v) for v in np.argwhere(np.isclose(values, values.max())).tolist()]


def largest(region):
    labels, n = ndimage.label(region, TOUCHING)
    sizes = [np.sum(labels == i) for i in range(1, n + 1)]
    return labels == 1 + int(np.argmax(sizes)) if n else region


def ambiguous(truth, mask):
    """Whether some rule finds two largest components, and takes the first of them."""
    middle = np.flatnonzero(truth.any((1, 2)))
    regions = [truth != mask, eroded(truth & ~mask), eroded(mask & ~truth), in_plane(truth, middle[len(middle) // 2])]
    for region in regions:
        labels, n = ndimage.label(region, TOUCHING)
        sizes = sorted(np.bincount(labels.ravel())[1:])
        if n > 1 and sizes[-1] == sizes[-2]:
            return True
    return False


def eroded(region):
    return ndimage.minimum_filter(region, size=3, mode="constant", cval=True)


def deeper(missed, false, spacing=(1, 1, 1), clicked=()):
    far = [depth(missed, spacing), depth(false, spacing)]
    for voxel in clicked:
        far[0][voxel] = far[1][voxel] = 0
    if max(far[0].max(), far[1].max()) == 0:
        return DONE
    positive = far[0].max() > far[1].max()
    return at_most(far[0] if positive else far[1]), int(positive)


def in_plane(region, z):
    """Only one slice, as a single slice."""
    return region[z : z + 1]


def moved(found, z):
    voxels, kind = found
    return found if kind == STOP else ([(z, y, x) for _, y, x in voxels], kind)


def nearest_to_centroid(region):
    voxels = np.argwhere(region)
    apart = np.linalg.norm(voxels - voxels.mean(0), axis=1)
    return [tuple(v) for v in voxels[np.isclose(apart, apart.min())].tolist()]


def offline(truth, mask, clicks):
    wrong = truth != mask
    if not wrong.any():
        return DONE
    scores = []
    for a, b in zip(truth, mask, strict=True):
        scores.append((a & b).sum() / (a | b).sum() if (a | b).any() else 1.0)
    worst = int(np.argmin(scores))
    if not clicks:
        z = min([i for i, plane in enumerate(truth) if plane.any()], default=0)
    else:
        z = clicks[-1][0] if len(clicks) % 3 else worst
    z = z if wrong[z].any() else worst
    return moved(deeper(in_plane(truth & ~mask, z), in_plane(mask & ~truth, z)), z)


def cvpr25(truth, mask):
    """Both kinds are admissible, so the kind is that of the truth at the voxel: given as None."""
    if (truth == mask).all():
        return DONE
    return at_most(depth(largest(truth != mask))), None


def vista3d(truth, mask):
    parts = [largest(eroded(part)) for part in (truth & ~mask, mask & ~truth)]
    positive = parts[0].sum() >= parts[1].sum()
    part = parts[0] if positive else parts[1]
    return (nearest_to_centroid(part), int(positive)) if part.any() else DONE


def deepgrow(truth, mask):
    missed, false = truth & ~mask, mask & ~truth
    positive = missed.sum() >= false.sum()
    part = missed if positive else false
    if not part.any():
        return DONE
    return [tuple(v) for v in np.argwhere(part).tolist()], int(positive)


def deepgrow_chances(truth, mask):
    """Chances of the voxels that ``deepgrow`` returns."""
    missed, false = truth & ~mask, mask & ~truth
    part = missed if missed.sum() >= false.sum() else false
    weights = np.exp(ndimage.distance_transform_cdt(part)[part].astype(float)) - 1
    return weights / weights.sum()


def sammed3d(truth, mask):
    """Both kinds are admissible, so the kind is that of the truth at the voxel: given as None."""
    wrong = [tuple(v) for v in np.argwhere(truth != mask).tolist()]
    return (wrong, None) if wrong else DONE


def pairs(truth, clicks, positives=1, negatives=2):
    placed = len(clicks)
    if placed >= positives + negatives or not truth.any():
        return DONE
    centre = nearest_to_centroid(truth)
    if placed < positives:
        inside = [tuple(v) for v in np.argwhere(truth).tolist() if tuple(v) not in {c[:3] for c in clicks}]
        return (centre if placed == 0 else inside, POSITIVE) if inside else DONE
    ring = ndimage.distance_transform_edt(~truth) <= 5
    ring = np.argwhere(ring & ~truth)
    apart = [centre[0], *(c[:3] for c in clicks if not c[3])]
    far = np.min([np.linalg.norm(ring - np.array(a), axis=1) for a in apart], axis=0) if len(ring) else np.zeros(1)
    if far.max() == 0:
        return DONE
    return [tuple(v) for v in ring[np.isclose(far, far.max())].tolist()], NEGATIVE


def shen(truth, mask, clicks):
    area = truth.sum((1, 2))
    kept = [i for i, n in enumerate(area) if n > 256] or [i for i, n in enumerate(area) if n]
    if not kept or len(clicks) >= 5:
        return DONE
    kept = range(kept[0], kept[-1] + 1)
    z = kept[len(kept) // 2]
    missed, false = in_plane(truth & ~mask, z), in_plane(mask & ~truth, z)
    positive = missed.sum() >= false.sum()
    far = depth(missed if positive else false)
    return moved((at_most(far), int(positive)), z) if far.max() > 1.42 else DONE


def dong(truth, clicks):
    slices = [i for i, plane in enumerate(truth) if plane.any()]
    if clicks or not slices:
        return DONE
    z = slices[len(slices) // 2]
    return moved((at_most(depth(largest(in_plane(truth, z)))), POSITIVE), z)


def millimetres(truth, mask, clicks, spacing, smallest=10.0):
    parts = []
    for part in (truth & ~mask, mask & ~truth):
        labels, n = ndimage.label(part, TOUCHING)
        sizes = {i: np.sum(labels == i) for i in range(1, n + 1)}
        big = [
            i
            for i, size in sizes.items()
            if not clicks or size * np.prod(spacing) >= smallest or size >= 0.01 * truth.sum()
        ]
        parts.append(np.isin(labels, big) & part)
    return deeper(*parts, spacing, [c[:3] for c in clicks])


def admissible(name, truth, mask, clicks=(), spacing=(1.0, 1.0, 1.0)):
    """Return the voxels that a protocol may click, in raster order, and the kind.

    Args:
        name: of the protocol, at its default parameters.
        truth: bool (D, H, W).
        mask: bool (D, H, W).
        clicks: rows z, y, x, positive.
        spacing: (z, y, x) in mm.
    """
    clicks = [tuple(c) for c in clicks]
    missed, false = truth & ~mask, mask & ~truth
    return {
        "ritm-3d-v1": lambda: deeper(missed, false, clicked=[c[:3] for c in clicks]),
        "sam2-center-v1": lambda: deeper(missed, false),
        "sam2-offline-v1": lambda: offline(truth, mask, clicks),
        "cvpr25-v1": lambda: cvpr25(truth, mask),
        "vista3d-v1": lambda: vista3d(truth, mask),
        "monai-deepgrow-v1": lambda: deepgrow(truth, mask),
        "sammed3d-random-v1": lambda: sammed3d(truth, mask),
        "synthfm-v1": lambda: pairs(truth, clicks),
        "synthfm-v2": lambda: pairs(truth, clicks),
        "shen2024-v1": lambda: shen(truth, mask, clicks),
        "dong2024-v1": lambda: dong(truth, clicks),
        "synthfm-mm-v1": lambda: millimetres(truth, mask, clicks, spacing),
    }[name]()
