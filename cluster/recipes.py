"""Recipes: YAML files that may build on another (`base:`), with overrides from the command line (`a.b=value`)."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from cluster.config import RunConfig
from env.errors import UserError

SHOWN_ERRORS = 3
ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """The validated configuration of a recipe file with `a.b=value` overrides (values are YAML).

    Raises UserError, in one line, for a missing or malformed file, an unknown key (with the nearest valid one), a
    value of the wrong type, and values that contradict each other.
    """
    path = Path(path)
    return validated(RunConfig, _read(path, frozenset()), overrides, str(path))


def override(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """A configuration with `a.b=value` overrides, validated anew. Raises UserError as `load_recipe` does."""
    return validated(RunConfig, config.model_dump(mode="json"), overrides, "; ".join(overrides) or config.name)


def validated(root: type[ConfigT], values: dict[str, Any], overrides: Sequence[str], where: str) -> ConfigT:
    """`values` with overrides as a configuration; `where` they come from begins the message of a UserError."""
    for change in overrides:
        _override(values, change)
    try:
        return root.model_validate(values)
    except ValidationError as error:
        messages = [_explain(dict(item), root) for item in error.errors(include_url=False)]
        more = len(messages) - SHOWN_ERRORS
        rest = f" (and {more} more)" if more > 0 else ""
        raise UserError(f"{where}: {'; '.join(messages[:SHOWN_ERRORS])}{rest}") from None


def dump(config: RunConfig) -> str:
    """The resolved configuration as YAML; `load_recipe` reads it back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def changed(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted paths at which two configurations differ, with both values."""
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from changed(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key} ({before!r} -> {after!r})"


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(path: Path, seen: frozenset[Path]) -> dict[str, Any]:
    """The file's mapping, laid over its `base` (a path relative to the file)."""
    if path.resolve() in seen:
        raise UserError(f"{path}: its base leads back to itself")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such recipe file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a mapping of sections, this is {_kind(values)}")
    base = values.pop("base", None)
    return values if base is None else _merge(_read(path.parent / str(base), seen | {path.resolve()}), values)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, section by section; a section of another `type` replaces the base's."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("type") in (None, old.get("type")):
            value = _merge(old, value)
        merged[key] = value
    return merged


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise UserError(f"--set {override}: write it as section.key=value, e.g. --set learner.optimizer.lr=1e-5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not valid YAML; quote it") from None
    *sections, last = key.strip().split(".")
    for section in sections:
        if not isinstance(values.get(section), dict):
            values[section] = {}
        values = values[section]
    values[last] = value


# -- saying what is wrong ----------------------------------------------------------------------------------------------


def _explain(error: dict[str, Any], root: type[BaseModel]) -> str:
    """One pydantic error in one clause: the field, its value, and what would be right."""
    path = _without_tags(error["loc"], root)
    name = ".".join(map(str, path))
    if error["type"] == "extra_forbidden":
        return f"unknown key {name}{_suggestion(path, root)}"
    if error["type"] == "missing":
        return f"{name} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{name}: {message}" if name else message
    if error["type"] == "union_tag_not_found":
        return f"{name} needs a 'type' when it is set"
    message = message.removeprefix("Input ")
    return f"{name} is {error['input']!r}: {message[0].lower()}{message[1:]}"


def _without_tags(loc: tuple[int | str, ...], root: type[BaseModel]) -> tuple[int | str, ...]:
    """A pydantic location less the tags of discriminated unions, which are not keys of the recipe."""
    kept: list[int | str] = []
    here: tuple[type[BaseModel], ...] = (root,)
    for part in loc:
        if any(part in model.model_fields for model in here):
            fields = [model.model_fields[str(part)] for model in here if part in model.model_fields]
            here = tuple(model for f in fields for model in _models(f.annotation))
        elif any(part == _tag(model) for model in here):
            here = tuple(model for model in here if part == _tag(model))
            continue
        kept.append(part)
    return tuple(kept)


def _suggestion(path: tuple[int | str, ...], root: type[BaseModel]) -> str:
    """The nearest valid key: the same name in another section, else a similar name in this one."""
    *parents, key = map(str, path)
    everywhere = list(_paths(root))
    if same := [known for known in everywhere if known.split(".")[-1] == key]:
        wanted = ".".join([*parents, key])
        return f"; did you mean {difflib.get_close_matches(wanted, same, n=1, cutoff=0)[0]}?"
    siblings = [known for known in everywhere if known.split(".")[:-1] == parents]
    names = [known.split(".")[-1] for known in siblings]
    if close := difflib.get_close_matches(key, names, n=1):
        return f"; did you mean {'.'.join([*parents, close[0]])}?"
    return f"; valid here: {', '.join(sorted(names))}" if names else ""


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in _models(field.annotation):
            yield from _paths(section, f"{prefix}{name}.")


def _models(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The sections an annotation may hold: itself, or the members of a union."""
    if get_origin(annotation) is Annotated:
        return _models(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(model for member in get_args(annotation) for model in _models(member))
    return (annotation,) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else ()


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("type")
    is_tag = field is not None and get_origin(field.annotation) is Literal
    return get_args(field.annotation)[0] if field is not None and is_tag else None


def _kind(value: Any) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"
