"""Weights of volume networks: the embedded ones, and files that ``synthfm train`` wrote."""

import os
from importlib.resources import files
from pathlib import Path

from safetensors import SafetensorError, safe_open

from synthfm_env.errors import InputError
from synthfm_env.segmenters.volume_network.network import NetworkArchitecture, VolumeNetwork
from synthfm_env.segmenters.weights_file import fill, read_safetensors

HEADER_KEY = "volume_network"  # of the architecture in a file's header
EMBEDDED = {"synthfm3d-unet": "synthfm3d-unet.safetensors", "synthfm2d-unet": "synthfm2d-unet.safetensors"}


def embedded_weights(name: str) -> Path:
    """Return the file of an embedded network."""
    return Path(str(files("synthfm_env") / "weights" / EMBEDDED[name]))


def holds_volume_network(path: Path) -> bool:
    """Return True if a file is readable and its header names the architecture of a volume network."""
    if path.suffix != ".safetensors" or not os.path.isfile(path):
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return HEADER_KEY in (file.metadata() or {})
    except SafetensorError:
        return False


def load_network(path: Path) -> VolumeNetwork:
    """Build the network of a weights file and fill it, strictly; float32, on the CPU.

    Raises:
        InputError: the file is missing or damaged, its header names no architecture, or its tensors do not fit.
    """
    if not os.path.isfile(path):
        raise InputError(f"weights {str(path)!r} do not exist; give a file that `synthfm train synthfm3d-unet` wrote")
    header, state = read_safetensors(path)
    try:
        architecture = NetworkArchitecture.from_json(header[HEADER_KEY])
        network = VolumeNetwork(architecture)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"weights {str(path)!r} name no architecture of a volume network: {error!r}") from None
    return fill(network, state, path).eval()
