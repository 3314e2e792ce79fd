"""Uses SAM and MedSAM slice by slice through Meta's package ``segment-anything`` (extra ``sam``)."""

import importlib.util
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import transform
from torch import Tensor, nn
from torch.nn import functional

from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Prompt
from synthfm_env.segmenters.base import Capabilities, Segmenter
from synthfm_env.segmenters.checkpoint_files import read_checkpoint
from synthfm_env.segmenters.extras import missing_extra
from synthfm_env.segmenters.image_input import prepare_image
from synthfm_env.segmenters.prompt_history import PromptHistorySession
from synthfm_env.segmenters.weights_file import fill

_ALIAS = "_segment_anything_without_torchvision"
_KEPT_SLICES = 128  # encoded slices that a session keeps: 4 MiB each at SAM's 1024 pixels


def load_segment_anything(name: str, checkpoint: Path, device: torch.device) -> "SegmentAnything":
    """Build SAM or MedSAM and fill it strictly.

    Args:
        name: ``"sam-vit-b"``, ``"sam-vit-l"``, ``"sam-vit-h"`` or ``"medsam-vit-b"``.
        checkpoint: the file as its authors publish it.
        device: where it runs.

    Raises:
        InputError: the extra ``sam`` is not installed, or the file is damaged or of another model.
    """
    registry = official_module("build_sam", name).sam_model_registry
    state = read_checkpoint(checkpoint)
    model = fill(registry[name[name.index("vit") :].replace("-", "_")](), state, checkpoint).to(device)
    return MedSam(name, model) if name.startswith("medsam") else SegmentAnything(name, model)


def official_module(name: str, what: str) -> ModuleType:
    """Import a module of ``segment-anything`` without the package's own ``__init__``.

    ``__init__`` also imports the mask generator, and with it torchvision. Nothing here needs torchvision, and its
    import fails if it does not fit the build of torch.

    Args:
        name: of the module, for example ``"build_sam"``.
        what: begins the message: the segmenter that needs it.

    Raises:
        InputError: the extra ``sam`` is not installed.
    """
    if _ALIAS not in sys.modules:
        spec = importlib.util.find_spec("segment_anything")
        if spec is None or spec.submodule_search_locations is None:
            raise InputError(missing_extra("segment_anything", "sam", what))
        package = ModuleType(_ALIAS)
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules[_ALIAS] = package
    return importlib.import_module(f"{_ALIAS}.{name}")


