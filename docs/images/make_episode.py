"""Draw the README's animation: one episode on a synthetic trunk, click by click.

``python docs/images/make_episode.py`` writes ``docs/images/episode.webp`` and prints the Dice after each click. Each
click takes two frames: the click on the mask before it, then the mask that follows. The three planes run through the
newest click; mask and Dice are orange, the truth is a blue contour.
"""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from synthfm_agents import make_clicker
from synthfm_env import SynthFM3D

TARGET = Path(__file__).with_name("episode.webp")
SHAPE = (112, 144, 144)
SEED = 13
STRUCTURE = "organ 4"
CLICKS = 8
TRUNK = {
    "extends": "ct",
    "name": "trunk",
    "clusters": 0.0,
    "body": 1.0,
    "oblique": 0.0,
    "isotropic": 1.0,
    "noise": [0.3, 0.5],
    "sharpness": [0.7, 1.2],
    "targets": [12, 20],
    "groups": {
        **{"organ": 1.0, "pair": 1.0, "spine": 1.0, "ribs": 0.7, "vessels": 0.6},
        **{"bowel": 0.5, "tube": 0.5, "chamber": 0.3, "lesions": 0.4},
    },
}

SIDE = 360
GAP = 8
MASK = np.array((255, 150, 30))
TRUTH = (70, 200, 255)
POSITIVE = (40, 170, 80)
NEGATIVE = (215, 50, 50)
WHITE = (255, 255, 255)
GREY = (110, 110, 110)
NAMES = ("axial", "coronal", "sagittal")
FONT = ImageFont.load_default(size=17)
MILLISECONDS = {"click": 700, "mask": 1100, "last": 3500}

Clicks = NDArray[np.integer]
"""Rows z, y, x, positive; the newest last."""


def main() -> None:
    """Play the episode and write the animation."""
    volume = SynthFM3D(shape=SHAPE, recipe=TRUNK).sample(SEED)
    env = gym.make("synthfm_env:SynthFM/Volume-v0", image=volume, reveal_truth=True, max_clicks=CLICKS)
    clicker = make_clicker("ritm-3d-v1")
    clicker.reset(SEED)
    observation, info = env.reset(seed=SEED, options={"structure": STRUCTURE})
    frames, durations, curve, ended = [], [], [0.0], False
    while not ended:
        before = observation["mask"]
        observation, _, terminated, truncated, info = env.step(clicker.act(observation, info))
        ended = terminated or truncated
        clicks = observation["clicks"][: info["clicks_used"]]
        frames.append(frame(observation["image"], before, info["truth"], clicks, curve))
        curve.append(float(info["dice"]))
        frames.append(frame(observation["image"], observation["mask"], info["truth"], clicks, curve))
        durations += [MILLISECONDS["click"], MILLISECONDS["last" if ended else "mask"]]
    frames[0].save(TARGET, save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80, method=6)
    print(f"{TARGET}: {TARGET.stat().st_size / 2**20:.2f} MiB, Dice", *(f"{value:.3f}" for value in curve[1:]))


