"""Options that several commands share."""

from typing import Annotated

import typer

from synthfm_env.errors import unknown_name

NANO = "synthfm3d-nano"

Modality = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="CT, MR, US or other: how intensities are scaled; guessed by default"),
]

TrustPlugins = Annotated[
    bool,
    typer.Option(
        "--trust-plugins",
        help="import the classes and open the files that the run names; give it only for runs whose maker you trust",
    ),
]


def modality_named(given: str | None) -> str | None:
    """Return the modality of a name in any case, None for None; raises InputError for an unknown one."""
    from synthfm_env.volumes import MODALITIES

    if given is None:
        return None
    known = {name.lower(): name for name in MODALITIES}
    if given.lower() not in known:
        raise unknown_name("modality", given, MODALITIES)
    return known[given.lower()]
