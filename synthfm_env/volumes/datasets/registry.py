"""Returns data-set layouts by name."""

import inspect

from synthfm_env.arguments import check_name
from synthfm_env.volumes.datasets.alfi import Alfi
from synthfm_env.volumes.datasets.base import Layout
from synthfm_env.volumes.datasets.camus import Camus
from synthfm_env.volumes.datasets.chaos import Chaos
from synthfm_env.volumes.datasets.cvpr25 import Cvpr25
from synthfm_env.volumes.datasets.fetal import HC18, FhPsAop
from synthfm_env.volumes.datasets.nnunet import Amos, Decathlon, Folder, OaiZib
from synthfm_env.volumes.datasets.totalsegmentator import TotalSegmentator

_LAYOUTS: dict[str, type[Layout]] = {
    kind.name: kind
    for kind in (Folder, Amos, Decathlon, Chaos, TotalSegmentator, Camus, HC18, FhPsAop, Alfi, OaiZib, Cvpr25)
}


def list_layouts() -> dict[str, str]:
    """Return the name of each layout with one line on its content."""
    return {name: (inspect.getdoc(kind) or "").splitlines()[0] for name, kind in _LAYOUTS.items()}


def get_layout(name: str) -> Layout:
    """Return a layout.

    Raises:
        InputError: an unknown name.
    """
    check_name("layout", name, _LAYOUTS)
    return _LAYOUTS[name]()
