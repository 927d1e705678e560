"""Methods and suites by name; an unknown name is answered with the nearest known ones."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from env.errors import UserError
from evaluation.methods import METHODS
from evaluation.suite import Suite
from evaluation.suites import SUITES
from rollout.episode import Environment

Makes = Callable[..., Environment]


def find_method(name: str, options: Mapping[str, Any]) -> Makes:
    """What makes a method's environment from `Parts` and options. Raises UserError for an unknown name or option."""
    method = _find("method", name, METHODS)
    known = list(inspect.signature(method).parameters)[1:]
    for option in options:
        if option not in known:
            raise UserError(f"method {name!r} has no option {option!r}; it has: {', '.join(known) or 'none'}")
    return method


def make_suite(name: str, options: Mapping[str, Any]) -> Suite:
    """A suite with its options. Raises UserError for an unknown name or option, or a value that cannot be."""
    suite = _find("suite", name, SUITES)
    try:
        return suite(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UserError(
                f"suite {name!r} has no option {option!r}; it has: {', '.join(suite.model_fields)}"
            ) from None
        raise UserError(f"suite {name!r}, option {option!r}: {first['msg']}, got {first['input']!r}") from None


def _find(kind: str, name: str, known: Mapping[str, str]) -> Any:
    module, colon, attribute = known.get(name, name).partition(":")
    if not colon:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
        raise UserError(f"unknown {kind} {name!r}; did you mean {' or '.join(near)}? (or give package.module:Class)")
    try:
        return getattr(import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise UserError(f"{kind} {name!r} cannot be imported: {error}") from error
