"""Generates SynthFM-3D volumes: labelled images that resemble medical ones, computed without any real image."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthfm_env.errors import InputError
from synthfm_env.memory_limit import check_memory
from synthfm_env.printable import shown
from synthfm_env.synthesis.anatomy.groups import populate, top_up
from synthfm_env.synthesis.anatomy.placement import Placement
from synthfm_env.synthesis.anatomy.shapes import Array, Rng, log_uniform
from synthfm_env.synthesis.background.body import draw_body, draw_clusters, draw_phantom
from synthfm_env.synthesis.background.boundary_aware import BoundaryImage, draw_boundary_image
from synthfm_env.synthesis.components import REGION, relabel_components
from synthfm_env.synthesis.drawing.canvas import Canvas
from synthfm_env.synthesis.drawing.random_fields import fractal_field, slabs
from synthfm_env.synthesis.imaging.scanners import Scanner, field_of_view
from synthfm_env.synthesis.imaging.tissue_intensities import TissueIntensities
from synthfm_env.synthesis.recipe import GeneratorRecipe, Style, load_recipe
from synthfm_env.synthesis.visibility import border_contrast, without_structures
from synthfm_env.torch_threads import one_torch_thread
from synthfm_env.volumes.volume import Volume

GENERATOR_VERSION = "1.5"
_BYTES_PER_VOXEL = 32  # image, label, and some fields of float32
_LONGEST_SIDE = 8192  # voxels; fields are enlarged by matrices of about side x side / 16
_TOP_UPS = 4  # attempts to add structures if too few are visible
_ROOM = 4  # voxels of the volume for each voxel of its structures at their smallest size, at least


class SynthFM3D:
    """Generates SynthFM-3D volumes, each from its own seed.

    Args:
        shape: (D, H, W) of every volume; (1, H, W) draws 2D images as SynthFM does.
        recipe: a name from ``list_recipes()``, a TOML file, a dict of fields, or a ``GeneratorRecipe``.
        device: of torch. On ``cpu`` a seed gives the same bytes everywhere; other devices agree statistically.

    Raises:
        InputError: shape, recipe or device are invalid.

    Example:
        >>> volume = SynthFM3D(shape=(8, 32, 32), recipe="clear").sample(seed=7)
        >>> volume.image.shape, volume.image.dtype, volume.label.dtype
        ((8, 32, 32), dtype('float32'), dtype('int16'))
    """

    def __init__(
        self,
        shape: Sequence[int] = (64, 128, 128),
        recipe: str | Path | dict[str, Any] | GeneratorRecipe = "any",
        device: str = "cpu",
    ) -> None:
        sizes = tuple(shape) if isinstance(shape, Sequence | np.ndarray) and not isinstance(shape, str) else ()
        whole = all(isinstance(n, int | float | np.number) and n % 1 == 0 for n in sizes)
        if len(sizes) != 3 or not whole or min(sizes) < 1 or min(sizes[1:]) < 16:
            raise InputError(
                f"SynthFM3D(shape={shown(shape)}): expected three integers (D, H, W) with D >= 1 and "
                "H, W >= 16; a 2D image is (1, H, W)"
            )
        if max(sizes) > _LONGEST_SIDE:
            raise InputError(f"SynthFM3D(shape={shown(shape)}): sides end at {_LONGEST_SIDE} voxels")
        self.shape = (int(sizes[0]), int(sizes[1]), int(sizes[2]))
        check_memory(math.prod(self.shape) * _BYTES_PER_VOXEL, f"SynthFM3D(shape={self.shape})")
        self.recipe = load_recipe(recipe)
        fit = int(np.prod(self.shape)) // (_ROOM * self.recipe.smallest)
        if self.recipe.targets[0] > fit:
            raise InputError(
                f"SynthFM3D(shape={sizes}): {self.recipe.targets[0]} structures of {self.recipe.smallest} voxels or "
                f"more do not fit, {fit} would; enlarge shape or lower the recipe's targets or smallest"
            )
        try:
            self.device = torch.device(device)
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise InputError(f"SynthFM3D(device={shown(device)}): cannot be used here; try 'cpu'") from error

    def sample(self, seed: int) -> Volume:
        """Return the volume of a seed.

        On a CPU the same seed, shape, recipe and generator version give the same bytes, for any number of threads.
        ``label`` is int16: 0 is background, 1..N are 6-connected structures, which ``structures`` names. ``image`` is
        in HU for CT, about 0 to 1 otherwise. ``metadata`` contains everything needed to reproduce the volume.

        Raises:
            InputError: the seed is not an integer of 0 or more.
        """
        return self.sample_batch([seed])[0]

    def sample_batch(self, seeds: Iterable[int]) -> list[Volume]:
        """Return the volumes of several seeds, each with the same bytes as from ``sample``.

        All seeds are checked before the first volume is drawn. All volumes have the same shape, so
        ``np.stack([v.image for v in batch])`` is a batch for a model.

        Raises:
            InputError: a seed is not an integer of 0 or more.
        """
        checked = [_checked(seed) for seed in seeds]
        with torch.inference_mode(), one_torch_thread():
            return [self._draw(seed) for seed in checked]

    def _draw(self, seed: int) -> Volume:
        # 1. Imaging style and grid.
        recipe, shape = self.recipe, self.shape
        rng = np.random.default_rng(seed)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(1 << 62)))
        style = self._style(rng)
        ratio = 1.0 if rng.random() < recipe.isotropic else log_uniform(rng, *recipe.thickness)
        # Thick slices show a longer part of the body, but not in proportion: neighbours must share structures.
        dz = ratio ** rng.uniform(0.3, 1.0)
        # 2. Canvas, intensities and field of view.
        canvas = Canvas(shape, dz, min(shape[1:]) * log_uniform(rng, *recipe.warp), generator)
        intensities = TissueIntensities.draw(rng, style, recipe.contrast)
        placement = Placement(canvas, intensities, recipe, _frame(rng, recipe.oblique), rng)
        in_view, probe = field_of_view(style, shape[1], shape[2], rng)
        in_view = None if in_view is None else in_view.to(self.device)
        # 3. Labels and mean intensities: a boundary-aware image, or anatomy with texture.
        boundary = self._boundary_image(placement) if recipe.canvas == "synthfm" else None
        if boundary is None:
            label, structures = self._anatomy(placement, in_view)
            tissue = _textured(canvas, rng)
        else:
            tissue = boundary.image
            regions = {int(key): REGION for key in np.unique(boundary.label) if key}
            label, structures = relabel_components(boundary.label, regions, recipe.targets[1], recipe.smallest)
        # 4. Image of the device: blur, noise, field of view.
        if style != "CT" and rng.random() < recipe.invert:
            tissue = tissue.neg_().add_(1).clamp_(min=0)
        unit = max(1.0, min(shape[1:]) / 192) ** rng.uniform(0.3, 1.2)
        device = Scanner(
            rng, generator, ratio, dz, unit, log_uniform(rng, *recipe.noise), probe, recipe.canvas == "synthfm"
        )
        image = device.image(style, tissue)
        if in_view is not None:
            image.mul_(in_view)  # faster than indexing by a mask
            if style == "CT":
                image.sub_(1024 * ~in_view)
        # 5. Flips, voxel size and metadata.
        flips = [axis for axis in range(3) if rng.random() < 0.5 and not (style == "US" and axis == 1)]
        pixel = log_uniform(rng, 0.1, 0.8) if style == "US" else log_uniform(rng, 0.3, 2.5)
        return Volume(
            image=image.flip(flips).cpu().numpy(),
            label=torch.from_numpy(label).flip(flips).numpy(),
            spacing=(round(pixel * ratio, 4), round(pixel, 4), round(pixel, 4)),
            modality=style,
            case_id=f"synthfm3d-{recipe.name}-{seed}",
            structures=structures,
            metadata={
                "generator": "SynthFM3D",
                "generator_version": GENERATOR_VERSION,
                "seed": seed,
                "shape": list(shape),
                "recipe": recipe.model_dump(mode="json"),
            }
            | ({} if boundary is None else {"canvas": boundary.metadata}),
        )

    def _boundary_image(self, placement: Placement) -> BoundaryImage | None:
        """Draw a boundary-aware image with the recipe's probability of clusters; None for an image of shapes."""
        recipe, rng = self.recipe, placement.rng
        if rng.random() >= recipe.clusters:
            return None
        return draw_boundary_image(self.shape, recipe.cluster_count, rng, placement.canvas.generator)

    def _style(self, rng: Rng) -> Style:
        """Draw the imaging style by the recipe's weights."""
        names = sorted(self.recipe.styles)
        weights = np.array([self.recipe.styles[s] for s in names], float)
        return names[int(rng.choice(len(names), p=weights / weights.sum()))]

    def _anatomy(self, placement: Placement, in_view: Tensor | None) -> tuple[NDArray[np.int16], dict[int, str]]:
        """Draw background, structures and air, and add structures until enough are visible.

        Returns:
            The label map int16 (D, H, W), and the name of each id.
        """
        recipe, rng, canvas, intensities = self.recipe, placement.rng, placement.canvas, placement.intensities
        # Background: body, clusters or one intensity.
        phantom = recipe.background == "phantom"
        has_body = rng.random() < recipe.body and intensities.style != "US"
        body = draw_phantom(placement) if phantom else draw_body(placement) if has_body else None
        black = phantom and body is None
        base, grain = (0.0, 0.0) if black else (intensities.base, intensities.amplitude(rng))
        regions: dict[int, str] = {}
        if recipe.canvas == "tissue" and rng.random() < recipe.clusters:
            regions = draw_clusters(canvas, intensities, recipe, rng)
        else:
            canvas.mean.fill_(base)
            canvas.texture.fill_(grain)
        # Structures, in front of the body's layers or behind them.
        low, high = recipe.targets
        count = int(rng.integers(low, high + 1))
        in_front = rng.random() < 0.25
        if body is not None and in_front:
            body.cover(placement, layers=True)
        if recipe.shapes:
            populate(placement, recipe, max(low, count - 4) if regions else count)
        # Cut off what is outside the body or the field of view, keep visible structures, add more if they are too few.
        for tries in range(_TOP_UPS + 1):
            if body is not None:
                body.cover(placement, layers=not in_front)
            if in_view is not None:
                canvas.label.mul_(in_view)
            kinds = {**placement.kinds, **regions}
            label, structures = relabel_components(canvas.label.cpu().numpy(), kinds, high, recipe.smallest)
            label, structures = self._visible(placement, label, structures)
            if len(structures) >= low:
                break
            if recipe.shapes:
                top_up(placement, recipe, len(placement.visible) + 2 * (low - len(structures)))
            else:
                regions = draw_clusters(canvas, intensities, recipe, rng, fineness=1.5 ** (tries + 1))
        return label, structures

    def _visible(
        self, placement: Placement, label: NDArray[np.int16], structures: dict[int, str]
    ) -> tuple[NDArray[np.int16], dict[int, str]]:
        """Return label and names without structures of too little contrast at their border."""
        canvas, lag = placement.canvas, max(2, round(placement.size / 64))
        mean, texture = canvas.mean.cpu().numpy(), canvas.texture.cpu().numpy()
        contrast = border_contrast(label, mean, texture, lag, placement.intensities.style)
        dropped = contrast < self.recipe.visible
        return without_structures(label, structures, dropped) if dropped[1:].any() else (label, structures)


