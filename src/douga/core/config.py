"""Frozen dataclasses to JSON and back, and `--set a.b=c`. An unknown name is an error that lists the valid ones."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass, nested ones too, as what `json.dumps` takes."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build `kind` from JSON values. Raises ValueError for an unknown name or a value of the wrong type."""
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise ValueError(f"unknown setting {where + name!r}; valid here: {', '.join(where + n for n in names)}")
    return kind(**{name: _convert(hints[name], value, where + name) for name, value in values.items()})


def with_settings(config: T, settings: Iterable[str]) -> T:
    """Derive a config by settings like "model.channels=32" (the value is JSON; what is not JSON is taken as text)."""
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator or not path:
            raise ValueError(f"a setting is written name=value, not {setting!r}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        config = _with(config, path, path.split("."), value)
    return config


def _with(config: Any, path: str, names: list[str], value: Any) -> Any:
    fields = [field.name for field in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
    if names[0] not in fields:
        prefix = path[: len(path) - len(".".join(names))]
        valid = (
            f"valid here: {', '.join(prefix + name for name in fields)}" if fields else f"{prefix[:-1]!r} has no parts"
        )
        raise ValueError(f"unknown setting {path!r}; {valid}")
    if len(names) > 1:
        value = _with(getattr(config, names[0]), path, names[1:], value)
    else:
        hint = get_type_hints(type(config))[names[0]]
        now = getattr(config, names[0])
        value = _convert(type(now) if dataclasses.is_dataclass(now) else hint, value, path)
    return dataclasses.replace(config, **{names[0]: value})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{where} must be one of {', '.join(map(repr, arguments))}, not {value!r}")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(kinds) != len(value):
            raise ValueError(f"{where} must have {len(kinds)} values, not {len(value)}")
        return tuple(_convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if origin is Mapping and isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(hint, value, where + ".")  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where} must be {getattr(hint, '__name__', hint)}, not {value!r}")
