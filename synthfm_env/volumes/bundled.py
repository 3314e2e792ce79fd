"""Reads real volumes that PyPI packages contain, without another download."""

import numpy as np
from numpy.typing import NDArray

from synthfm_env.arguments import check_name
from synthfm_env.errors import InputError
from synthfm_env.volumes.orientation import spacing_zyx
from synthfm_env.volumes.volume import Volume

BUNDLED = ("mni152",)
RESOLUTION_MM = 2


def bundled_volume(name: str) -> Volume:
    """Return a volume that an installed package contains.

    ``mni152``: the skull-stripped T1-weighted template ICBM 2009a, symmetric (Fonov et al., NeuroImage
    2011), as bundled in ``nilearn``, resampled by it to 2 mm: (95, 117, 99) voxels. Its truth comes from the
    tissue probability maps of the same template: 1 "grey matter" and 2 "white matter" are the voxels in which that
    tissue has a probability above one half, so no voxel is both. It is an average of 152 heads, not one
    patient.

    Raises:
        InputError: an unknown name, or ``nilearn`` is not installed.

    Example:
        >>> bundled_volume("mni152").image.shape  # needs the extra "real"
        (95, 117, 99)
    """
    check_name("bundled volume", name, BUNDLED)
    try:
        from nilearn import __version__, datasets
    except ImportError as error:
        raise InputError(
            f'volume {name!r} needs nilearn, which is not installed: pip install "synthfm_env[real]"'
        ) from error
    # The head, and maps of the probability of two tissues
    template = datasets.load_mni152_template(resolution=RESOLUTION_MM)
    grey = datasets.load_mni152_gm_template(resolution=RESOLUTION_MM)
    white = datasets.load_mni152_wm_template(resolution=RESOLUTION_MM)
    image = _zyx(template)
    label = np.zeros(image.shape, dtype=np.int16)
    label[_zyx(grey) > 0.5] = 1
    label[_zyx(white) > 0.5] = 2
    affine = np.array(template.affine, dtype=np.float64)
    return Volume(
        image=image,
        label=label,
        spacing=spacing_zyx(affine),
        modality="MR",
        case_id=name,
        structures={1: "grey matter", 2: "white matter"},
        affine=affine,
        metadata={"source": f"nilearn {__version__}, ICBM152 2009a symmetric"},
    )


def _zyx(file: object) -> NDArray[np.float32]:
    voxels = file.get_fdata(dtype=np.float32, caching="unchanged")  # type: ignore[attr-defined]
    return np.array(voxels.T, dtype=np.float32, order="C")