class SegmentAnything(Segmenter):
    """SAM (Kirillov et al., ICCV 2023), one slice at a time.

    **Slices without a prompt have no mask.** SAM sees one image; each slice with a positive click, or crossed by the
    box, is segmented from its own prompts, and every other slice is empty. So clicks of the papers' slice protocols
    (a prompt set a slice, given at once through ``Session.prompt``) segment a volume, and single 3D clicks segment
    the slices that they are on.

    On a slice the first click is ambiguous: SAM answers with three masks, and the one with the highest predicted
    quality counts. Further prompts are answered with one mask, with the slice's last logits as a mask prompt, as in
    SAM's own notebook. A box is taken as its rectangle on each slice that it crosses, the last pixel included.

    Args:
        name: the name for records.
        model: ``segment_anything.modeling.Sam`` in evaluation mode.
    """

    capabilities = Capabilities(boxes=True)

    def __init__(self, name: str, model: nn.Module) -> None:
        """Take a model."""
        self.name = name
        self.model: Any = model.eval()

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> "SliceSession":
        """Open a session; slices are encoded when they are first prompted. See ``Segmenter.start``."""
        return SliceSession(self, prepare_image(image, spacing))

    def check_kinds(self, prompt: Prompt) -> None:
        """Raise InputError for kinds of prompts that the model does not take beyond what ``capabilities`` say."""

    @torch.no_grad()
    def encode_slice(self, rgb: NDArray[np.uint8]) -> "EncodedSlice":
        """Return the features of a slice.

        The longer side is scaled to the model's square with Pillow's bilinear filter, as the package's predictor does
        through torchvision.

        Args:
            rgb: uint8 (H, W, 3).
        """
        height, width = rgb.shape[:2]
        scale = self.model.image_encoder.img_size / max(height, width)
        size = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        resized = np.array(Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BILINEAR))
        tensor = torch.from_numpy(resized).permute(2, 0, 1)[None].to(self._device)
        return EncodedSlice(self.model.image_encoder(self.model.preprocess(tensor)), (height, width), size)

    @torch.no_grad()
    def decode_slice(
        self, encoded: "EncodedSlice", prompt: "SlicePrompt", last: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return a slice's mask, bool (H, W), and its logits for the next prompt, float32 (1, 256, 256).

        Args:
            encoded: from ``encode_slice``.
            prompt: the slice's prompts in force.
            last: the logits of the slice's last answer, None without one.
        """
        scale = np.divide(encoded.input_size, encoded.original_size)[::-1]  # of x and y
        points = None
        if len(prompt.points):
            places = torch.from_numpy(prompt.points * scale).float()
            points = places[None].to(self._device), torch.from_numpy(prompt.labels)[None].to(self._device)
        box = None if prompt.box is None else torch.from_numpy(prompt.box * np.tile(scale, 2)).float()[None]
        sparse, dense = self.model.prompt_encoder(
            points=points,
            boxes=None if box is None else box.to(self._device),
            masks=None if last is None else torch.from_numpy(last)[None].to(self._device),
        )
        logits, quality = self.model.mask_decoder(
            image_embeddings=encoded.features,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=last is None and len(prompt.points) == 1 and box is None,
        )
        best = int(quality[0].argmax())
        full = self.model.postprocess_masks(logits[:, [best]], encoded.input_size, encoded.original_size)
        return (full[0, 0] > self.model.mask_threshold).cpu().numpy(), logits[0, [best]].cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return next(iter(self.model.parameters())).device


class MedSam(SegmentAnything):
    """MedSAM (Ma et al., Nature Communications 2024): SAM fine-tuned on medical images, for boxes alone.

    A slice is stretched to the model's square with cubic interpolation and scaled to 0..1, the box with it, as in the
    authors' ``MedSAM_Inference.py``. **It takes no clicks**: a session needs ``prompt(box=...)``.
    """

    capabilities = Capabilities(negative_clicks=False, boxes=True)

    def check_kinds(self, prompt: Prompt) -> None:
        """Refuse clicks and masks; see ``SegmentAnything.check_kinds``."""
        if prompt.clicks or prompt.mask is not None:
            raise InputError(
                f"{self.name} takes boxes alone, no clicks and no mask; give session.prompt(box=Box(start, stop))"
            )

    def encode_slice(self, rgb: NDArray[np.uint8]) -> "EncodedSlice":
        """Return the features of a slice; see ``SegmentAnything.encode_slice``."""
        height, width = rgb.shape[:2]
        side = self.model.image_encoder.img_size
        square = transform.resize(rgb, (side, side), order=3, preserve_range=True, anti_aliasing=True)
        square = square.astype(np.uint8).astype(np.float32)
        square = (square - square.min()) / max(float(np.ptp(square)), 1e-8)
        tensor = torch.from_numpy(square).permute(2, 0, 1)[None].to(self._device)
        with torch.no_grad():
            return EncodedSlice(self.model.image_encoder(tensor), (height, width), (side, side))

    def decode_slice(
        self, encoded: "EncodedSlice", prompt: "SlicePrompt", last: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return a slice's mask from its box; see ``SegmentAnything.decode_slice``."""
        assert prompt.box is not None, "the session refuses other prompts"
        (height, width), (side, _) = encoded.original_size, encoded.input_size
        box = torch.from_numpy(prompt.box / [width, height, width, height] * side).float()
        with torch.no_grad():
            sparse, dense = self.model.prompt_encoder(points=None, boxes=box[None].to(self._device), masks=None)
            logits, _ = self.model.mask_decoder(
                image_embeddings=encoded.features,
                image_pe=self.model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            chance = functional.interpolate(logits.sigmoid(), (height, width), mode="bilinear", align_corners=False)
        return (chance[0, 0] > 0.5).cpu().numpy(), logits[0].cpu().numpy()


@dataclass(frozen=True, slots=True, eq=False)
class EncodedSlice:
    """A slice's features, its size in pixels and its size as the model sees it, both (H, W)."""

    features: Tensor
    original_size: tuple[int, int]
    input_size: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class SlicePrompt:
    """The prompts on one slice: points float64 (n, 2) as (x, y), labels int64 (n,), box float64 (4,) or None."""

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    box: NDArray[np.float64] | None


class SliceSession(PromptHistorySession):
    """Segments each prompted slice on its own, and keeps the masks of the others."""

    def __init__(self, segmenter: SegmentAnything, image: NDArray[np.uint8]) -> None:
        """Encode nothing yet.

        Args:
            segmenter: shared by all sessions.
            image: uint8 (D, H, W) or (D, H, W, 3), as ``prepare_image`` returns it.
        """
        depth, height, width = image.shape[:3]
        super().__init__(segmenter.name, segmenter.capabilities, (depth, height, width))
        self._segmenter = segmenter
        self._image = image
        self._encoded: OrderedDict[int, EncodedSlice] = OrderedDict()
        # After each prompt, the logits of every slice that has been answered.
        self._logits: list[Mapping[int, NDArray[np.float32]]] = []

    def _answer(self, prompts: Prompt) -> NDArray[np.bool_]:
        last = dict(self._logits[-1]) if self._logits else {}
        mask = self._mask
        for z in self._touched(prompts):
            prompt = prompts_on_slice(prompts, z)
            if prompt.box is None and not prompt.labels.any():
                continue  # negative clicks alone do not locate the structure
            mask[z], last[z] = self._segmenter.decode_slice(self._encode(z), prompt, last.get(z))
        self._logits.append(last)
        return mask

    def _check(self, prompt: Prompt) -> None:
        self._segmenter.check_kinds(prompt)
        super()._check(prompt)

    def _touched(self, prompts: Prompt) -> list[int]:
        """Return the slices that the newest prompt changes."""
        known = self._prompts
        slices: set[int] = {click.zyx[0] for click in prompts.clicks[len(known.clicks) :]}
        if prompts.box is not None and prompts.box is not known.box:
            slices.update(_slices_of(prompts.box))
        return sorted(slices)

    def _encode(self, z: int) -> EncodedSlice:
        """Return a slice as the model encoded it; the slices used last are kept."""
        if z not in self._encoded:
            with self._encoding():
                grey_or_rgb = self._image[z]
                rgb = grey_or_rgb if grey_or_rgb.ndim == 3 else np.repeat(grey_or_rgb[..., np.newaxis], 3, axis=-1)
                self._encoded[z] = self._segmenter.encode_slice(rgb)
            if len(self._encoded) > _KEPT_SLICES:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(z)
        return self._encoded[z]

    def _take_back(self) -> None:
        self._logits.pop()

    def _forget(self) -> None:
        self._logits.clear()

    def _release(self) -> None:
        self._encoded.clear()
        self._logits.clear()


def prompts_on_slice(prompts: Prompt, z: int) -> SlicePrompt:
    """Return the clicks on a slice and the box's rectangle there, as SAM takes them: (x, y), last pixel included."""
    clicks = [click for click in prompts.clicks if click.zyx[0] == z]
    points = np.array([[click.zyx[2], click.zyx[1]] for click in clicks], dtype=np.float64).reshape(-1, 2)
    labels = np.array([int(click.positive) for click in clicks], dtype=np.int64)
    box = prompts.box
    rectangle = None
    if box is not None and z in _slices_of(box):
        rectangle = np.array([box.start[2], box.start[1], box.stop[2] - 1, box.stop[1] - 1], dtype=np.float64)
    return SlicePrompt(points, labels, rectangle)


def _slices_of(box: Box) -> range:
    return range(box.start[0], box.stop[0])
