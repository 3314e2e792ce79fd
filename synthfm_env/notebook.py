"""Shows an environment in a notebook, to be clicked by a person, with ipyniivue (extra ``notebook``)."""

import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.volumes.nifti import save_mask, save_volume
from synthfm_env.volumes.volume import Volume


class NotebookPlayer:
    """A viewer and buttons on an environment: move the crosshair, then mark its voxel as inside or outside.

    Args:
        env: an environment of this project with its own actions. It is reset first.
        seed: of the reset.
        options: of the reset.

    Raises:
        InputError: another environment, or the extra ``notebook`` is missing.

    Attributes:
        widget: the viewer with its buttons, which the notebook displays.
        view: the ``ipyniivue.NiiVue`` in it.
        crosshair: the voxel (z, y, x) that a button marks.
        mask: bool (D, H, W), the segmenter's mask.
        rewards: of the steps so far.
        ended: whether the episode has ended.
    """

    def __init__(
        self, env: gym.Env[Any, Any], *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> None:
        ipyniivue, widgets = _packages()
        if not isinstance(env.unwrapped, PromptEnv) or env.action_space != env.unwrapped.action_space:
            raise InputError("notebook.play: give an environment of synthfm_env with its own actions")
        self._env, self._inner = env, env.unwrapped
        self._folder = tempfile.TemporaryDirectory()  # the viewer reads files
        observation, info = env.reset(seed=seed, options=options)
        self._image: NDArray[np.uint8] = observation["image"]
        self.mask: NDArray[np.bool_] = observation["mask"].view(bool)
        self._spacing = tuple(float(mm) for mm in observation["spacing"])
        depth, height, width = self._image.shape
        self.crosshair = (depth // 2, height // 2, width // 2)
        self.rewards: list[float] = []
        self.ended = False
        self.view = ipyniivue.NiiVue(height=420)
        self.view.load_volumes([{"path": self._write_for_viewer(image=True), "name": "image.nii.gz"}])
        self.view.on_location_change(self._move_crosshair)
        self._text = widgets.HTML(f"<b>{info['structure']}</b>: move the crosshair into it")
        self._buttons = {name: widgets.Button(description=name) for name in ("inside", "outside", "undo", "finish")}
        self._buttons["inside"].on_click(lambda _: self.click(positive=True))
        self._buttons["outside"].on_click(lambda _: self.click(positive=False))
        self._buttons["undo"].on_click(lambda _: self.undo())
        self._buttons["finish"].on_click(lambda _: self.finish())
        self.widget = widgets.VBox([self._text, self.view, widgets.HBox(list(self._buttons.values()))])

    def click(self, *, positive: bool = True, zyx: tuple[int, int, int] | None = None) -> None:
        """Mark a voxel, by default the one under the crosshair."""
        self._show_step(self._env.step(click_action(Click(zyx or self.crosshair, positive))))

    def undo(self) -> None:
        """Take back the newest click. This counts as a click."""
        self._show_step(self._inner.undo())

    def finish(self) -> None:
        """End the episode."""
        self._show_step(self._env.step(stop_action()))

    def _show_step(self, step: tuple[Any, Any, bool, bool, dict[str, Any]]) -> None:
        observation, reward, terminated, truncated, info = step
        self.mask = observation["mask"].view(bool)
        self.rewards.append(float(reward))
        self.ended = terminated or truncated
        for button in self._buttons.values():
            button.disabled = self.ended
        used = f"{info['clicks_used']} of {self._inner.max_clicks} clicks"
        state = f"{used}, Dice {info['dice']:.3f}"
        self._text.value = (
            f"<b>{info['structure']}</b>: {state}, finished" if self.ended else f"<b>{info['structure']}</b>: {state}"
        )
        self.view.volumes = list(self.view.volumes)[:1]
        if self.mask.any():
            overlay = {
                "path": self._write_for_viewer(image=False),
                "name": "mask.nii.gz",
                "colormap": "red",
                "opacity": 0.5,
            }
            self.view.add_volume(overlay)

    def _move_crosshair(self, location: dict[str, Any]) -> None:
        # NiiVue counts (x, y, z); the file is written along the volume's own axes.
        x, y, z = (int(i) for i in location["vox"][:3])
        limits = [n - 1 for n in self._image.shape]
        z, y, x = np.clip((z, y, x), 0, limits).tolist()
        self.crosshair = (z, y, x)

    def _write_for_viewer(self, image: bool) -> str:
        """Write the image or the mask to a file that the viewer reads, and return its path."""
        volume = Volume(self._image.astype(np.float32), spacing=self._spacing)  # type: ignore[arg-type]
        path = Path(self._folder.name) / ("image.nii.gz" if image else f"mask{len(self.rewards)}.nii.gz")
        if image:
            save_volume(volume, path)
        else:
            save_mask(self.mask, volume, path)
        return str(path)


def play(env: gym.Env[Any, Any], *, seed: int | None = None, options: dict[str, Any] | None = None) -> NotebookPlayer:
    """Show an environment in a notebook, to be clicked by a person; display ``.widget`` of what is returned.

    Args:
        env: of this project.
        seed: of ``env.reset``.
        options: of ``env.reset``.

    Raises:
        InputError: another environment, or the extra ``notebook`` is missing.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> from synthfm_env import notebook
        >>> env = gym.make("SynthFM/Synthetic3D-v0", shape=[8, 32, 32], recipe="clear", segmenter="geodesic")
        >>> player = notebook.play(env, seed=0)
        >>> player.click(positive=True)
        >>> len(player.rewards)
        1
    """
    return NotebookPlayer(env, seed=seed, options=options)


def _packages() -> tuple[Any, Any]:
    try:
        import ipyniivue
        import ipywidgets
    except ImportError as error:
        raise InputError("notebook.play needs ipyniivue: pip install 'synthfm_env[notebook]'") from error
    return ipyniivue, ipywidgets