def frame(
    image: NDArray[Any], mask: NDArray[Any], truth: NDArray[Any], clicks: Clicks, curve: list[float]
) -> Image.Image:
    """Draw the three planes through the newest click and the Dice curve as a square of four panels."""
    canvas = Image.new("RGB", (2 * SIDE + GAP, 2 * SIDE + GAP), WHITE)
    for axis in range(3):
        panel = plane(axis, int(clicks[-1][axis]), image, mask > 0, truth, clicks)
        canvas.paste(panel, ((axis % 2) * (SIDE + GAP), (axis // 2) * (SIDE + GAP)))
    canvas.paste(chart(curve), (SIDE + GAP, SIDE + GAP))
    return canvas


def plane(
    axis: int, index: int, image: NDArray[Any], mask: NDArray[Any], truth: NDArray[Any], clicks: Clicks
) -> Image.Image:
    """Draw one plane with mask, truth and the clicks in it; z points upwards."""
    rows, columns = (a for a in range(3) if a != axis)
    flip = -1 if axis > 0 else 1
    scale = SIDE / max(image.shape)
    size = (round(image.shape[columns] * scale), round(image.shape[rows] * scale))

    def scaled(volume: NDArray[Any], resample: Image.Resampling) -> NDArray[np.uint8]:
        return np.array(Image.fromarray(volume.take(index, axis)[::flip].astype(np.uint8)).resize(size, resample))

    # Contours of enlarged masks: smooth the steps of the voxels before the threshold.
    grey = np.repeat(scaled(image, Image.Resampling.BICUBIC)[..., None], 3, axis=2).astype(float)
    inside = scaled(mask * 255, Image.Resampling.BICUBIC) > 127
    true = scaled(truth * 255, Image.Resampling.BICUBIC) > 127
    grey[inside] = 0.62 * grey[inside] + 0.38 * MASK
    grey[rim(inside, 2)] = MASK
    grey[rim(true, 1)] = TRUTH

    panel = Image.new("RGB", (SIDE, SIDE))
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    panel.paste(Image.fromarray(grey.astype(np.uint8)), (left, top))
    draw = ImageDraw.Draw(panel)
    for number, click in enumerate(clicks, 1):
        if click[axis] == index:
            row = click[rows] if flip > 0 else image.shape[rows] - 1 - click[rows]
            cross(
                draw, left + (click[columns] + 0.5) * scale, top + (row + 0.5) * scale, click[3], number == len(clicks)
            )
    draw.text((8, 6), NAMES[axis], font=FONT, fill=WHITE)
    return panel


def rim(region: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Return the pixels of a region within ``width`` pixels of its edge, along rows and columns."""
    core = region.copy()
    for step in range(1, width + 1):
        for axis in (0, 1):
            core &= np.roll(region, step, axis) & np.roll(region, -step, axis)
    return region & ~core


def cross(draw: ImageDraw.ImageDraw, x: float, y: float, positive: int, newest: bool) -> None:
    """Draw a click as a disc with a plus or a minus, larger if it is the newest."""
    radius = 12 if newest else 8
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), POSITIVE if positive else NEGATIVE, WHITE, 2)
    arm = radius / 2
    draw.line((x - arm, y, x + arm, y), WHITE, 2)
    if positive:
        draw.line((x, y - arm, x, y + arm), WHITE, 2)


def chart(curve: list[float]) -> Image.Image:
    """Draw Dice against clicks, from 0 to 1 and from 0 to ``CLICKS``."""
    panel = Image.new("RGB", (SIDE, SIDE), WHITE)
    draw = ImageDraw.Draw(panel)
    left, right, top, bottom = 46, SIDE - 16, 44, SIDE - 46

    def at(click: int, dice: float) -> tuple[float, float]:
        return left + (right - left) * click / CLICKS, bottom - (bottom - top) * dice

    for dice in (0.0, 0.25, 0.5, 0.75, 1.0):
        draw.line((*at(0, dice), *at(CLICKS, dice)), (225, 225, 225))
        draw.text((left - 8, at(0, dice)[1]), f"{dice:g}", GREY, FONT, anchor="rm")
    for click in range(0, CLICKS + 1, 2):
        draw.text((at(click, 0)[0], bottom + 8), str(click), GREY, FONT, anchor="mt")
    draw.text(((left + right) / 2, SIDE - 8), "clicks", GREY, FONT, anchor="mb")
    points = [at(click, dice) for click, dice in enumerate(curve)]
    colour = tuple(int(value) for value in MASK)
    if len(points) > 1:
        draw.line([xy for point in points for xy in point], colour, 4, joint="curve")
    for x, y in points[1:]:
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), colour)
    draw.text((left, 10), f"Dice {curve[-1]:.2f}", (40, 40, 40), ImageFont.load_default(size=22))
    return panel


if __name__ == "__main__":
    main()
