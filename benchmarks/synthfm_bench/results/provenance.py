"""Collects versions, commit, weights and device of a run."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from synthfm_agents import Clicker, ClickProtocol
from synthfm_agents.behaviour import behaviour_hash, source_hash
from synthfm_env.plugins import is_plugin
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Segmenter

_PACKAGES = (
    "synthfm_env",
    "edt",
    "gymnasium",
    "nibabel",
    "nilearn",
    "numpy",
    "sam2",
    "scikit-image",
    "scipy",
    "torch",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of what results can depend on; absent packages are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit that this package runs from, with ``+`` if files differ; None outside git."""
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)  # a .venv inside another project is not ours
        return _git(here, "rev-parse", "HEAD") + ("+" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> dict[str, Any]:
    """Return what the timings depend on."""
    return {"platform": platform.platform(), "processor": platform.processor(), "cores": os.cpu_count()}


def weights_sha256(segmenter: Segmenter) -> str | None:
    """Return the SHA-256 of parameters and buffers of a model and the network beside it; None without a model."""
    model, network = getattr(segmenter, "model", None), getattr(segmenter, "network", None)
    if model is None:
        return None
    import torch  # here, because a segmenter without a model needs none of it

    digest = hashlib.sha256()
    beside = [] if network is None else sorted(network.model.state_dict().items())
    for name, tensor in (*sorted(model.state_dict().items()), *beside):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def protocol_hash(clicker: Clicker, name: str, params: Mapping[str, Any]) -> str:
    """Return a hash that changes with what a clicker does.

    A protocol of this package has its own. Another clicker gets one over name, parameters and its clicks on fixed error
    maps; a clicker of the user's own, which is not called here, over name, parameters and its source files.

    Args:
        clicker: one that asks a segmenter must ask the same one in all runs, or its hash tells them apart.
        name: as the suite has it.
        params: the same.
    """
    about = {"name": name, "params": dict(params)}
    if is_plugin(name):
        return source_hash(type(clicker), about)
    if isinstance(clicker, ClickProtocol):
        return clicker.protocol_hash
    return behaviour_hash(clicker, about)


def answers_sha256(segmenter: Segmenter, name: str) -> str:
    """Return the SHA-256 of what a segmenter without weights answers to fixed clicks on a small volume and an image.

    Of one of the user's own, which is not called here, it is that of its source files.
    """
    if is_plugin(name):
        return source_hash(type(segmenter), {"name": name})
    digest = hashlib.sha256(name.encode())
    takes = segmenter.capabilities
    for shape, played in (((6, 20, 24), takes.volumes), ((1, 28, 24), takes.images)):
        if not played:
            continue
        z, y, x = np.indices(shape)
        inside = (y - 11) ** 2 + (x - 10) ** 2 + 9 * (z - shape[0] // 2) ** 2 < 40
        image = (np.where(inside, 150, 60) + (7 * z + 13 * y + 29 * x) % 31).astype(np.uint8)
        clicks = [Click((shape[0] // 2, 11, 10)), Click((0, 2, 3), positive=False), Click((shape[0] // 2, 13, 14))]
        with segmenter.start(image, (2.5, 0.8, 0.8)) as session:
            for click in clicks if takes.negative_clicks else clicks[::2]:
                digest.update(session.add(click).mask.tobytes())
    return digest.hexdigest()


def hash_of_name(name: str, params: Mapping[str, Any]) -> str:
    """Return the SHA-256 over the name and the parameters of a clicker that is no protocol."""
    what = {"name": name, "params": dict(params)}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def device_of(segmenter: Segmenter) -> str:
    """Return the device of a segmenter's model, "cpu" for one without a model."""
    model = getattr(segmenter, "model", None)
    return "cpu" if model is None else str(next(model.parameters()).device)


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=10)
    return done.stdout.strip()
