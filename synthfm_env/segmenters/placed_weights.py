"""Finds checkpoints that a user downloaded, and explains where to place a missing one."""

import os
from dataclasses import dataclass
from pathlib import Path

from synthfm_env.errors import InputError


def weights_folder() -> Path:
    """Return the folder of downloaded checkpoints: ``$SYNTHFM_WEIGHTS``, or ``~/.cache/synthfm_env``."""
    chosen = os.environ.get("SYNTHFM_WEIGHTS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "synthfm_env"


@dataclass(frozen=True, slots=True)
class PlacedWeights:
    """A published checkpoint.

    Attributes:
        filename: the authors' file name.
        page: address of the authors' download page.
        licence: of the weights.
    """

    filename: str
    page: str
    licence: str

    @property
    def path(self) -> Path:
        """The file's path in ``weights_folder()``."""
        return weights_folder() / self.filename

    def find(self, chosen: str = "") -> Path:
        """Return the path of the file, or of another one that the user chose.

        Raises:
            InputError: the file does not exist.
        """
        path = Path(chosen) if chosen else self.path
        if not os.path.isfile(path):
            raise InputError(
                f"weights {str(path)!r} do not exist: fetch {self.filename} from {self.page} and place it at "
                f"{self.path}, or give another file as NAME:PATH"
            )
        return path
