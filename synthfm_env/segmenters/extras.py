"""Names the extra to install if an optional package is missing."""

import importlib
from types import ModuleType

from synthfm_env.errors import InputError


def missing_extra(package: str, extra: str, what: str) -> str:
    """Return the line that tells how to get a package.

    Args:
        package: that cannot be imported.
        extra: of this package that installs it, for example ``"sam"``.
        what: needs it.
    """
    return f'{what} needs the package {package}: pip install "synthfm_env[{extra}]"'


def import_extra(module: str, extra: str, what: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: for example ``"medim"``.
        extra: of this package that installs it.
        what: needs it, begins the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(missing_extra(error.name or module, extra, what)) from error
