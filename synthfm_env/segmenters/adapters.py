"""Lists segmenters by other authors by name, with the package, weights or server that each needs; imports no model."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from synthfm_env.arguments import is_number
from synthfm_env.errors import InputError
from synthfm_env.printable import shown
from synthfm_env.segmenters.base import Segmenter
from synthfm_env.segmenters.extras import missing_extra
from synthfm_env.segmenters.placed_weights import PlacedWeights

_SAM_PAGE = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
Build = Callable[[str, str, str, float | None], Segmenter]
"""Called with the name, the text after the colon, the device and the time limit of an answer in seconds."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A segmenter that a library, a server or another process computes.

    Attributes:
        description: one line.
        build: makes the segmenter.
        argument: name of the text after ``NAME:``, for example ``"COMMAND"``; empty if there is none.
        package: the module of the optional package that it needs; empty for none.
        extra: the extra of ``synthfm_env`` that installs the package.
        weights: the published checkpoint that it needs, or None.
        has_device: whether it runs in this process, so that a device may be chosen.
        has_time_limit: whether a command or a server answers, so that a time limit may be set.
    """

    description: str
    build: Build
    argument: str = ""
    package: str = ""
    extra: str = ""
    weights: PlacedWeights | None = None
    has_device: bool = False
    has_time_limit: bool = False

    def missing(self, name: str) -> str | None:
        """Return what is missing on this machine, as an instruction; None if it can be used.

        Example:
            >>> ADAPTERS["random-walker"].missing("random-walker") is None
            True
        """
        steps = []
        if self.package and find_spec(self.package) is None:
            steps.append(missing_extra(self.package, self.extra, name))
        if self.weights is not None and not self.weights.path.is_file():
            steps.append(f"fetch {self.weights.filename} from {self.weights.page} and place it at {self.weights.path}")
        return "; ".join(steps) or None


def find_adapter(text: str) -> tuple[str, str] | None:
    """Split ``NAME`` or ``NAME:ARGUMENT`` if the name is an adapter's; return None if it is not.

    Example:
        >>> find_adapter("bridge:python model.py")
        ('bridge', 'python model.py')
        >>> find_adapter("geodesic") is None
        True
    """
    name, _, argument = text.partition(":")
    return (name, argument) if name in ADAPTERS else None


def is_external(text: str) -> bool:
    """Tell whether a segmenter's name starts a command or contacts a server, so that the user must trust it.

    Example:
        >>> is_external("bridge:python model.py"), is_external("random-walker")
        (True, False)
    """
    adapter = find_adapter(text)
    return adapter is not None and ADAPTERS[adapter[0]].has_time_limit


def make_adapter(name: str, argument: str, device: str, time_limit_s: float | None) -> Segmenter:
    """Build the segmenter of an adapter.

    Raises:
        InputError: the argument is missing or superfluous, the device or the time limit does not apply, or as the
            segmenter itself raises.
    """
    adapter = ADAPTERS[name]
    if adapter.argument and not adapter.weights and not argument.strip():
        raise InputError(f"segmenter {name!r}: give {adapter.argument} after a colon, {name}:{adapter.argument}")
    if argument and not adapter.argument:
        raise InputError(f"segmenter '{name}:{argument}': {name!r} takes nothing after a colon")
    if not adapter.has_device:
        refuse_device(name, device)
    if time_limit_s is not None and not adapter.has_time_limit:
        raise InputError(
            f"make_segmenter(time_limit_s={shown(time_limit_s)}): {name!r} runs in this process, without one"
        )
    if time_limit_s is not None and not (is_number(time_limit_s) and 0 < time_limit_s < 1e6):
        raise InputError(f"make_segmenter(time_limit_s={shown(time_limit_s)}): expected seconds, more than 0")
    return adapter.build(name, argument, device, time_limit_s)


def refuse_device(name: str, device: str) -> None:
    """Raise InputError if another device than the CPU is chosen for a segmenter that runs on none."""
    if device not in ("auto", "cpu"):
        raise InputError(f"make_segmenter(device={shown(device)}): {name!r} runs on no device of this process")


def _random_walker(name: str, argument: str, device: str, time_limit_s: float | None) -> Segmenter:
    from synthfm_env.segmenters.random_walker import RandomWalker

    return RandomWalker()


def _segment_anything(name: str, argument: str, device: str, time_limit_s: float | None) -> Segmenter:
    from synthfm_env.segmenters.devices import pick_device
    from synthfm_env.segmenters.segment_anything import load_segment_anything

    weights = ADAPTERS[name].weights
    assert weights is not None, "SAM has weights"
    return load_segment_anything(name, weights.find(argument), pick_device(device))


def _sam_med3d(name: str, argument: str, device: str, time_limit_s: float | None) -> Segmenter:
    from synthfm_env.segmenters.devices import pick_device
    from synthfm_env.segmenters.sam_med3d import load_sam_med3d

    weights = ADAPTERS[name].weights
    assert weights is not None, "SAM-Med3D has weights"
    return load_sam_med3d(weights.find(argument), pick_device(device))


def _nninteractive(name: str, argument: str, device: str, time_limit_s: float | None) -> Segmenter:
    from synthfm_env.segmenters.nninteractive import NnInteractive

    return NnInteractive(argument, **_limit(time_limit_s))


def _cvpr25(name: str, argument: str, device: str, time_limit_s: float | None) -> Segmenter:
    from synthfm_env.segmenters.cvpr25 import Cvpr25Container

    return Cvpr25Container(argument, **_limit(time_limit_s))


def _bridge(name: str, argument: str, device: str, time_limit_s: float | None) -> Segmenter:
    from synthfm_env.segmenters.bridge import BridgeSegmenter

    return BridgeSegmenter(argument, **_limit(time_limit_s))


def _limit(time_limit_s: float | None) -> dict[str, Any]:
    return {} if time_limit_s is None else {"time_limit_s": time_limit_s}


def _sam(size: str, filename: str) -> Adapter:
    """Return the adapter of one size of Meta's SAM."""
    return Adapter(
        f"Meta's SAM, ViT-{size}, slice by slice: clicks and boxes",
        _segment_anything,
        argument="PATH",
        package="segment_anything",
        extra="sam",
        weights=PlacedWeights(filename, _SAM_PAGE, "Apache-2.0"),
        has_device=True,
    )


