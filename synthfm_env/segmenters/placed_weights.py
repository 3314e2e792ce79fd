"""Checkpoints that a user placed: in which folder they are looked for, and what to do about a missing one."""

import os
from dataclasses import dataclass
from pathlib import Path

from synthfm_env.errors import InputError


def weights_folder() -> Path:
    """Return where checkpoints that a user placed are looked for: ``$SYNTHFM_WEIGHTS``, or the cache folder."""
    chosen = os.environ.get("SYNTHFM_WEIGHTS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "synthfm_env"


@dataclass(frozen=True, slots=True)
class PlacedWeights:
    """A published checkpoint.

    Attributes:
        filename: as its authors name it.
        page: where they offer it.
        licence: of the weights.
    """

    filename: str
    page: str
    licence: str

    @property
    def path(self) -> Path:
        """Where it is looked for."""
        return weights_folder() / self.filename

    def find(self, chosen: str = "") -> Path:
        """Return the file, or the one that was chosen instead.

        Raises:
            InputError: it does not exist.
        """
        path = Path(chosen) if chosen else self.path
        if not path.is_file():
            raise InputError(
                f"weights {str(path)!r} do not exist: fetch {self.filename} from {self.page} and place it at "
                f"{self.path}, or give another file as NAME:PATH"
            )
        return path
