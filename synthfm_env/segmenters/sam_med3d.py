"""Uses SAM-Med3D through its authors' package ``medim`` (extra ``sammed3d``)."""

import argparse
import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from synthfm_env.errors import InputError
from synthfm_env.prompts import Prompt
from synthfm_env.segmenters.base import Capabilities, Segmenter
from synthfm_env.segmenters.checkpoint_files import read_checkpoint
from synthfm_env.segmenters.extras import import_extra
from synthfm_env.segmenters.image_input import prepare_grey
from synthfm_env.segmenters.prompt_history import PromptHistorySession
from synthfm_env.segmenters.sam_med3d_grid import Index, TargetGrid
from synthfm_env.segmenters.weights_file import fill

NAME = "sam-med3d-turbo"
_MOST_MM = 1e9  # longest side of an image: voxels of the model's grid are counted in 64 bits
LOW_RESOLUTION = 4  # the decoder's logits are coarser by this factor
# The authors' training loop stores its arguments and NumPy scalars with the tensors. A pickled scalar names the
# function that makes one, in older files by the module's former name.
_SCALAR = np.float64().__reduce__()[0]
_ALLOWED = (
    argparse.Namespace,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
)


def load_sam_med3d(checkpoint: Path, device: torch.device) -> "SamMed3D":
    """Build SAM-Med3D and fill it strictly.

    Args:
        checkpoint: the file as its authors publish it.
        device: where it runs.

    Raises:
        InputError: the extra ``sammed3d`` is not installed, or the file is damaged or of another model.
    """
    medim = import_extra("medim", "sammed3d", NAME)
    state = read_checkpoint(checkpoint, "model_state_dict", _ALLOWED)
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints the model's name
        model = medim.create_model("SAM-Med3D", pretrained=False)
    return SamMed3D(fill(model, state, checkpoint).to(device))


