"""Defines ``Volume``: an image with truth, spacing and names of structures."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.arguments import are_lengths, check_array, check_name, is_whole
from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.volumes.structure_names import canonical_name

MODALITIES = ("CT", "MR", "US", "other")


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image with its truth, if that is known. A 2D image is a volume with one slice.

    Attributes:
        image: float32 (D, H, W), axes (z, y, x), in the scanner's units (HU for CT).
        label: integer array of the same shape, 0 = background, or None.
        spacing: (z, y, x) in mm.
        modality: one of ``MODALITIES``; selects the intensity preprocessing.
        case_id: name of the case in records; the case is the unit of statistics.
        structures: name of each label id, for example ``{1: "liver"}``.
        affine: 4x4, from the (x, y, z) index of ``image`` to RAS+ mm, as in NIfTI.
        metadata: source of the volume: file, or recipe, seed and generator version.

    Raises:
        InputError: the image is not 3D, label and image differ in shape, a spacing is not positive, the modality is
            unknown, or a field has another type.

    Example:
        >>> import numpy as np
        >>> label = np.zeros((4, 8, 8), np.int16)
        >>> label[1:3, 2:5, 2:5] = 1
        >>> volume = Volume(label * 100.0, label, (2.0, 1.0, 1.0), "MR", "case 1", structures={1: "liver"})
        >>> int(volume.truth("liver").sum())
        18
    """

    image: NDArray[np.float32]
    label: NDArray[np.integer] | None = None
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    modality: str = "other"
    case_id: str = "case"
    structures: dict[int, str] = field(default_factory=dict)
    affine: NDArray[np.float64] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.case_id, str):
            raise InputError(f"case_id {shown(self.case_id)}: expected a text")
        check_array(self.image, f"{self.case_id}: image")
        if self.image.dtype.kind not in "buif":
            raise InputError(f"{self.case_id}: image of {self.image.dtype}, expected real numbers")
        if self.image.ndim != 3 or self.image.size == 0:
            raise InputError(f"{self.case_id}: a volume has three axes (z, y, x), got shape {self.image.shape}")
        if self.label is not None:
            check_array(self.label, f"{self.case_id}: label")
            if self.label.dtype.kind not in "bui":
                raise InputError(f"{self.case_id}: label of {self.label.dtype}, expected whole numbers")
        if self.label is not None and self.label.shape != self.image.shape:
            raise InputError(
                f"{self.case_id}: label grid {self.label.shape} is unlike the image's {self.image.shape} "
                "(z, y, x); resample the label to the image's grid"
            )
        check_name(f"modality of {self.case_id}:", self.modality, MODALITIES)
        if not are_lengths(self.spacing):
            raise InputError(
                f"{self.case_id}: spacing {shown(self.spacing)} must be three positive lengths in mm (z, y, x)"
            )
        self._check_description()

    def _check_description(self) -> None:
        """Raise InputError unless structures, affine and metadata have the documented types."""
        ids = self.structures if isinstance(self.structures, dict) else {None: None}
        if not all(is_whole(key) and isinstance(name, str) for key, name in ids.items()):
            raise InputError(f'{self.case_id}: structures {shown(self.structures)}: expected a dict as {{1: "liver"}}')
        if self.affine is not None:
            check_array(self.affine, f"{self.case_id}: affine")
            if self.affine.shape != (4, 4) or self.affine.dtype.kind not in "uif" or not np.isfinite(self.affine).all():
                raise InputError(f"{self.case_id}: affine {shown(self.affine)}: expected 4x4 finite numbers")
        if not isinstance(self.metadata, dict):
            raise InputError(f"{self.case_id}: metadata {shown(self.metadata)}: expected a dict")

    def truth(self, structure: int | str) -> NDArray[np.bool_]:
        """Return the mask of one structure, bool (D, H, W).

        Args:
            structure: a label id, or a name from ``structures``.

        Raises:
            InputError: the volume has no label, or the label does not contain the structure.
        """
        if not (isinstance(structure, str) or is_whole(structure)):
            raise InputError(f"{self.case_id}: structure {shown(structure)}: expected a label id or a name")
        if self.label is None:
            raise InputError(f"{self.case_id}: no label was given, so structure {structure!r} has no truth")
        ids = {canonical_name(name): key for key, name in self.structures.items()}
        ids |= {name: key for key, name in self.structures.items()}
        name = str(structure)
        key = int(name) if name.removeprefix("-").isdecimal() else ids.get(name, ids.get(canonical_name(name)))
        mask = self.label == key if key else None
        if mask is None or not mask.any():
            present = [int(i) for i in np.unique(self.label) if i]
            names_of = {i: self.structures.get(i, str(i)) for i in present}
            held = ", ".join(str(i) if name == str(i) else f"{i} ({name})" for i, name in names_of.items())
            raise InputError(
                f"{self.case_id}: structure {structure!r} is not in the label; it holds {held or 'nothing'}"
            )
        return np.asarray(mask)
