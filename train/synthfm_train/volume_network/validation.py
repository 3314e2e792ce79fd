"""Validates the network: plays episodes on held-out synthetic volumes with it as the segmenter."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from synthfm_agents import make_clicker
from synthfm_env import Volume, VolumeEnv
from synthfm_env.envs.rendering import draw_frame
from synthfm_env.files import atomic_write
from synthfm_env.metrics import dice
from synthfm_env.plural import plural
from synthfm_env.prompts import Click
from synthfm_env.segmenters.volume_network.network import VolumeNetwork
from synthfm_env.segmenters.volume_network.segmenter import VolumeNetworkSegmenter
from synthfm_env.synthesis import SynthFM3D
from synthfm_env.volumes import to_uint8

_FIRST_SEED = 900_000_000_000  # training uses lower seeds
_CLICKS = 10
_SHOWN = (1, 3, 5, 10)  # clicks after which Dice is reported
_DRAWN, _PANEL = 4, 384  # cases in a picture; pixels along a panel's side


class _Case(NamedTuple):
    volume: Volume
    structure: int


class NetworkValidation:
    """Measures Dice with clicks of ``ritm-3d-v1`` on volumes that training never draws."""

    def __init__(self, generators: list[SynthFM3D], count: int, min_voxels: int, device: torch.device) -> None:
        self._device = device
        self._cases = list(_cases(generators, count, min_voxels))

    def run(self, network: VolumeNetwork, picture: Path) -> dict[str, float]:
        """Play all cases and draw the first ones.

        Args:
            network: to validate.
            picture: path of a ``.png``; it appears complete or not at all.

        Returns:
            Mean Dice ``val_dice1``, ``val_dice3``, ``val_dice5``, ``val_dice10``, and ``score``, their mean.
        """
        segmenter = VolumeNetworkSegmenter("validation", {network.architecture.dimensions: network}, self._device)
        curves: list[list[float]] = []
        panels: list[np.ndarray] = []
        for case in self._cases:
            curve, masks, clicks = _play(case, segmenter)
            curves.append(curve)
            if len(panels) < _DRAWN:
                panels.append(np.concatenate([_panel(case, masks[k], clicks[: k + 1]) for k in (0, 4, 9)], axis=1))
        network.train().requires_grad_(True)
        _save(np.concatenate(panels), picture)
        mean = np.mean(curves, axis=0)
        scores = {f"val_dice{count}": float(mean[count - 1]) for count in _SHOWN}
        return {**scores, "score": sum(scores.values()) / len(scores)}


def _cases(generators: list[SynthFM3D], count: int, min_voxels: int) -> Iterator[_Case]:
    seed = _FIRST_SEED
    while count:
        volume = generators[seed % len(generators)].sample(seed)
        assert volume.label is not None
        ids, sizes = np.unique(volume.label, return_counts=True)
        ids = ids[(ids > 0) & (sizes >= min_voxels)]
        if len(ids):
            yield _Case(volume, int(np.random.default_rng((seed, 0x7A1)).choice(ids)))
            count -= 1
        seed += 1


def _play(case: _Case, segmenter: VolumeNetworkSegmenter) -> tuple[list[float], list[np.ndarray], list[Click]]:
    env = VolumeEnv(image=case.volume, segmenter=segmenter, reveal_truth=True, max_clicks=_CLICKS)
    clicker = make_clicker("ritm-3d-v1")
    observation, info = env.reset(seed=0, options={"structure": case.structure})
    clicker.reset(0)
    curve, masks, clicks, ended = [], [], [], False
    while not ended:
        z, y, x, kind = (int(i) for i in clicker.act(observation, info))
        if kind < 2:
            clicks.append(Click((z, y, x), kind == 1))
        observation, _, terminated, truncated, info = env.step(np.array([z, y, x, kind]))
        ended = terminated or truncated
        curve.append(float(info["dice"]))
        masks.append(np.asarray(observation["mask"]) > 0)
    env.close()
    missing = _CLICKS - len(curve)
    return (curve + curve[-1:] * missing)[:_CLICKS], (masks + masks[-1:] * missing)[:_CLICKS], clicks


def _panel(case: _Case, mask: np.ndarray, clicks: list[Click]) -> np.ndarray:
    assert case.volume.label is not None
    truth = np.asarray(case.volume.label == case.structure)
    z = clicks[0].zyx[0]
    image = to_uint8(case.volume.image, case.volume.modality)[z][None]
    shown = [Click((0, *click.zyx[1:]), click.positive) for click in clicks if click.zyx[0] == z]
    caption = f"{plural(len(clicks), 'click')} {dice(mask, truth):.2f}"
    frame = draw_frame(image, mask[z][None], truth[z][None], shown, (1.0, 1.0, 1.0), caption)
    return np.array(Image.fromarray(frame).resize((_PANEL, _PANEL), Image.Resampling.LANCZOS))


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        Image.fromarray(pixels).save(file, format="PNG")