class SamMed3D(Segmenter):
    """SAM-Med3D (Wang et al., ECCV BIC 2024): a 3D SAM on a cube of 128^3 voxels of 1.5 mm.

    1. **The cube is placed by the clicks, never by the label**: around the first positive click, shifted so that it
       stays inside the image if the image is large enough, and padded with zeros if not. The authors' own scripts
       centre it on the label's box.
    2. The image is sampled linearly at 1.5 mm, and intensities are standardised over the cube's voxels above zero, as
       the authors do. Axes are (x, y, z) from (z, y, x): volumes that ``load_volume`` reads are RAS+, as the model
       expects.
    3. Every prompt is answered from all clicks in the cube and the last answer's logits.
    4. Logits are interpolated linearly to the image's own grid; above 0 is inside.
    5. **If the mask touches a face of the cube inside the image**, another cube is placed half a cube further, with
       the clicks in it and the touching part's central voxel as a positive one. Each face of the first cube is
       followed once. A later positive click outside all cubes gets a cube too. Where two overlap, the earlier counts.

    The image is the 8-bit one that every segmenter here gets (a CT window of -160 to 240 HU), while the authors
    standardise raw intensities.

    Args:
        model: ``medim``'s SAM-Med3D in evaluation mode; its own image size is the cube's side.
    """

    name = NAME
    capabilities = Capabilities(images=False)

    def __init__(self, model: nn.Module) -> None:
        """Take a model."""
        self.model: Any = model.eval()

    @property
    def side(self) -> int:
        """Voxels along a side of the cube."""
        return int(self.model.image_encoder.img_size)

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> "SamMed3DSession":
        """Open a session; a cube is encoded when a click first needs it. See ``Segmenter.start``.

        Raises:
            InputError: as ``Segmenter.start``, the image has one slice, or it is longer than a thousand kilometres.
        """
        grey = prepare_grey(image, spacing)
        if grey.shape[0] == 1:
            raise InputError(f"{self.name} takes volumes alone, got an image of one slice, shape {image.shape}")
        if max(n * float(mm) for n, mm in zip(grey.shape, spacing, strict=True)) > _MOST_MM:
            raise InputError(
                f"{self.name}: a spacing of {spacing} mm makes the image longer than {_MOST_MM:g} mm; give the real one"
            )
        return SamMed3DSession(self, grey, TargetGrid(grey.shape, spacing))

    @torch.no_grad()
    def encode_cube(self, voxels: NDArray[np.float32]) -> Tensor:
        """Return the features of a cube.

        Args:
            voxels: float32 (side, side, side), axes (z, y, x), 0 outside the image.
        """
        body = voxels[voxels > 0]
        if body.size:
            voxels = (voxels - body.mean()) / max(float(body.std()), 1e-6)
        cube = torch.from_numpy(np.ascontiguousarray(voxels.T, dtype=np.float32))
        features: Tensor = self.model.image_encoder(cube[None, None].to(self._device))
        return features

    @torch.no_grad()
    def decode_cube(self, features: Tensor, clicks: Iterable[tuple[Index, bool]], last: Tensor | None) -> Tensor:
        """Return the logits of a cube, float32 (1, 1, side / 4, ...), axes (x, y, z).

        Args:
            features: from ``encode_cube``.
            clicks: voxels of the cube, (z, y, x), and whether each is positive.
            last: the logits of the cube's last answer, None without one.
        """
        placed = list(clicks)
        # The authors give points in the order of the tensor's axes, so x first.
        points = torch.tensor([[zyx[::-1] for zyx, _ in placed]], dtype=torch.float32)
        labels = torch.tensor([[int(positive) for _, positive in placed]], dtype=torch.float32)
        small = self.side // LOW_RESOLUTION
        sparse, dense = self.model.prompt_encoder(
            points=[points.to(self._device), labels.to(self._device)],
            boxes=None,
            masks=torch.zeros(1, 1, small, small, small, device=self._device) if last is None else last,
        )
        logits: Tensor = self.model.mask_decoder(
            image_embeddings=features,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )[0]
        return logits

    def upscale(self, logits: Tensor) -> NDArray[np.float32]:
        """Return the logits of a cube at its full resolution, float32 (side, side, side), axes (z, y, x)."""
        full = functional.interpolate(logits, size=[self.side] * 3, mode="trilinear", align_corners=False)
        return full[0, 0].cpu().numpy().T

    @property
    def _device(self) -> torch.device:
        return next(iter(self.model.parameters())).device


@dataclass(frozen=True, slots=True, eq=False)
class Cube:
    """A cube that was answered.

    Attributes:
        corner: its first voxel on the target grid, (z, y, x); may be negative.
        features: of the image in it.
        logits: the newest answer, float32 (1, 1, side / 4, ...), axes (x, y, z).
        planted: a positive voxel of the target grid that stands in for a click, None if a user's click is in it.
    """

    corner: Index
    features: Tensor
    logits: Tensor
    planted: Index | None = None


