"""Writes and reads the weights of policies over candidates, and tells blind ones from oracles."""

from pathlib import Path
from typing import Final, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from synthfm_agents.candidates.network import CandidateNet
from synthfm_env.errors import InputError
from synthfm_env.printable import printable

Sight = Literal["blind", "oracle"]

_KEY: Final = "policy"  # of the file's metadata, whose value is the policy's sight


def save_policy(network: CandidateNet, path: Path, sight: Sight) -> None:
    """Write a policy's weights, with what its candidates come from: the mask, or the truth.

    Raises:
        OSError: the file cannot be written.
    """
    save_file(network.state_dict(), path, {_KEY: sight})


def load_policy(path: str | Path, sight: Sight) -> CandidateNet:
    """Return the policy in a weights file, without dropout. A file that does not tell its sight is taken for either.

    Args:
        path: of the file.
        sight: what the policy must be.

    Raises:
        InputError: the file is missing, holds no policy over candidates, or one of the other sight.

    Example:
        >>> from importlib.resources import files
        >>> packaged = files("synthfm_agents") / "candidates" / "oracle-bc-v1.safetensors"
        >>> load_policy(str(packaged), "oracle").training
        False
    """
    network = CandidateNet()
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            found = (file.metadata() or {}).get(_KEY, sight)
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = printable(error, 200)
        raise InputError(f"weights {path}: no policy over candidates can be read from it ({reason})") from None
    if found != sight:
        raise InputError(f"weights {path}: hold a policy of the kind {found!r}, expected {sight!r}")
    return network.eval()
