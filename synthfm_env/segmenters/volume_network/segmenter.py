"""Makes the volume network a ``Segmenter``: many sessions, one network, one batch."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synthfm_env.errors import InputError
from synthfm_env.prompts import Click, Prompt
from synthfm_env.segmenters.base import Capabilities, Prediction, Segmenter, Session, check_batch
from synthfm_env.segmenters.cpu_arithmetic import bfloat16_autocast
from synthfm_env.segmenters.focus import FocusPolicy
from synthfm_env.segmenters.image_input import prepare_image
from synthfm_env.segmenters.volume_network.click_prior import click_prior
from synthfm_env.segmenters.volume_network.image_pyramid import ImagePyramid
from synthfm_env.segmenters.volume_network.network import VolumeNetwork
from synthfm_env.segmenters.volume_network.network_input import MAX_LOGIT, GridPrompt, geodesic_balances, network_input
from synthfm_env.segmenters.volume_network.session import Answer, Asking, Grids, Look, VolumeNetworkSession
from synthfm_env.segmenters.volume_network.weights import EMBEDDED, embedded_weights, load_network

# A tight crop: on so few voxels, a wide margin would cost more at the border than it shows of the surroundings.
VOLUME = Grids(scout=(24, 24, 24), full=(40, 40, 40), policy=FocusPolicy(margin=0.15))
FLAT_VOLUME = Grids(scout=(8, 32, 32), full=(8, 56, 56), policy=FocusPolicy())  # for fewer slices than FLAT_SLICES
IMAGE = Grids(scout=(1, 96, 96), full=(1, 96, 96), policy=FocusPolicy(), centred=True)
FLAT_SLICES = 8
_BATCH = 32  # looks in one forward pass, at most


class VolumeNetworkSegmenter(Segmenter):
    """A U-Net that takes clicks as input channels.

    Volumes are answered by the network of three dimensions, single slices by the one of two.

    Attributes:
        name: as it was asked for.
        model: the networks.
        capabilities: images only, if there is no network of three dimensions.
    """

    def __init__(self, name: str, networks: Mapping[int, VolumeNetwork], device: torch.device) -> None:
        """Take trained networks by the number of their dimensions, and where they run."""
        self.name, self.device = name, device
        self.model = nn.ModuleDict({str(dimensions): network for dimensions, network in networks.items()})
        self.model.eval().requires_grad_(False).to(device)
        self.capabilities = Capabilities(volumes=3 in networks, images=2 in networks, initial_mask=True)

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> VolumeNetworkSession:
        """Open a session, paying for the image's pyramid; see ``Segmenter.start``."""
        started = time.perf_counter()
        grey = prepare_image(image, spacing)
        if grey.shape[0] == 1 and not self.capabilities.images:
            raise InputError(f"{self.name} takes volumes, and the image has one slice; take 'synthfm2d-unet'")
        if grey.shape[0] > 1 and not self.capabilities.volumes:
            raise InputError(
                f"{self.name} takes images, and this volume has {grey.shape[0]} slices; take 'synthfm3d-unet'"
            )
        pyramid = ImagePyramid(grey)
        grids = IMAGE if grey.shape[0] == 1 else FLAT_VOLUME if grey.shape[0] < FLAT_SLICES else VOLUME
        return VolumeNetworkSession(self, pyramid, spacing, grids, time.perf_counter() - started)

    def add_many(self, sessions: Sequence[Session], clicks: Sequence[Click]) -> list[Prediction]:
        """Give each session one more click, all looks of a round in one batch; see ``Segmenter.add_many``."""
        check_batch(self, sessions, clicks)
        ours = cast(Sequence[VolumeNetworkSession], sessions)
        return self.answer(ours, [Prompt((click,)) for click in clicks])

    def answer(self, sessions: Sequence[VolumeNetworkSession], prompts: Sequence[Prompt]) -> list[Prediction]:
        """Answer one prompt for each session, all looks of a round in one batch."""
        started = time.perf_counter()
        answers = self.answers(sessions, prompts)
        return [session.keep(answer, started) for session, answer in zip(sessions, answers, strict=True)]

    def answers(self, sessions: Sequence[VolumeNetworkSession], prompts: Sequence[Prompt]) -> list[Answer]:
        """Return the answers on the network's grid alone; the sessions do not keep them."""
        for session, prompt in zip(sessions, prompts, strict=True):
            session.check(prompt)
        return self._answer([session.ask(prompt) for session, prompt in zip(sessions, prompts, strict=True)])

    @torch.inference_mode()
    def _answer(self, asking: list[Asking]) -> list[Answer]:
        """Run generators of looks side by side: each round answers the looks that all of them wait for."""
        done: dict[int, Answer] = {}
        waiting: dict[int, list[Look]] = {}
        replies: dict[int, Any] = dict.fromkeys(range(len(asking)))
        while replies:
            waiting.clear()
            for index, reply in replies.items():
                try:
                    waiting[index] = asking[index].send(reply)
                except StopIteration as stop:
                    done[index] = stop.value
            looks = [look for wanted in waiting.values() for look in wanted]
            answered = iter(self._run(looks))
            replies = {index: [next(answered) for _ in wanted] for index, wanted in waiting.items()}
        return [done[index] for index in range(len(asking))]

    def _run(self, looks: Sequence[Look]) -> list[tuple[Tensor, float]]:
        """Return logits and predicted Dice of each look; looks of a kind on one grid share a forward pass."""
        results: dict[int, tuple[Tensor, float]] = {}
        alike: dict[tuple[bool, tuple[int, ...]], list[int]] = {}
        for index, look in enumerate(looks):
            alike.setdefault((look.geodesic, tuple(look.prompt.image.shape)), []).append(index)
        for (geodesic, _), indices in alike.items():
            for first in range(0, len(indices), _BATCH):
                part = indices[first : first + _BATCH]
                prompts = [looks[index].prompt.to(self.device) for index in part]
                logits, qualities = self._geodesic(prompts) if geodesic else self._network(prompts)
                results |= zip(part, zip(logits.cpu(), qualities, strict=True), strict=True)
        return [results[index] for index in range(len(looks))]

    def _network(self, prompts: Sequence[GridPrompt]) -> tuple[Tensor, list[float]]:
        """Return the network's logits (B, d, h, w), and its prediction of their Dice."""
        given = network_input(prompts)
        with bfloat16_autocast(self.device):
            output = self.model["2" if given.fine.shape[2] == 1 else "3"](given)
        # The prior decides where the network is not sure; it cannot outvote a sure one.
        return output.logits.clamp(-MAX_LOGIT, MAX_LOGIT) + click_prior(given), output.quality.tolist()

    def _geodesic(self, prompts: Sequence[GridPrompt]) -> tuple[Tensor, list[float]]:
        """Return balances of geodesic distances (B, d, h, w); their Dice is not predicted."""
        return geodesic_balances(prompts), [0.0] * len(prompts)


def load_volume_network(name_or_path: str, device: torch.device) -> VolumeNetworkSegmenter:
    """Build the segmenter of an embedded network or of a file that ``synthfm train`` wrote.

    ``synthfm3d-unet`` answers single slices by ``synthfm2d-unet``. A file serves volumes or images, as it was trained.

    Raises:
        InputError: the file is missing or damaged, or does not hold a volume network.
    """
    paths = [embedded_weights(name_or_path)] if name_or_path in EMBEDDED else [Path(name_or_path)]
    if name_or_path == "synthfm3d-unet":
        paths.append(embedded_weights("synthfm2d-unet"))
    networks = [load_network(path) for path in paths]
    return VolumeNetworkSegmenter(name_or_path, {each.architecture.dimensions: each for each in networks}, device)
