"""Builds the segmenters and clickers of a suite, and describes them for ``run.json``."""

import inspect
import os
from typing import Any

from synthfm_agents import Clicker, make_clicker
from synthfm_agents.person import is_person
from synthfm_bench.results.provenance import answers_sha256, device_of, protocol_hash, weights_sha256
from synthfm_bench.suite import Choice
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.plugins import is_plugin
from synthfm_env.printable import printable
from synthfm_env.segmenters import Segmenter, list_segmenters, make_segmenter
from synthfm_env.segmenters.adapters import is_external
from synthfm_env.segmenters.geodesic import Geodesic

NO_PARAMETERS = ("geodesic",)
"""Segmenters that take no parameter of ``make_segmenter``."""


def build_segmenter(choice: Choice) -> Segmenter:
    """Build the segmenter of a suite.

    Raises:
        InputError: an unknown name, weights that cannot be loaded, or a parameter that it does not take.
        PluginError: code of the user's own failed.
    """
    known = list(inspect.signature(make_segmenter).parameters)[1:]
    for name in choice.params:
        if name not in known:
            raise unknown_name(f"parameter of segmenter {choice.label!r}", name, known)
    if choice.params and (choice.use in NO_PARAMETERS or is_plugin(choice.use)):
        raise InputError(f"segmenter {choice.label!r} takes no parameters, got {', '.join(choice.params)}; remove them")
    return make_segmenter(choice.use, **choice.params)


def build_clicker(choice: Choice, segmenter: Segmenter) -> Clicker:
    """Build the clicker of a suite; one that asks a segmenter asks the one that it plays with.

    Raises:
        InputError: an unknown name, or parameters that it does not take.
        PluginError: code of the user's own failed.
    """
    named = choice.params.get("segmenter")
    if named is not None and not (isinstance(named, str) and _is_segmenter(named)):
        raise unknown_name(f"segmenter of clicker {choice.label!r}", printable(named), list_segmenters())
    clicker = make_clicker(choice.use, **choice.params)
    asks = "segmenter" in inspect.signature(type(clicker)).parameters and "segmenter" not in choice.params
    return make_clicker(choice.use, **choice.params, segmenter=segmenter) if asks else clicker


def _is_segmenter(name: str) -> bool:
    return name in list_segmenters() or is_plugin(name) or os.path.isfile(name)


def describe_segmenter(choice: Choice, segmenter: Segmenter) -> dict[str, Any]:
    """Describe a segmenter: its arguments, the hash of its weights and its device.

    A segmenter without weights has the hash of its answers to fixed clicks in their place.
    """
    return {
        "use": choice.use,
        "params": choice.params,
        "weights_sha256": weights_sha256(segmenter) or answers_sha256(segmenter, choice.use),
        "device": device_of(segmenter),
    }


def describe_clicker(choice: Choice, clicker: Clicker) -> dict[str, Any]:
    """Describe a clicker: its arguments, its hash, and whether it sees the truth."""
    return {
        "use": choice.use,
        "params": choice.params,
        "protocol_hash": protocol_hash(_with_a_stand_in(choice, clicker), choice.use, choice.params),
        "oracle": bool(clicker.oracle),
    }


def _with_a_stand_in(choice: Choice, clicker: Clicker) -> Clicker:
    """Return the clicker to be hashed: it asks ``geodesic`` instead of the segmenters that its parameters do not name.

    Answers of a network differ from one machine to another.
    """
    asked = {"segmenter", "opinions"} & set(inspect.signature(type(clicker)).parameters)
    unnamed = {key: Geodesic() for key in sorted(asked) if key not in choice.params}
    return make_clicker(choice.use, **choice.params, **unnamed) if unnamed and not own_code(choice) else clicker


def own_code(choice: Choice) -> list[str]:
    """Return the code outside this package that a segmenter or clicker names.

    That is a class of the user's own, ``package.module:Class``, or a segmenter that starts a command or asks a server.
    """
    named = [name for name in (choice.use, *choice.params.values()) if isinstance(name, str)]
    return [name for name in named if is_external(name) or (is_plugin(name) and not is_person(name))]
