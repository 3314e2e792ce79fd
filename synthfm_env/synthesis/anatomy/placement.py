"""Where structures are placed and painted: the canvas in the body's own axes, with names and free room."""

import numpy as np
from torch import Tensor

from synthfm_env.synthesis.anatomy.shapes import Array, Rng, Shape, Tube, log_uniform
from synthfm_env.synthesis.drawing.canvas import Box, Canvas
from synthfm_env.synthesis.imaging.tissue_intensities import Palette
from synthfm_env.synthesis.recipe import Recipe

Found = tuple[Box, Tensor]
_WIDEST = 1.5  # of the borders that are not drawn by the scene's sharpness


class Scene:
    """One volume's anatomy while it is drawn.

    Centres and extents are in the body's axes (along the body, front to back, side to side), in pixels;
    ``frame`` takes them to the array's (z, y, x).

    Attributes:
        extent: what can be seen of the body along each of its axes.
        size: the smaller of H and W, what sizes are relative to.
        span: the extent, at least ``size``: how far a body goes that a thin stack of slices shows a part of.
        kinds: what each raw label is.
    """

    def __init__(self, canvas: Canvas, palette: Palette, recipe: Recipe, frame: Array, rng: Rng) -> None:
        self.canvas, self.palette, self.frame, self.rng = canvas, palette, frame, rng
        self.extent: Array = frame.T @ canvas.extent
        self.size = float(canvas.extent[1:].min())
        self.span: Array = np.maximum(self.extent, self.size)
        self.kinds: dict[int, str] = {}
        self.seen: set[int] = set()
        # Echoes come from close by: an ultrasound shows fewer and larger things.
        self.smallest_organ = 0.1 if palette.style == "US" else 0.06
        self._sharpness = log_uniform(rng, *recipe.sharpness) * min(2.0, max(1.0, self.size / 192))
        self._smallest = recipe.smallest
        self._taken: list[tuple[Array, float]] = []

    def name(self, kind: str) -> int:
        """Return a fresh raw label."""
        label = len(self.kinds) + 1
        self.kinds[label] = kind
        return label

    def place(self, radius: float, margin: float = 0.08) -> Array:
        """Return a centre that is far from the earlier ones: the best of a few tries."""
        low, high = [], []
        for extent in self.extent.tolist():
            if extent <= self.canvas.dz:  # one slice: whatever is drawn has to cross it
                ends = 0.5 * extent - 0.5 * radius, 0.5 * extent + 0.5 * radius
            elif extent < 4 * radius:
                ends = -0.3 * radius, extent + 0.3 * radius
            else:
                inset = margin * extent - 0.2 * radius
                ends = min(inset, extent - inset), max(inset, extent - inset)
            low.append(ends[0])
            high.append(ends[1])
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
        """Return how many pixels a border is wide."""
        return self._sharpness * log_uniform(self.rng, 0.6, 1.6)

    def find(self, shape: Shape, centre: Array) -> Found | None:
        """Return the box of a shape and f on it, or None where it is out of sight."""
        widest = max(_WIDEST, 1.6 * self._sharpness)
        return self.canvas.evaluate(shape.turned(self.frame), self.frame @ centre, _margin(widest))

    def stamp(
        self,
        found: Found,
        mean: float,
        label: int | None,
        *,
        inset: float = 0.0,
        texture: float | None = None,
        width: float | None = None,
        opacity: float = 1.0,
    ) -> None:
        """Paint what ``find`` gave, ``inset`` pixels inside its border; what is not said is drawn at random."""
        box, f = found
        self.canvas.stamp(
            box,
            f,
            mean=mean,
            texture=self.palette.amplitude(self.rng) if texture is None else texture,
            width=self.width() if width is None else width,
            opacity=opacity,
            inset=inset,
            label=label,
        )
        if label and label not in self.seen:
            thin = max(1, round((f.numel() / 4000) ** (1 / 3)))
            inside = f[::thin, ::thin, ::thin].cpu().numpy() > inset
            if np.count_nonzero(inside) * thin**3 >= self._smallest:
                self.seen.add(label)

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
        """Paint one homogeneous shape."""
        texture = self.palette.amplitude(self.rng) if texture is None else texture
        width = self.width() if width is None else width
        margin = _margin(width)
        pieces: list[Shape] = [shape.turned(self.frame)]
        centre = self.frame @ centre
        if isinstance(shape, Tube):
            pieces = list(self.canvas.bent(shape.turned(self.frame), centre).pieces())
        for piece in pieces:
            found = self.canvas.evaluate(piece, centre, margin)
            if found:
                self.stamp(found, mean, label, texture=texture, width=width)


def _margin(width: float) -> float:
    """Return how many pixels beyond f = 0 a border of this width is seen, and half a voxel."""
    return 0.5 * width + 0.5
