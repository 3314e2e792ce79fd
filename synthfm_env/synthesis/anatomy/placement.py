"""Places and paints structures on a canvas in the body's axes, and records their names and places."""

import numpy as np
from torch import Tensor

from synthfm_env.synthesis.anatomy.shapes import Array, Rng, Shape, Tube, log_uniform
from synthfm_env.synthesis.drawing.canvas import Box, Canvas
from synthfm_env.synthesis.imaging.tissue_intensities import TissueIntensities
from synthfm_env.synthesis.recipe import GeneratorRecipe

Located = tuple[Box, Tensor]  # the voxels that a shape may touch, and its function f there
_WIDEST = 1.5  # widest border in pixels of structures that choose their own, instead of the recipe's sharpness


class Placement:
    """The anatomy of one volume while it is drawn.

    Centres and extents are in pixels in the body's axes (along the body, front to back, side to side). ``frame``
    rotates them to the array's (z, y, x).

    Attributes:
        intensities: of the volume's tissues.
        extent: (3,), visible part of the body along each of its axes, in pixels.
        size: the smaller of H and W, the unit of structures' sizes.
        span: the extent, but at least ``size``, because a thin stack of slices shows a part of a body.
        kinds: kind of structure of each raw label.
        visible: raw labels of structures with enough voxels in the image.
    """

    def __init__(
        self, canvas: Canvas, intensities: TissueIntensities, recipe: GeneratorRecipe, frame: Array, rng: Rng
    ) -> None:
        self.canvas, self.intensities, self.frame, self.rng = canvas, intensities, frame, rng
        self.extent: Array = frame.T @ canvas.extent
        self.size = float(canvas.extent[1:].min())
        self.span: Array = np.maximum(self.extent, self.size)
        self.kinds: dict[int, str] = {}
        self.visible: set[int] = set()
        # An ultrasound probe is close to the organs, so images show fewer and larger ones.
        self.smallest_organ = 0.1 if intensities.style == "US" else 0.06
        self._sharpness = log_uniform(rng, *recipe.sharpness) * min(2.0, max(1.0, self.size / 192))
        self._smallest = recipe.smallest
        self._taken: list[tuple[Array, float]] = []

    def name(self, kind: str) -> int:
        """Return a new raw label for a kind of structure."""
        label = len(self.kinds) + 1
        self.kinds[label] = kind
        return label

    def place(self, radius: float, margin: float = 0.08) -> Array:
        """Draw six centres and return the one farthest from earlier structures.

        Args:
            radius: of the structure, in pixels.
            margin: approximate distance of the centre from the image's edges, as a share of the extent.
        """
        # Range of centres along each axis.
        low, high = [], []
        for extent in self.extent.tolist():
            if extent <= self.canvas.dz:  # one slice: every structure has to cross it
                ends = 0.5 * extent - 0.5 * radius, 0.5 * extent + 0.5 * radius
            elif extent < 4 * radius:
                ends = -0.3 * radius, extent + 0.3 * radius
            else:
                inset = margin * extent - 0.2 * radius
                ends = min(inset, extent - inset), max(inset, extent - inset)
            low.append(ends[0])
            high.append(ends[1])
        # The farthest of six candidates.
        tries = self.rng.uniform(low, high, (6, 3))
        if self._taken:
            apart = tries[:, None] - np.array([c for c, _ in self._taken])
            distance = np.sqrt((apart * apart).sum(2)) - np.array([r for _, r in self._taken])
            best = tries[int(distance.min(1).argmax())]
        else:
            best = tries[0]
        self._taken.append((best, radius))
        return np.asarray(best)

    def width(self) -> float:
        """Draw the width of a border in pixels."""
        return self._sharpness * log_uniform(self.rng, 0.6, 1.6)

    def locate(self, shape: Shape, centre: Array) -> Located | None:
        """Return the box of voxels that a shape may touch and f in it, or None if the shape is outside the image."""
        widest = max(_WIDEST, 1.6 * self._sharpness)
        return self.canvas.evaluate(shape.turned(self.frame), self.frame @ centre, _margin(widest))

    def stamp(
        self,
        located: Located,
        mean: float,
        label: int | None,
        *,
        inset: float = 0.0,
        texture: float | None = None,
        width: float | None = None,
        opacity: float = 1.0,
    ) -> None:
        """Paint a shape that ``locate`` placed.

        Args:
            located: from ``locate``.
            mean: intensity.
            label: raw label, None for no structure.
            inset: pixels from the shape's border to that of the painted part inside it.
            texture: amplitude of the texture; None draws one.
            width: of the border in pixels; None draws one.
            opacity: 0 to 1.
        """
        box, f = located
        self.canvas.stamp(
            box,
            f,
            mean=mean,
            texture=self.intensities.amplitude(self.rng) if texture is None else texture,
            width=self.width() if width is None else width,
            opacity=opacity,
            inset=inset,
            label=label,
        )
        # Count the voxels of a structure on a coarse grid, until it has enough.
        if label and label not in self.visible:
            thin = max(1, round((f.numel() / 4000) ** (1 / 3)))
            inside = f[::thin, ::thin, ::thin].cpu().numpy() > inset
            if np.count_nonzero(inside) * thin**3 >= self._smallest:
                self.visible.add(label)

    def paint(
        self,
        shape: Shape,
        centre: Array,
        mean: float,
        label: int | None,
        *,
        texture: float | None = None,
        width: float | None = None,
    ) -> None:
        """Locate and paint one homogeneous shape; a long tube in pieces. For the arguments, see ``stamp``."""
        texture = self.intensities.amplitude(self.rng) if texture is None else texture
        width = self.width() if width is None else width
        margin = _margin(width)
        pieces: list[Shape] = [shape.turned(self.frame)]
        centre = self.frame @ centre
        if isinstance(shape, Tube):
            pieces = list(self.canvas.bent(shape.turned(self.frame), centre).pieces())
        for piece in pieces:
            located = self.canvas.evaluate(piece, centre, margin)
            if located:
                self.stamp(located, mean, label, texture=texture, width=width)


def _margin(width: float) -> float:
    """Return the margin in pixels around f = 0 that a border of this width needs: half of it, and half a voxel."""
    return 0.5 * width + 0.5
