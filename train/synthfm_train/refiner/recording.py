"""Records inputs of the refiner as files, from simulated episodes on synthetic volumes."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from synthfm_agents import make_clicker
from synthfm_env import Click, Volume, VolumeEnv
from synthfm_env.files import atomic_folder
from synthfm_env.segmenters.sam2 import FULL, Refiner, RefinerInput, SAM2Segmenter, load_refiner, load_weights
from synthfm_env.segmenters.sam2.multiview.click_prior import ClickPrior
from synthfm_env.segmenters.sam2.multiview.confidence import CERTAIN_LOGIT
from synthfm_train.data_worker import start_worker
from synthfm_train.refiner.recipe import RefinerRecipe

_STEPS = 127  # values from -1 to 1 are stored as integers from -127 to 127
# Seeds of volumes: apart for rounds, for recipes, and from those of other trainings.
_ROUND_STRIDE, _RECIPE_STRIDE, _FIRST = 10_000_000, 1_000_000_000, 600_000_000_000
_LEAST_VOXELS = 30  # smallest structure to click on


class RecordedInput(NamedTuple):
    """A recorded input of the refiner with its truth.

    Attributes:
        inputs: the input, of one crop after one click.
        truth: float32 (d, h, w), share of each voxel of the input's grid that the structure covers.
    """

    inputs: RefinerInput
    truth: Tensor


def save_input(path: Path, recorded: RecordedInput) -> None:
    """Write a recorded input with 8 bits for each value."""
    inputs = recorded.inputs
    clicks = [[*click.zyx, int(click.positive)] for click in inputs.clicks]
    np.savez(
        path,
        views=_packed(inputs.views / CERTAIN_LOGIT),
        evidence=_packed(torch.stack(inputs.prior)),
        grey=inputs.grey.round().byte().numpy(),
        truth=_packed(recorded.truth),
        clicks=np.array(clicks, dtype=np.int32),
        box=np.array([[side.start, side.stop] for side in inputs.crop]),
    )


def load_input(path: Path) -> RecordedInput:
    """Read what ``save_input`` wrote."""
    with np.load(path) as kept:
        values = {name: torch.from_numpy(kept[name]) for name in ("views", "evidence", "grey", "truth")}
        clicks, box = kept["clicks"].tolist(), kept["box"].tolist()
    views, prior, truth = (values[name].float() / _STEPS for name in ("views", "evidence", "truth"))
    z, y, x = (slice(*side) for side in box)
    placed = [Click((int(k), int(j), int(i)), bool(positive)) for k, j, i, positive in clicks]
    return RecordedInput(
        RefinerInput((z, y, x), views * CERTAIN_LOGIT, ClickPrior(*prior), values["grey"].float(), placed), truth
    )


def _packed(values: Tensor) -> NDArray[np.int8]:
    return (values * _STEPS).round().clamp(-_STEPS, _STEPS).to(torch.int8).numpy()


class _Recorder:
    """Stands in for the refiner of a segmenter and records all its inputs."""

    def __init__(self, refiner: Refiner | None) -> None:
        self._refiner = refiner
        self.inputs: list[RefinerInput] = []

    def refine(self, inputs: RefinerInput) -> Tensor:
        self.inputs.append(inputs)
        return inputs.logits if self._refiner is None else self._refiner.refine(inputs)


def play(
    volume: Volume,
    structure: int,
    segmenter: SAM2Segmenter,
    recorder: _Recorder,
    recipe: RefinerRecipe,
    clicker: str,
    seed: int,
) -> Iterator[RecordedInput]:
    """Play one episode and yield its recorded inputs, those of rejected crops too."""
    env = VolumeEnv(image=volume, segmenter=segmenter, reveal_truth=True, max_clicks=recipe.clicks)
    assert volume.label is not None
    truth = torch.from_numpy(volume.label == structure)
    rule = make_clicker(clicker)
    observation, info = env.reset(seed=seed, options={"structure": structure})
    rule.reset(seed)
    ended = False
    while not ended:
        observation, _, terminated, truncated, info = env.step(rule.act(observation, info))
        ended = terminated or truncated
        for inputs in recorder.inputs:
            part = truth[inputs.crop].float()[None, None]
            yield RecordedInput(inputs, F.interpolate(part, size=tuple(inputs.grey.shape), mode="area")[0, 0])
        recorder.inputs.clear()
    env.close()


class RecordedVolumes(Dataset[int]):
    """Dataset whose item i is recorded when it is read: it plays structures of volume i and writes a folder.

    The folder appears complete or not at all. If it exists, nothing is played. The item is the number i.
    """

    def __init__(self, recipe: RefinerRecipe, number: int, folder: Path, refiner: Path | None) -> None:
        """Choose a round.

        Args:
            recipe: of the training.
            number: of the round.
            folder: that gets a folder for each volume.
            refiner: weights to play with, None for no refiner.
        """
        self._recipe, self._number, self._folder, self._refiner = recipe, number, folder, refiner
        self._first = _FIRST + recipe.seed * _RECIPE_STRIDE + number * _ROUND_STRIDE
        self._generators = recipe.data.generators()
        self._engine: tuple[SAM2Segmenter, _Recorder] | None = None  # each worker makes its own

    def __len__(self) -> int:
        return self._recipe.rounds[self._number].volumes

    def __getitem__(self, index: int) -> int:
        target = self._folder / f"{index:06d}"
        if not target.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_folder(target) as folder:
                self._play_volume(self._first + index, folder)
        return index

    def _play_volume(self, seed: int, folder: Path) -> None:
        """Play structures of a volume, and keep a random share of the recorded inputs as files."""
        # Segmenter and refiner, once in each worker.
        if self._engine is None:
            recorder = _Recorder(None if self._refiner is None else load_refiner(self._refiner))
            model, device = load_weights(self._recipe.segmenter), torch.device("cpu")
            name = self._recipe.segmenter
            engine = SAM2Segmenter(name, model, device, options=FULL, refiner=recorder)
            self._engine = engine, recorder
        # Structures that are large enough, each with the next clicker.
        rng = np.random.default_rng((seed, 0xD2AF))
        volume = self._generators[seed % len(self._generators)].sample(seed)
        assert volume.label is not None
        ids, counts = np.unique(volume.label, return_counts=True)
        ids = ids[(ids > 0) & (counts >= _LEAST_VOXELS)]
        for number, structure in enumerate(rng.permutation(ids)[: self._recipe.structures]):
            clicker = self._recipe.clickers[(seed + number) % len(self._recipe.clickers)]
            played = play(volume, int(structure), *self._engine, self._recipe, clicker, seed)
            for k, recorded in enumerate(played):
                if rng.random() < self._recipe.keep:
                    save_input(folder / f"{int(structure):03d}-{k:03d}.npz", recorded)


def play_all(episodes: RecordedVolumes, workers: int) -> Iterator[int]:
    """Record all volumes of a round in worker processes; yield the number of each one when it is complete."""
    loader: DataLoader[int] = DataLoader(
        episodes, batch_size=None, num_workers=workers, prefetch_factor=1 if workers else None,
        worker_init_fn=start_worker,
    )  # fmt: skip
    yield from loader
