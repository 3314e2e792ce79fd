"""Writes the files of a training run, so that a kill cannot damage them."""

import errno
import json
from pathlib import Path
from typing import Any

from synthfm_env.errors import InputError
from synthfm_env.files import write_text
from synthfm_env.text_files import read_json_table
from synthfm_train.recipe_io import Strict


class RunFolder:
    """Paths of one training's files.

    Attributes:
        path: the run's folder.
        checkpoint: the state to resume from.
        weights: the moving average with the best validation score of the last phase.
        metrics: lines of JSON: the means of every 20 steps, and each validation.
        pictures: folder with a picture of each validation.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.weights = path / "weights.safetensors"
        self.metrics = path / "metrics.jsonl"
        self.pictures = path / "pictures"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {path}: cannot be made ({error.strerror}); name another folder") from None

    def write_recipe(self, recipe: Strict) -> list[str]:
        """Write ``recipe.json`` and return the top-level keys that differ from an earlier one."""
        target = self.path / "recipe.json"
        now = recipe.model_dump(mode="json")
        before = read_json_table(target, str(target)) if target.exists() else now
        try:
            write_text(target, json.dumps(now, indent=1))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise InputError(
                f"--out {self.path}: cannot be written to ({error.strerror}); name another folder"
            ) from None
        return [key for key in now if before.get(key, now[key]) != now[key]]

    def log(self, row: dict[str, Any]) -> None:
        """Append a line to the metrics."""
        rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rounded) + "\n")

    def forget_after(self, phase: int, step: int) -> None:
        """Drop lines of the metrics after a step, which a resumed run writes again, and a line cut short by a kill."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                place = (row["phase"], row["step"])
                if place <= (phase, step):
                    kept.append(line)
            except (ValueError, KeyError, TypeError):  # cut short by a kill, or no line of this log
                continue
        write_text(self.metrics, "".join(line + "\n" for line in kept))
