"""Shows an episode in a window while it is played."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError


class Window:
    """A matplotlib window with one picture. Without a display, it warns once and shows nothing.

    Args:
        seconds: how long each picture is shown before the episode goes on.

    Raises:
        InputError: matplotlib is not installed.
    """

    def __init__(self, seconds: float) -> None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise InputError(
                "render_mode 'human' needs matplotlib: pip install 'synthfm_env[plot]', or take 'rgb_array' or 'ansi'"
            ) from error
        self._pyplot: Any = pyplot
        self._seconds = seconds
        self._figure: Any = None
        self._picture: Any = None

    def show(self, frame: NDArray[np.uint8], title: str) -> None:
        """Show a picture, uint8 (h, w, 3); a window that the user closed opens again."""
        if self._figure is None or not self._pyplot.fignum_exists(self._figure.number):
            self._open(frame)
        self._picture.set_data(frame)
        self._figure.suptitle(title, fontsize="small")
        if self._on_screen:
            self._pyplot.pause(self._seconds)

    def close(self) -> None:
        """Close the window. May be called twice."""
        if self._figure is not None:
            self._pyplot.close(self._figure)
            self._figure = None

    @property
    def _on_screen(self) -> bool:
        return self._figure.canvas.required_interactive_framework is not None

    def _open(self, frame: NDArray[np.uint8]) -> None:
        first = self._figure is None
        height, width, _ = frame.shape
        self._figure = self._pyplot.figure(figsize=(width / 100, height / 100 + 0.4), dpi=100)
        axes = self._figure.add_axes((0, 0, 1, height / (height + 40)))
        axes.set_axis_off()
        self._picture = axes.imshow(frame)
        if first and not self._on_screen:
            gym.logger.warn(
                f"render_mode 'human' cannot show a window: matplotlib's backend {self._pyplot.get_backend()!r} has no "
                "display. Take render_mode='rgb_array', or set MPLBACKEND to a backend with windows"
            )