def _checked(seed: int) -> int:
    """Return a seed as an int; raise InputError unless it is a whole number of 0 or more."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"SynthFM3D.sample(seed={shown(seed)}): expected an integer of 0 or more")
    return int(seed)


def _frame(rng: Rng, oblique: float) -> Array:
    """Draw the permutation from the body's axes to the array's: axial, or else sagittal or coronal slices."""
    order = [0, 1, 2]
    if rng.random() < oblique:
        order = [[1, 0, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]][int(rng.integers(4))]
    return np.eye(3)[:, order]


def _textured(canvas: Canvas, rng: Rng) -> Tensor:
    """Add texture to the mean intensities. A volume has two textures; the sign of a voxel's amplitude selects one."""
    soft, other = _texture(canvas, rng, 1.5), _texture(canvas, rng, 4.0)
    kind = rng.random()
    for rows in slabs(canvas.shape):
        second, amplitude = other[rows], canvas.texture[rows]
        if kind < 0.25:  # ridges: septa, fibres, folds
            second.abs_().mul_(-1.6).add_(1.3)
        elif kind < 0.4:  # spots: follicles, fat lobules
            second.clamp_(min=0.5).sub_(0.7).mul_(2)
        # Positive amplitudes select the first texture, negative ones the second.
        mean = canvas.mean[rows].addcmul_(soft[rows], amplitude.clamp(min=0))
        mean.addcmul_(second, amplitude.clamp(max=0), value=-1)
    return canvas.mean


def _texture(canvas: Canvas, rng: Rng, finest: float) -> Tensor:
    """Draw a texture of two or three octaves of features from ``finest`` pixels up; in some volumes it is layered."""
    count = int(rng.integers(2, 4))
    unit = max(1.0, min(canvas.shape[1:]) / 192)
    sizes = [float(s) * unit for s in np.exp(rng.uniform(np.log(finest), np.log(16 * finest), count))]
    stretch = [1.0, 1.0, 1.0]
    if rng.random() < 0.3:
        stretch[int(rng.integers(3))] = rng.uniform(2, 8)
    weights = [log_uniform(rng, 0.3, 1) for _ in sizes]
    return fractal_field(canvas.shape, sizes, weights, canvas.dz, canvas.generator, stretch)