class SamMed3DSession(PromptHistorySession):
    """Answers in as many cubes as clicks and mask need; if two overlap, the earlier one counts."""

    _MOST_CUBES: ClassVar[int] = 8

    def __init__(self, segmenter: SamMed3D, image: NDArray[np.uint8], grid: TargetGrid) -> None:
        """Encode nothing yet.

        Args:
            segmenter: shared by all sessions.
            image: uint8 (D, H, W).
            grid: over the image.
        """
        depth, height, width = image.shape
        super().__init__(segmenter.name, segmenter.capabilities, (depth, height, width))
        self._segmenter = segmenter
        self._image = image
        self._grid = grid
        self._features: dict[Index, Tensor] = {}
        # The answered cubes after each prompt.
        self._cubes: list[tuple[Cube, ...]] = []

    def _answer(self, prompts: Prompt) -> NDArray[np.bool_]:
        clicks = [(self._grid.voxel_of(click.zyx), click.positive) for click in prompts.clicks]
        if not any(positive for _, positive in clicks):
            self._cubes.append(())
            return np.zeros(self._shape, dtype=bool)
        # Answer again in the cubes of the last answer.
        cubes = [
            self._cube(cube.corner, clicks, cube.logits, cube.planted)
            for cube in (self._cubes[-1] if self._cubes else ())
        ]
        # Add a cube around each positive click outside all of them, and cubes that follow the mask across its faces.
        for voxel, positive in clicks:
            covered = any(self._holds(cube.corner, voxel) for cube in cubes)
            if positive and not covered and len(cubes) < self._MOST_CUBES:
                cubes.append(self._cube(self._grid.corner_around(voxel, self._segmenter.side), clicks, None, None))
        cubes += self._followed(cubes, clicks)
        self._cubes.append(tuple(cubes))
        return self._paste(cubes)

    def _cube(
        self, corner: Index, clicks: list[tuple[Index, bool]], last: Tensor | None, planted: Index | None
    ) -> Cube:
        """Answer one cube from the clicks in it."""
        if corner not in self._features:
            with self._encoding():
                voxels = self._grid.sample_cube(self._image, corner, self._segmenter.side)
                self._features[corner] = self._segmenter.encode_cube(voxels)
        inside = [(voxel, positive) for voxel, positive in clicks if self._holds(corner, voxel)]
        if planted is not None:
            inside.insert(0, (planted, True))
        local = [(_minus(voxel, corner), positive) for voxel, positive in inside]
        features = self._features[corner]
        return Cube(corner, features, self._segmenter.decode_cube(features, local, last), planted)

    def _followed(self, cubes: list[Cube], clicks: list[tuple[Index, bool]]) -> list[Cube]:
        """Return a new cube for each face of the first one that the mask touches inside the image."""
        first, side = cubes[0], self._segmenter.side
        inside = self._segmenter.upscale(first.logits) > 0
        added: list[Cube] = []
        for axis in range(3):
            for face, step in ((0, -(side // 2)), (side - 1, side // 2)):
                at_face = first.corner[axis] + face
                image_ends = at_face <= 0 if face == 0 else at_face >= self._grid.lengths[axis] - 1
                touching = np.argwhere(inside.take(face, axis=axis))
                corner = _moved(first.corner, axis, step)
                known = any(cube.corner == corner for cube in cubes)
                if image_ends or known or not len(touching) or len(cubes) + len(added) >= self._MOST_CUBES:
                    continue
                # The touching voxel nearest to their mean stands in for a click.
                middle = touching[np.argmin(((touching - touching.mean(axis=0)) ** 2).sum(axis=1))]
                local = np.insert(middle, axis, face)
                z, y, x = (int(c + i) for c, i in zip(first.corner, local, strict=True))
                added.append(self._cube(corner, clicks, None, (z, y, x)))
        return added

    def _paste(self, cubes: list[Cube]) -> NDArray[np.bool_]:
        """Return the mask of all cubes on the image's own grid."""
        mask = np.zeros(self._shape, dtype=bool)
        side = self._segmenter.side
        for cube in reversed(cubes):  # the earliest last, because it counts if two overlap
            region = self._grid.native_region(cube.corner, side)
            if all(part.stop > part.start for part in region):
                values = self._grid.to_native(self._segmenter.upscale(cube.logits), cube.corner, region)
                mask[region] = values > 0
        return mask

    def _holds(self, corner: Index, voxel: Index) -> bool:
        return all(0 <= v - c < self._segmenter.side for v, c in zip(voxel, corner, strict=True))

    def _take_back(self) -> None:
        self._cubes.pop()

    def _forget(self) -> None:
        self._cubes.clear()

    def _release(self) -> None:
        self._cubes.clear()
        self._features.clear()


def _minus(voxel: Index, corner: Index) -> Index:
    return voxel[0] - corner[0], voxel[1] - corner[1], voxel[2] - corner[2]


def _moved(corner: Index, axis: int, step: int) -> Index:
    z, y, x = (c + (step if a == axis else 0) for a, c in enumerate(corner))
    return z, y, x
