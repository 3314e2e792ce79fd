"""Builds clickers from their names."""

import inspect
from functools import partial
from typing import Any

from synthfm_agents.base import Clicker
from synthfm_agents.blind.centre import CentreClicker
from synthfm_agents.blind.ppo.clicker import LearnedClicker
from synthfm_agents.blind.random import RandomClicker
from synthfm_agents.blind.second_opinion import SecondOpinion
from synthfm_agents.blind.uncertain import UncertainClicker
from synthfm_agents.candidates.clicker import BlindPPO, OracleImitation, OraclePPO
from synthfm_agents.parameters import check_parameters
from synthfm_agents.person import is_person, make_person
from synthfm_agents.protocol import ClickProtocol
from synthfm_agents.protocols.cvpr25 import Cvpr25
from synthfm_agents.protocols.dong2024 import Dong2024
from synthfm_agents.protocols.greedy import Greedy
from synthfm_agents.protocols.human_noise import HumanNoise
from synthfm_agents.protocols.monai_deepgrow import MonaiDeepgrow
from synthfm_agents.protocols.ritm_3d import Ritm3D
from synthfm_agents.protocols.sam2_center import Sam2Center
from synthfm_agents.protocols.sam2_offline import Sam2Offline
from synthfm_agents.protocols.sam_med3d import SamMed3DRandom
from synthfm_agents.protocols.shen2024 import Shen2024
from synthfm_agents.protocols.synthfm_mm import SynthFMMillimetres
from synthfm_agents.protocols.synthfm_pairs import SynthFMPairs, SynthFMPrompt
from synthfm_agents.protocols.vista3d import Vista3D
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.plugins import build, load_class
from synthfm_env.printable import error_line, printable, shown

_PROTOCOLS: tuple[type[ClickProtocol], ...] = (
    SynthFMMillimetres,
    Ritm3D,
    Sam2Center,
    Sam2Offline,
    Cvpr25,
    Vista3D,
    MonaiDeepgrow,
    SamMed3DRandom,
    SynthFMPairs,
    SynthFMPrompt,
    Shen2024,
    Dong2024,
)
_OTHERS: tuple[type[Clicker], ...] = (
    RandomClicker,
    CentreClicker,
    UncertainClicker,
    SecondOpinion,
    LearnedClicker,
    BlindPPO,
    OraclePPO,
    OracleImitation,
    Greedy,
    HumanNoise,
)
_CLICKERS: dict[str, type[Clicker]] = {kind.name: kind for kind in _OTHERS + _PROTOCOLS}


def list_clickers() -> dict[str, str]:
    """Return the names that ``make_clicker`` accepts, each with a line of description.

    Example:
        >>> "ritm-3d-v1" in list_clickers()
        True
    """
    return {name: (inspect.getdoc(kind) or "").splitlines()[0] for name, kind in _CLICKERS.items()}


def list_protocols() -> dict[str, str]:
    """Return the name of each click protocol with its hash under default parameters; the default comes first.

    Example:
        >>> next(iter(list_protocols()))
        'synthfm-mm-v1'
    """
    return {kind.name: kind().protocol_hash for kind in _PROTOCOLS}


def make_clicker(name: str, **params: Any) -> Clicker:
    """Build a clicker.

    Args:
        name: a name from ``list_clickers``, your own class as ``"package.module:Class"``, or a person as
            ``"human:ALIAS"``.
        params: arguments of its class.

    Raises:
        InputError: the name is unknown, the class cannot be imported or is not a ``Clicker``, or it does not take the
            parameters.

    Example:
        >>> make_clicker("synthfm-v1", positives=2, negatives=1).name
        'synthfm-v1'
    """
    if not isinstance(name, str):
        raise InputError(f"make_clicker({shown(name)}): expected a name as text")
    if ":" in name and not is_person(name):
        kind: type[Clicker] = load_class(name, Clicker, "clicker")
        if not hasattr(kind, "name"):
            kind.name = name
        return build(kind, name, "clicker", **params)
    if is_person(name):
        check_parameters(partial(make_person, name), name, params)
        return make_person(name, **params)
    if name not in _CLICKERS:
        raise unknown_name("clicker", name, _CLICKERS)
    kind = _CLICKERS[name]
    check_parameters(kind, name, params)
    try:
        return kind(**params)
    except (TypeError, ValueError) as error:  # a parameter of the wrong type
        if isinstance(error, InputError):
            raise
        raise InputError(f"clicker {name!r}, made with {printable(params, 200)}: {error_line(error)}") from error
