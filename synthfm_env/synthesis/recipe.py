"""Recipes: what a generator may draw, as validated data."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Style = Literal["CT", "MR", "US", "other"]
Range = tuple[float, float]


class Recipe(BaseModel):
    """What one generator draws. Every range is uniform or log-uniform as said; lengths are in pixels.

    Attributes:
        name: as recorded in a volume's metadata.
        styles: weight of each imaging style.
        shapes: draw organs, tubes, spines ... (the shape-aware module).
        clusters: draw SynthMorph clusters (the boundary-aware module).
        targets: how many structures a volume holds, at least and at most.
        thickness: slice thickness over pixel size, log-uniform.
        isotropic: probability that slices are as thick as pixels are wide.
        contrast: relative contrast of a structure to the background, log-uniform, either sign.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "custom"
    styles: dict[Style, Annotated[float, Field(ge=0)]] = {"CT": 1, "MR": 1, "US": 1, "other": 0.6}
    shapes: bool = True
    clusters: bool = True
    targets: tuple[int, int] = (9, 20)
    thickness: Range = (1.0, 8.0)
    isotropic: float = 0.4
    contrast: Range = (0.04, 0.9)


RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe(name="any"),
        Recipe(name="ct", styles={"CT": 1}),
        Recipe(name="mr", styles={"MR": 1}),
        Recipe(name="us", styles={"US": 1}),
        Recipe(name="other", styles={"other": 1}),
        Recipe(name="shape-only", clusters=False),
        Recipe(name="boundary-only", shapes=False),
        Recipe(name="both"),
        Recipe(name="synthfm2d", thickness=(1.0, 1.0), isotropic=1.0),
    )
}


def list_recipes() -> list[str]:
    """Return the names of the recipes that ship with the package."""
    return sorted(RECIPES)