ADAPTERS: dict[str, Adapter] = {
    "random-walker": Adapter("classical: random walks from each voxel to the clicks", _random_walker),
    "sam-vit-b": _sam("B", "sam_vit_b_01ec64.pth"),
    "sam-vit-l": _sam("L", "sam_vit_l_0b3195.pth"),
    "sam-vit-h": _sam("H", "sam_vit_h_4b8939.pth"),
    "medsam-vit-b": Adapter(
        "MedSAM, slice by slice: boxes alone",
        _segment_anything,
        argument="PATH",
        package="segment_anything",
        extra="sam",
        weights=PlacedWeights("medsam_vit_b.pth", "https://github.com/bowang-lab/MedSAM", "Apache-2.0"),
        has_device=True,
    ),
    "sam-med3d-turbo": Adapter(
        "SAM-Med3D, a cube of 192 mm around the clicks",
        _sam_med3d,
        argument="PATH",
        package="medim",
        extra="sammed3d",
        weights=PlacedWeights("sam_med3d_turbo.pth", "https://huggingface.co/blueyo0/SAM-Med3D", "Apache-2.0"),
        has_device=True,
    ),
    "nninteractive": Adapter(
        "nninteractive:URL, a server that speaks nnInteractive's protocol, `synthfm serve` too",
        _nninteractive,
        argument="URL",
        package="nnInteractive",
        extra="nninteractive",
        has_time_limit=True,
    ),
    "cvpr25": Adapter(
        "cvpr25:COMMAND, an entry of the CVPR 2025 challenge: SAM-Med3D, VISTA3D, SegVol, nnInteractive ...",
        _cvpr25,
        argument="COMMAND",
        has_time_limit=True,
    ),
    "bridge": Adapter(
        "bridge:COMMAND, any model in another Python environment or another language",
        _bridge,
        argument="COMMAND",
        has_time_limit=True,
    ),
}
