"""Optional packages: an extra that is not installed is named."""

import importlib
from types import ModuleType

from synthfm_env.errors import InputError


def import_extra(module: str, extra: str, what: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: for example ``"segment_anything"``.
        extra: of this package that installs it, for example ``"sam"``.
        what: needs it, begins the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f'{what} needs the package {error.name}: pip install "synthfm_env[{extra}]"') from error
