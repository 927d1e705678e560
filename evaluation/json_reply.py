"""JSON out of a model's text, as far as there is any: small models rarely write it well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def read_json(text: str) -> dict[str, Any]:
    """The first JSON object in a text; empty when there is none that is whole."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            value, _ = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            start = text.find("{", start + 1)
            continue
        return value
    return {}


def strings(values: Mapping[str, Any], key: str) -> list[str]:
    """The value under a key as a list of texts: a list's texts, or the one text that is there."""
    value = values.get(key) or []
    return [str(item) for item in (value if isinstance(value, list) else [value]) if isinstance(item, str | int)]
