"""Chooses the crop of an image for a first click, by SAM 2's answers on crops of different sizes."""

from collections.abc import Callable

from synthfm_env.geometry import Crop
from synthfm_env.prompts import Click, Prompt
from synthfm_env.segmenters.first_crop import centrality, expected_dice, size_bonus
from synthfm_env.segmenters.focus import FocusPolicy, Shape
from synthfm_env.segmenters.sam2.multiview.view import MultiView, States


def scout(
    click: Click, shape: Shape, spacing: tuple[float, float, float], open_view: Callable[[Crop], MultiView]
) -> tuple[MultiView, States]:
    """Return a view of the crop whose answer to a first click is rated best (see ``first_crop``), and its answer.

    SAM 2's masks have a quarter of the resolution of its input, so a cell is too small for it in the whole image, and
    an organ too large in a crop of a cell's size.

    Args:
        click: positive.
        shape: (1, H, W) of the image.
        spacing: (z, y, x) in mm.
        open_view: makes a view of a crop.
    """

    def rating(answer: tuple[MultiView, States]) -> float:
        view, states = answer
        probability = view.logits(states).sigmoid().mean(0)
        central = centrality((probability > 0.5).numpy(), view.crop, click, spacing)
        return expected_dice(probability) * central + size_bonus(view.crop, shape)

    views = [open_view(crop) for crop in FocusPolicy().first_crops(click, shape, spacing)]
    best = max(((view, view.track(view.start, (Prompt((click,)),))) for view in views), key=rating)
    for view in views:
        if view is not best[0]:
            view.drop_features()
    return best
