"""Computes the golden hashes; run as a script it writes them again, after GENERATOR_VERSION was raised."""

import hashlib
import json
from pathlib import Path

import torch

from synthfm_env.synthesis import GENERATOR_VERSION, SynthFM3D, list_recipes
from synthfm_env.volumes import Volume

FILE = Path(__file__).parents[1] / "synthesis" / "golden.json"
SHAPES = ((8, 48, 48), (1, 64, 80))
SEEDS = (0, 1, 2, 9)  # "any" draws no clusters for seed 9: else its hash would be that of "both"


def machine() -> dict[str, str]:
    """Return what the bytes of floating point sums depend on."""
    return {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "blas": _blas()}


def _blas() -> str:
    return "mkl" if torch.backends.mkl.is_available() else "other"


def digest(volume: Volume) -> str:
    """Return a hash of everything that is drawn."""
    text = json.dumps([volume.modality, volume.spacing, volume.structures], sort_keys=True)
    whole = hashlib.sha256(volume.image.tobytes())
    whole.update(volume.label.tobytes())
    whole.update(text.encode())
    return whole.hexdigest()[:16]


def hashes() -> dict[str, str]:
    """Return one hash for each recipe, over all shapes and seeds."""
    found = {}
    for recipe in list_recipes():
        makers = [SynthFM3D(shape, recipe) for shape in SHAPES]
        parts = [digest(maker.sample(seed)) for maker in makers for seed in SEEDS]
        found[recipe] = hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
    return found


if __name__ == "__main__":
    FILE.write_text(
        json.dumps({"version": GENERATOR_VERSION, "machine": machine(), "hashes": hashes()}, indent=2) + "\n"
    )
