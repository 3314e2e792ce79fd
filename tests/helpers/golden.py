"""Computes the golden hashes. Run as a script, it adds this kind of machine to the file.

After GENERATOR_VERSION was raised, it starts the file anew: hashes of an earlier version cannot hold.
"""

import hashlib
import json
from pathlib import Path

from machine_kind import machine_kind

from synthfm_env.synthesis import GENERATOR_VERSION, SynthFM3D, list_recipes
from synthfm_env.volumes import Volume

FILE = Path(__file__).parents[1] / "synthesis" / "golden.json"
SHAPES = ((8, 48, 48), (1, 64, 80))
SEEDS = (0, 1, 2, 9)  # "any" draws no clusters for seed 9: else its hash would be that of "both"


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


def record() -> None:
    """Write the hashes of this kind of machine beside those of others."""
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    others = golden["machines"] if golden["version"] == GENERATOR_VERSION else []
    machines = [entry for entry in others if entry["machine"] != machine_kind()]
    machines.append({"machine": machine_kind(), "hashes": hashes()})
    FILE.write_text(json.dumps({"version": GENERATOR_VERSION, "machines": machines}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
