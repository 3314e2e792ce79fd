"""SynthFM-3D: labelled medical-looking volumes from analysis alone."""

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthfm_env.errors import InputError, unknown_name
from synthfm_env.synthesis.anatomy import Anatomist
from synthfm_env.synthesis.canvas import Canvas
from synthfm_env.synthesis.clusters import cluster_map, eroded
from synthfm_env.synthesis.fields import fractal_field
from synthfm_env.synthesis.palette import Palette
from synthfm_env.synthesis.recipe import RECIPES, Recipe
from synthfm_env.synthesis.shapes import Rng, Star, log_uniform
from synthfm_env.synthesis.styles import STYLES, fan
from synthfm_env.synthesis.tidy import tidy
from synthfm_env.volumes.volume import Volume

GENERATOR_VERSION = "0.1"
_REGION = 1000


@contextmanager
def _one_thread() -> Any:
    """Sums depend on how they are split, and small work is slower when it is: always run on one thread."""
    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before != 1:
            torch.set_num_threads(before)


class SynthFM3D:
    """The SynthFM-3D generator; the same object can draw any number of volumes.

    Args:
        shape: (D, H, W) of every volume; (1, H, W) draws 2D images as SynthFM does.
        recipe: a name from ``list_recipes()``, a ``Recipe``, or a dict of its fields.
        device: where to compute. Only ``cpu`` is reproducible to the byte.
    """

    def __init__(self, shape: Sequence[int] = (64, 128, 128), recipe: str | dict[str, Any] | Recipe = "any",
                 device: str = "cpu") -> None:  # fmt: skip
        self.shape = tuple(int(n) for n in shape)
        if len(self.shape) != 3 or min(self.shape) < 1 or min(self.shape[1:]) < 16:
            raise InputError(
                f"SynthFM3D(shape={tuple(shape)}): expected (D, H, W) with D >= 1 and H, W >= 16"
            )
        if isinstance(recipe, str):
            if recipe not in RECIPES:
                raise unknown_name("recipe", recipe, RECIPES)
            recipe = RECIPES[recipe]
        self.recipe = recipe if isinstance(recipe, Recipe) else Recipe(**recipe)
        self.device = torch.device(device)

    def sample(self, seed: int) -> Volume:
        """Return the volume of this seed: the same bytes for the same seed, recipe, shape and version on a CPU.

        Raises:
            InputError: the seed is negative.
        """
        if seed < 0:
            raise InputError(f"sample(seed={seed}): expected a seed of 0 or more")
        with torch.inference_mode(), _one_thread():
            return self._draw(int(seed))

    def _draw(self, seed: int) -> Volume:
        recipe, shape = self.recipe, self.shape
        rng = np.random.default_rng(seed)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(1 << 62)))
        names = sorted(recipe.styles)
        weights = np.array([recipe.styles[s] for s in names], float)
        style = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        ratio = 1.0 if rng.random() < recipe.isotropic else log_uniform(rng, *recipe.thickness)
        # Long bodies: what is drawn is stretched along z, so that thick slices still share structures.
        dz = ratio ** rng.uniform(0.3, 1.0)
        size = min(shape[1:])
        canvas = Canvas(shape, dz, size * log_uniform(rng, 0.005, 0.05), generator)
        palette = Palette.draw(rng, style, recipe.contrast)
        kinds = self._background(canvas, palette, rng, generator)
        people = Anatomist(canvas, palette, rng)
        count = int(rng.integers(recipe.targets[0], recipe.targets[1] + 1))
        body = self._body(canvas, palette, rng) if recipe.shapes else None
        if recipe.shapes:
            people.draw(max(4, count - 4) if recipe.clusters else count)
        kinds.update(people.kinds)
        if body is not None:
            self._clip(canvas, palette, body, rng)
        image = canvas.mean
        image += canvas.texture.mul_(self._texture(shape, dz, rng, generator))
        if style != "CT" and rng.random() < 0.25:
            image = image.neg_().add_(1).clamp_(min=0)
        image = STYLES[style](image, rng, generator, ratio, dz)
        if style == "US":
            view = fan(shape[1], shape[2], rng).to(self.device)
            image = image * view
            canvas.label.masked_fill_((view == 0).expand(*shape), 0)
        flip = rng.random(3) < (0.5, 0.5 if style != "US" else 0.0, 0.5)
        axes = [i for i in range(3) if flip[i]]
        label, structures = tidy(
            canvas.label.cpu().numpy(), kinds, recipe.targets[1], 12 if shape[0] > 1 else 6, 0.6
        )
        out = np.ascontiguousarray(np.flip(image.to(torch.float32).cpu().numpy(), axes))
        pixel = log_uniform(rng, 0.3, 2.0) if style != "US" else log_uniform(rng, 0.1, 0.6)
        return Volume(
            image=out,
            label=np.ascontiguousarray(np.flip(label, axes)),
            spacing=(round(pixel * ratio, 4), round(pixel, 4), round(pixel, 4)),
            modality=style,
            case_id=f"synthfm3d-{recipe.name}-{seed}",
            structures=structures,
            metadata={"generator": "SynthFM3D", "version": GENERATOR_VERSION, "seed": seed, "shape": list(shape),
                      "recipe": recipe.model_dump()},
        )  # fmt: skip

    def _texture(self, shape: Sequence[int], dz: float, rng: Rng, generator: torch.Generator) -> Tensor:
        sizes = [float(s) for s in np.exp(rng.uniform(np.log(1.5), np.log(24), int(rng.integers(2, 5))))]
        return fractal_field(shape, sizes, [log_uniform(rng, 0.3, 1) for _ in sizes], dz, generator)

    def _background(
        self, canvas: Canvas, palette: Palette, rng: Rng, generator: torch.Generator
    ) -> dict[int, str]:
        canvas.mean.fill_(palette.base)
        canvas.texture.fill_(palette.amplitude(rng))
        if not self.recipe.clusters or (self.recipe.shapes and rng.random() < 0.25):
            return {}
        count = int(rng.integers(10, 16))
        size = min(canvas.shape[1:]) * log_uniform(rng, 0.1, 0.45)
        clusters = cluster_map(canvas.shape, count, max(6.0, size), rng.uniform(0, 0.5), canvas.dz, generator)
        subset = rng.random(count) < rng.uniform(0.2, 1.0)
        steps = np.where(subset, rng.integers(1, 4, count), 0)
        gone = eroded(clusters, steps, across_slices=canvas.dz < 2.5)
        alike = rng.random() < 0.3  # neighbours that only the boundary tells apart
        one = palette.soft(rng)
        means = [palette.near(rng, one) if alike else palette.any(rng) for _ in range(count)]
        line = [palette.any(rng) for _ in range(count)] if rng.random() < 0.5 else [palette.any(rng)] * count
        table = torch.tensor(means + line, dtype=torch.float32, device=canvas.device)
        grain = torch.tensor(
            [palette.amplitude(rng) for _ in range(2 * count)], dtype=torch.float32, device=canvas.device
        )
        index = clusters.add_(gone.int(), alpha=count)
        canvas.mean = table[index]
        canvas.texture = grain[index]
        if self.recipe.shapes and rng.random() < 0.4:
            return {}
        labels = torch.zeros(2 * count, dtype=torch.int16)
        labels[:count] = torch.arange(_REGION, _REGION + count)
        canvas.label = labels.to(canvas.device)[index]
        return {_REGION + k: "region" for k in range(count)}

    def _body(self, canvas: Canvas, palette: Palette, rng: Rng) -> Tensor | None:
        if rng.random() > (0.65 if palette.style != "US" else 0.0):
            return None
        size = canvas.extent[1:]
        axes = np.array([1e3 * canvas.extent[0], *(size * rng.uniform(0.36, 0.62, 2))])
        count = int(rng.integers(2, 6))
        gains = rng.normal(0, 0.06, count)
        shape = Star(axes, np.eye(3), rng.normal(0, 1.5, (3, count)), rng.uniform(0, 6.3, count), gains)
        centre = canvas.extent * np.array([0.5, *rng.uniform(0.42, 0.58, 2)])
        counts = [min(n, c) for n, c in zip(canvas.shape, (12, 28, 28), strict=True)]
        box = (slice(0, canvas.shape[0]), slice(0, canvas.shape[1]), slice(0, canvas.shape[2]))
        p = canvas.points(box, counts, centre, True)
        q = p / torch.as_tensor(axes, dtype=torch.float32, device=canvas.device)
        rho = (q * q).sum(-1).sqrt() + 1e-4
        u = q / rho.unsqueeze(-1)
        f = torch.as_tensor(shape.waves, dtype=torch.float32, device=canvas.device)
        r = 1 + torch.cos(
            u @ f + torch.as_tensor(shape.phases, dtype=torch.float32, device=canvas.device)
        ) @ (torch.as_tensor(gains, dtype=torch.float32, device=canvas.device))
        from synthfm_env.synthesis.fields import cubic_matrix, expand

        mats = [cubic_matrix(n, c, str(canvas.device)) for n, c in zip(canvas.shape, counts, strict=True)]
        body = expand((r - rho) * float(np.sqrt(axes[1] * axes[2])), *mats)
        if rng.random() < 0.7:
            depth = min(size) * log_uniform(rng, 0.01, 0.12)
            self._shell(canvas, body, depth, palette.fat(rng), palette.amplitude(rng))
        return body

    @staticmethod
    def _shell(canvas: Canvas, body: Tensor, depth: float, mean: float, texture: float) -> None:
        ring = (depth - body).mul_(0.5).add_(0.5).clamp_(0, 1)
        canvas.mean.lerp_(torch.tensor(mean, dtype=torch.float32, device=canvas.device), ring)
        canvas.texture.lerp_(torch.tensor(texture, dtype=torch.float32, device=canvas.device), ring)
        canvas.label.masked_fill_(body < depth, 0)

    @staticmethod
    def _clip(canvas: Canvas, palette: Palette, body: Tensor, rng: Rng) -> None:
        outside = (-body).div_(log_uniform(rng, 1, 3)).add_(0.5).clamp_(0, 1)
        canvas.mean.lerp_(torch.tensor(palette.air, dtype=torch.float32, device=canvas.device), outside)
        canvas.texture.lerp_(torch.tensor(0.0, dtype=torch.float32, device=canvas.device), outside)
        canvas.label.masked_fill_(body < 0, 0)
