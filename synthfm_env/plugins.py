"""Loads classes of the user's own, named as ``package.module:Class``."""

import importlib
import inspect
import re
from typing import TypeVar

from synthfm_env.errors import InputError
from synthfm_env.printable import error_line, printable

_Kind = TypeVar("_Kind")

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


class PluginError(InputError):
    """Code of the user's own failed while an object of its class was built."""


def is_plugin(name: str) -> bool:
    r"""Tell whether a name has the form ``package.module:Class``. A path such as ``C:\weights.pt`` has not.

    Example:
        >>> is_plugin("my_models:Threshold"), is_plugin("geodesic")
        (True, False)
    """
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def load_class(path: str, base: type[_Kind], what: str) -> type[_Kind]:
    """Import a class of the user's own. This runs the code of its module.

    Args:
        path: ``package.module:Class``, on the Python path.
        base: the class that it must extend.
        what: names the kind in messages, for example "segmenter".

    Raises:
        InputError: another form, a module that cannot be imported, no such class in it, one that does not extend
            ``base``, or one that lacks a method.

    Example:
        >>> from collections import OrderedDict
        >>> load_class("collections:OrderedDict", dict, "mapping") is OrderedDict
        True
    """
    if not is_plugin(path):
        raise InputError(f"{what} {printable(path)!r}: expected package.module:Class on the Python path")
    module, _, name = path.partition(":")
    try:
        loaded = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{what} {path!r} cannot be imported: {error_line(error)}; expected package.module:Class on the Python path"
        ) from error
    if not (inspect.isclass(loaded) and issubclass(loaded, base)):
        raise InputError(f"{what} {path!r} is no subclass of {base.__module__.split('.')[0]}.{base.__name__}; name one")
    if inspect.isabstract(loaded):
        lacking = ", ".join(sorted(getattr(loaded, "__abstractmethods__", ())))
        raise InputError(f"{what} {path!r} is abstract: it lacks {lacking}; write what is missing")
    return loaded


def build(kind: type[_Kind], path: str, what: str, **params: object) -> _Kind:
    """Build an object of a class of the user's own.

    Args:
        kind: from ``load_class``.
        path: its name, for messages.
        what: as in ``load_class``.
        params: arguments of its ``__init__``.

    Raises:
        InputError: ``__init__`` does not take these arguments.
        PluginError: ``__init__`` raised, or tried to end the process.

    Example:
        >>> build(dict, "builtins:dict", "mapping")
        {}
    """
    try:
        signature = inspect.signature(kind)
    except (TypeError, ValueError):  # a class written in C may tell none
        signature = None
    if signature is not None:
        try:
            signature.bind(**params)
        except TypeError as error:
            given = ", ".join(params) or "no arguments"
            raise InputError(f"{what} {path!r} was given {given}: {error}; it takes {signature}") from None
    try:
        return kind(**params)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what} {path!r} cannot be built: {error_line(error)}") from error
