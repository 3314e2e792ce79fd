"""Names the extra to install if an optional package is missing."""

import importlib
from types import ModuleType

from synthfm_env.errors import InputError


def missing_extra(package: str, extra: str, what: str) -> str:
    """Return the instruction to install an optional package.

    Args:
        package: the package that cannot be imported.
        extra: the extra of ``synthfm_env`` that installs it, for example ``"sam"``.
        what: begins the message: the segmenter or function that needs the package.
    """
    return f'{what} needs the package {package}: pip install "synthfm_env[{extra}]"'


def import_extra(module: str, extra: str, what: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: for example ``"medim"``.
        extra: the extra of ``synthfm_env`` that installs it.
        what: begins the message: the segmenter or function that needs the module.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(missing_extra(error.name or module, extra, what)) from error
