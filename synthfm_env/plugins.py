"""Loads classes that a user names as ``"package.module:Class"``."""

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from synthfm_env.errors import InputError

_T = TypeVar("_T")
# A drive letter (C:\w.safetensors, C:/w.safetensors) is no module: what follows the colon is no identifier.
_CLASS_PATH = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")


def is_class_path(text: str) -> bool:
    r"""Return True if a text has the form ``package.module:Class``, which file names such as ``C:\w.pt`` do not have.

    Example:
        >>> is_class_path("my_package.models:Mine"), is_class_path(r"C:\weights.safetensors")
        (True, False)
    """
    return _CLASS_PATH.fullmatch(text) is not None


def load_class(path: str, base: type[_T], kind: str) -> type[_T]:
    """Import a concrete subclass of ``base``.

    Args:
        path: ``"package.module:Class"``, importable from the Python path.
        base: the abstract class that it must extend.
        kind: what it is called in messages, for example ``"segmenter"``.

    Raises:
        InputError: the text has another form, the module or the class cannot be imported, or the class is abstract or
            does not extend ``base``.

    Example:
        >>> from collections.abc import Mapping
        >>> load_class("collections:OrderedDict", Mapping, "mapping").__name__
        'OrderedDict'
    """
    if not is_class_path(path):
        raise InputError(f"{kind} {path!r} is not of the form package.module:Class")
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise InputError(
            f"{kind} {path!r} cannot be imported: {_told(error)}; expected package.module:Class on the Python path"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise InputError(
            f"{kind} {path!r} is no {kind}: expected a subclass of {base.__module__.split('.')[0]}.{base.__name__}"
        )
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise InputError(f"{kind} {path!r} is no {kind}: it is abstract; define {', '.join(missing)}")
    return found


def construct(cls: Callable[..., _T], path: str, kind: str, **params: Any) -> _T:
    """Create an object of a class, or call a function that returns one.

    Raises:
        InputError: the class does not take the parameters, or its ``__init__`` raises.
    """
    try:
        inspect.signature(cls).bind(**params)
    except TypeError as error:
        raise InputError(f"{kind} {path!r}: {error}; it takes {inspect.signature(cls)}") from None
    try:
        return cls(**params)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{kind} {path!r} cannot be built: {_told(error)}") from error


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
