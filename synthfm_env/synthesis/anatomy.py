"""The shape-aware module: groups of organs, placed and painted on a canvas."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from synthfm_env.synthesis.canvas import Canvas
from synthfm_env.synthesis.palette import Palette
from synthfm_env.synthesis.shapes import Block, Loft, Rng, Shape, Star, Tube, log_uniform, rotation

Array = NDArray[np.float64]


class Anatomist:
    """Draws groups of structures on one canvas; ``kinds`` names what each raw label is."""

    def __init__(self, canvas: Canvas, palette: Palette, rng: Rng) -> None:
        self.canvas, self.palette, self.rng = canvas, palette, rng
        self.kinds: dict[int, str] = {}
        self.size = float(min(canvas.extent[1:]))
        self.sharpness = log_uniform(rng, 0.8, 3.0)
        self._taken: list[tuple[Array, float]] = []

    def name(self, kind: str) -> int:
        """Return a fresh raw label."""
        label = len(self.kinds) + 1
        self.kinds[label] = kind
        return label

    def place(self, radius: float, margin: float = 0.1) -> Array:
        """Return a centre that is far from the earlier ones, the best of a few tries."""
        low, high = (
            -0.3 * radius + margin * self.canvas.extent,
            self.canvas.extent * (1 - margin) + 0.3 * radius,
        )
        if self.canvas.extent[0] < 4 * radius:
            low[0], high[0] = -0.4 * radius, self.canvas.extent[0] + 0.4 * radius
        tries = self.rng.uniform(low, np.maximum(high, low + 1e-3), (6, 3))
        if self.canvas.shape[0] == 1:
            tries[:, 0] = self.canvas.extent[0] / 2 + self.rng.uniform(-0.5, 0.5, 6) * radius
        room = [min([float(np.linalg.norm(t - c)) - r for c, r in self._taken], default=0.0) for t in tries]
        best = tries[int(np.argmax(room))]
        self._taken.append((best, radius))
        return np.asarray(best)

    def width(self) -> float:
        """Return how many pixels a border is wide."""
        return self.sharpness * log_uniform(self.rng, 0.7, 1.6)

    def paint(self, shape: Shape, centre: Array, mean: float, label: int | None, **look: float) -> None:
        """Paint one homogeneous shape."""
        look = {"texture": self.palette.amplitude(self.rng), "width": self.width(), **look}
        for piece in self.canvas.bent(shape, centre).pieces() if isinstance(shape, Tube) else [shape]:
            found = self.canvas.evaluate(piece, centre)
            if found:
                self.canvas.stamp(*found, mean=mean, label=label, **look)

    def layered(
        self, shape: Shape, centre: Array, radius: float, kind: str, mean: float | None = None
    ) -> float:
        """Paint a shape that may have a wall, a core, see-through contents, or lesions inside; return its level."""
        rng, palette = self.rng, self.palette
        found = self.canvas.evaluate(shape, centre)
        level = palette.any(rng) if mean is None else mean
        if not found:
            return level
        box, f = found
        texture, width = palette.amplitude(rng), self.width()
        style = rng.choice(["plain", "capsule", "wall", "core", "mixed"], p=[0.5, 0.1, 0.15, 0.1, 0.15])
        if style == "plain":
            self.canvas.stamp(box, f, mean=level, texture=texture, width=width, label=self.name(kind))
            return level
        if style == "mixed":  # what lies behind shows through, so that the inside is anything but even
            label = self.name(kind)
            if rng.random() < 0.6:
                rim = palette.any(rng)
                self.canvas.stamp(box, f, mean=rim, texture=texture, width=width, label=label)
                f = f - rng.uniform(1.5, max(2.0, 0.12 * radius))
            self.canvas.stamp(box, f, mean=level, texture=texture * 2, width=width, label=label,
                              opacity=rng.uniform(0.3, 0.8))  # fmt: skip
            self._contents(centre, radius, label)
            return level
        thick = {
            "capsule": rng.uniform(1.0, 2.5),
            "wall": rng.uniform(0.12, 0.35) * radius,
            "core": rng.uniform(0.35, 0.6) * radius,
        }[str(style)]
        whole = rng.random() < 0.5
        outer = self.name(kind if whole else f"{kind} wall")
        inner = outer if whole else self.name(f"{kind} lumen")
        self.canvas.stamp(box, f, mean=palette.any(rng), texture=texture, width=width, label=outer)
        self.canvas.stamp(
            box, f - max(1.0, thick), mean=level, texture=palette.amplitude(rng), width=width, label=inner
        )
        return level

    def _contents(self, centre: Array, radius: float, label: int) -> None:
        for _ in range(int(self.rng.integers(0, 5))):
            at = centre + self.rng.normal(0, 0.3, 3) * radius
            small = Star.draw(self.rng, radius * self.rng.uniform(0.1, 0.35))
            self.paint(small, at, self.palette.any(self.rng), None if self.rng.random() < 0.7 else label)

    def lump(self, radius: float) -> Shape:
        """Return a star or a loft of about this radius."""
        if self.rng.random() < 0.5:
            return Star.draw(self.rng, radius, bumpy=self.rng.uniform(0.05, 0.5))
        return Loft.draw(self.rng, radius * 1.2)

    def organ(self) -> None:
        """One organ of any size, perhaps with lesions or vessels in it."""
        radius = self.size * log_uniform(self.rng, 0.05, 0.36)
        centre = self.place(radius)
        level = self.layered(self.lump(radius), centre, radius, "organ")
        if radius > 0.12 * self.size and self.rng.random() < 0.35:
            self.lesions(centre, radius, level)
        if radius > 0.15 * self.size and self.rng.random() < 0.4:
            self.vessels(centre, radius, level, named=self.rng.random() < 0.2)

    def pair(self) -> None:
        """The same organ twice, mirrored about a sagittal plane."""
        rng = self.rng
        radius = self.size * log_uniform(rng, 0.05, 0.2)
        middle = self.place(radius, 0.3)
        shift = np.array([0, rng.normal(0, 0.05), 0]) * self.size
        apart = np.array([0, 0, radius * rng.uniform(1.1, 2.5)])
        star = Star.draw(rng, radius, bumpy=rng.uniform(0.05, 0.4), elongation=2.2)
        flip = np.diag([1.0, 1.0, -1.0])
        twin = Star(star.axes, flip @ star.turn, star.waves, star.phases, star.gains)
        level, texture, width = self.palette.any(rng), self.palette.amplitude(rng), self.width()
        for shape, centre in ((star, middle - apart), (twin, middle + apart + shift)):
            self.paint(shape, centre, level, self.name("paired organ"), texture=texture, width=width)

    def lesions(self, centre: Array | None = None, spread: float = 0.0, level: float | None = None) -> None:
        """A few small round structures, down to three pixels across."""
        rng = self.rng
        if centre is None:
            spread = 0.3 * self.size
            centre = self.place(spread)
        mean = self.palette.soft(rng, level)
        biggest = max(2.0, min(0.08 * self.size, 0.5 * spread))
        for _ in range(int(rng.integers(1, 6))):
            radius = log_uniform(rng, 1.5, biggest)
            at = centre + rng.normal(0, 0.45, 3) * spread
            at[0] = np.clip(at[0], 0, self.canvas.extent[0])
            self.paint(Star.draw(rng, radius, 0.3, 1.5), at, mean, self.name("lesion"),
                       width=min(self.width(), 0.8 * radius))  # fmt: skip

    def vessels(self, centre: Array, radius: float, level: float | None, named: bool) -> None:
        """A tree: a trunk that forks, each branch thinner."""
        rng = self.rng
        mean, texture = self.palette.soft(rng, level), self.palette.amplitude(rng)
        start = centre + rng.normal(0, 0.6, 3) * radius
        heading = centre - start
        label = self.name("vessel") if named else None
        twigs = [
            (start, heading / (np.linalg.norm(heading) + 1e-6), max(1.2, radius * rng.uniform(0.04, 0.12)))
        ]
        for _ in range(int(rng.integers(2, 7))):
            at, way, thick = twigs.pop(0)
            length = radius * rng.uniform(0.5, 1.0)
            bend = rng.normal(0, 0.3, (2, 3)) * length
            control = np.stack(
                [at, at + way * length / 3 + bend[0], at + way * length * 2 / 3 + bend[1], at + way * length]
            )
            self.paint(Tube.along(control - at, (thick, max(0.8, thick * 0.7))), at, mean, label,
                       texture=texture, width=1.2)  # fmt: skip
            for _ in range(2):
                turned = way + rng.normal(0, 0.6, 3)
                twigs.append((control[-1], turned / np.linalg.norm(turned), max(0.8, thick * 0.7)))

    def tube(self) -> None:
        """A vessel or bowel: a long Bezier tube, solid or with wall and contents."""
        rng, extent = self.rng, self.canvas.extent
        radius = self.size * log_uniform(rng, 0.012, 0.07)
        count = int(rng.integers(3, 8))
        centre = self.place(radius, 0.2)
        control = rng.normal(0, 0.25, (count, 3)) * self.size
        control -= control.mean(0)
        if rng.random() < 0.5:  # along the body
            control[:, 0] += np.linspace(-0.6, 0.6, count) * extent[0]
        tube = Tube.along(control, (radius, radius * rng.uniform(0.6, 1.3)))
        label, level, width = self.name("tube"), self.palette.any(rng), self.width()
        wall = rng.random() < 0.4 and radius > 3
        if wall:
            self.paint(tube, centre, self.palette.soft(rng), label, width=width)
            lumen = label if rng.random() < 0.6 else self.name("tube lumen")
            inner = Tube(tube.path, tube.radii * rng.uniform(0.5, 0.8))
            self.paint(inner, centre, level, lumen, width=width)
        else:
            self.paint(tube, centre, level, label, width=width, texture=self.palette.amplitude(rng))

    def spine(self) -> None:
        """Vertebrae with discs, canal and cord, along z and gently curved."""
        rng, extent = self.rng, self.canvas.extent
        r = self.size * log_uniform(rng, 0.06, 0.18)
        pitch, disc = r * rng.uniform(1.2, 1.9), rng.uniform(0.15, 0.3)
        face = rng.uniform(-0.6, 0.6) + (math.pi if rng.random() < 0.5 else 0.0)
        back = np.array([0, math.cos(face), math.sin(face)])
        side = np.array([0, -math.sin(face), math.cos(face)])
        base = np.array([0, *(extent[1:] * rng.uniform(0.3, 0.7, 2))])
        bow, phase = rng.normal(0, 0.08, 2) * self.size, rng.uniform(0, 2 * math.pi)
        compact, marrow, cord = self.palette.bone(rng), self.palette.any(rng), self.palette.soft(rng)
        fluid, cartilage = self.palette.fluid(rng), self.palette.soft(rng)
        texture = self.palette.amplitude(rng) * 1.5
        turn = np.stack([np.array([1.0, 0, 0]), back, side], 1)

        def at(z: float) -> Array:
            arc = math.sin(z / max(extent[0], self.size) * math.pi + phase)
            return np.asarray(base + np.array([z, 0, 0]) + back * bow[0] * arc + side * bow[1] * arc)

        low = -rng.uniform(0, pitch)
        canal = 0.42 * r
        levels = [low + k * pitch for k in range(math.ceil((extent[0] - low) / pitch) + 1)][:14]
        for z in levels:
            half = pitch * (1 - disc) / 2
            self.paint(Block(np.array([pitch * disc * 0.6, r * 0.75, r * 0.95]), turn, 4.0, 0.0),
                       at(z + pitch / 2), cartilage, None, texture=texture)  # fmt: skip
            bone = self.name("vertebra")
            arch = at(z) + back * (0.75 * r + canal)
            spinous = np.stack(
                [arch + back * canal - at(z), arch + back * r * 1.5 - np.array([r * 0.3, 0, 0]) - at(z)]
            )
            self.paint(Tube.along(spinous, (0.2 * r, 0.15 * r)), at(z), compact, bone, texture=texture)
            for s in (-1, 1):
                process = np.stack([arch + side * s * canal - at(z), arch + side * s * r * 1.4 - at(z)])
                self.paint(Tube.along(process, (0.2 * r, 0.15 * r)), at(z), compact, bone, texture=texture)
            ring = Star(
                np.array([half * 0.8, canal * 1.35, canal * 1.35]),
                turn,
                np.zeros((3, 1)),
                np.zeros(1),
                np.zeros(1),
            )
            self.paint(ring, arch, compact, bone, texture=texture)
            body = Block(np.array([half, r * 0.75, r]), turn, rng.uniform(3, 6), rng.uniform(0, 0.25))
            found = self.canvas.evaluate(body, at(z))
            if found:
                box, f = found
                self.canvas.stamp(box, f, mean=compact, texture=texture, width=1.2, label=bone)
                self.canvas.stamp(
                    box, f - max(1.0, 0.1 * r), mean=marrow, texture=texture, width=1.5, label=bone
                )
        line = np.stack(
            [at(z) + back * (0.75 * r + canal) for z in np.linspace(-pitch, extent[0] + pitch, 7)]
        )
        mid = line.mean(0)
        for share, mean, kind in ((0.95, fluid, None), (0.6, cord, "spinal cord")):
            tube = Tube.along(line - mid, (canal * share, canal * share))
            self.paint(tube, mid, mean, self.name(kind) if kind else 0, width=1.2)

    def long_bone(self) -> None:
        """A shaft: compact ring around marrow, one structure."""
        rng, extent = self.rng, self.canvas.extent
        radius = self.size * log_uniform(rng, 0.03, 0.1)
        centre = self.place(radius, 0.15)
        tilt = rng.normal(0, 0.3, 2) * extent[0]
        control = np.stack(
            [[-0.7 * extent[0], *-tilt], [0, *rng.normal(0, 0.1, 2) * self.size], [0.7 * extent[0], *tilt]]
        )
        tube, label = Tube.along(control, (radius, radius * rng.uniform(0.7, 1.4))), self.name("bone")
        self.paint(tube, centre, self.palette.bone(rng), label, width=1.2)
        inner = Tube(tube.path, tube.radii * rng.uniform(0.4, 0.8))
        self.paint(inner, centre, self.palette.fat(rng), label, width=1.5)

    def ribs(self) -> None:
        """Curved thin bones around the middle, each a structure."""
        rng, extent = self.rng, self.canvas.extent
        middle = extent * rng.uniform(0.4, 0.6, 3)
        big = extent[1:] * rng.uniform(0.32, 0.46, 2)
        radius = self.size * rng.uniform(0.012, 0.025)
        compact, drop = self.palette.bone(rng), self.size * rng.uniform(0.1, 0.5)
        for k in range(int(rng.integers(3, 8))):
            a, span = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.6)
            angle = np.linspace(a, a + span, 4)
            z = rng.uniform(0, extent[0]) + drop * np.linspace(-0.5, 0.5, 4) * (-1) ** k
            control = np.stack([z - middle[0], big[0] * np.sin(angle), big[1] * np.cos(angle)], 1)
            self.paint(Tube.along(control, (radius, radius)), middle, compact, self.name("rib"), width=1.0)

    def cells(self) -> None:
        """Many round structures of one kind: nuclei, cysts, follicles."""
        rng = self.rng
        radius = self.size * log_uniform(rng, 0.02, 0.09)
        mean = self.palette.soft(rng)
        for _ in range(int(rng.integers(8, 28))):
            r = radius * log_uniform(rng, 0.7, 1.5)
            self.paint(Star.draw(rng, r, 0.15, 1.5), self.place(r, 0.0), self.palette.near(rng, mean, 0.05),
                       self.name("cell"))  # fmt: skip

    def chamber(self) -> None:
        """A muscle ring about one or two chambers, as in the heart; or a bright shell about uneven contents."""
        rng = self.rng
        radius = self.size * log_uniform(rng, 0.1, 0.38)
        centre = self.place(radius, 0.25)
        shape = Star.draw(rng, radius, 0.1, 1.5)
        found = self.canvas.evaluate(shape, centre)
        if not found:
            return
        box, f = found
        texture, width = self.palette.amplitude(rng), self.width()
        if rng.random() < 0.5:  # a shell: the whole is one structure
            label = self.name("shelled organ")
            shell = self.palette.bone(rng) if rng.random() < 0.7 else self.palette.any(rng)
            self.canvas.stamp(box, f, mean=shell, texture=texture, width=1.5, label=label)
            self.canvas.stamp(box, f - max(1.2, radius * rng.uniform(0.03, 0.12)), mean=self.palette.soft(rng),
                              texture=texture * 3, width=width, label=label, opacity=rng.uniform(0.4, 1.0))  # fmt: skip
            self._contents(centre, radius, label)
            return
        muscle, blood = self.palette.soft(rng), self.palette.any(rng)
        self.canvas.stamp(box, f, mean=muscle, texture=texture, width=width, label=self.name("muscle ring"))
        if rng.random() < 0.6:
            self.canvas.stamp(box, f - radius * rng.uniform(0.15, 0.35), mean=blood, texture=texture, width=width,
                              label=self.name("chamber"))  # fmt: skip
            return
        for _ in range(int(rng.integers(2, 5))):
            r = radius * rng.uniform(0.2, 0.42)
            at = centre + rotation(rng, 1.0) @ np.array([0.0, 0.5, 0.0]) * radius
            self.paint(
                Star.draw(rng, r, 0.2, 1.4),
                at,
                self.palette.near(rng, blood),
                self.name("chamber"),
                width=width,
            )

    def draw(self, count: int) -> None:
        """Draw groups, large before small, until about ``count`` structures are named."""
        rng = self.rng
        groups: list[tuple[Callable[[], None], float]] = [
            (self.organ, 0.0),
            (self.pair, 0.5),
            (self.chamber, 0.45),
            (self.long_bone, 0.25),
            (self.spine, 0.3),
            (self.ribs, 0.2),
            (self.tube, 0.8),
            (self.cells, 0.6 if self.palette.style == "other" else 0.05),
            (self.lesions, 0.5),
        ]
        for _ in range(int(rng.integers(2, 6))):
            self.organ()
        for group, chance in groups[1:]:
            if rng.random() < chance and len(self.kinds) < count + 4:
                group()
        for _ in range(12):
            if len(self.kinds) >= count:
                break
            (self.organ if rng.random() < 0.6 else self.tube if rng.random() < 0.5 else self.lesions)()
