"""Every stage's options, declared once: the command line, YAML files and ROS parameters derive from these classes.

An options class is a frozen dataclass whose fields are made by `option`, or are options classes themselves; a nested
field is called by its path everywhere, `pairing.tolerance`: `--pairing.tolerance 0.03`, in YAML `pairing: {tolerance:
0.03}`, as a ROS parameter `pairing.tolerance`. Values are checked when the object is made.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

from dseg_core.errors import DsegError, OptionError
from dseg_core.words import one_line

if TYPE_CHECKING:
    from typing_extensions import Self


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare one option: its default, its one documentation, its unit and its range (both ends included)."""
    metadata = {"help": help, "unit": unit, "minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=metadata)


_LARGEST = 1e12  # in any unit; what is larger, infinity too, overflows somewhere on its way


@dataclass(frozen=True)
class OptionField:
    """One option as the command line and ROS see it. `path` is dotted, `type` is one of the types `parse` knows."""

    path: str
    type: Any
    default: Any
    help: str
    unit: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...] | None

    def describe(self, default: bool = True, choices: bool = True, about: str = "") -> str:
        """The help line: text (or `about` instead), unit and range, default where there is one."""
        notes = [self.unit] if self.unit else []
        if self.choices is not None and choices:
            notes.append(" | ".join(self.choices))
        if self.minimum is not None and self.maximum is not None:
            notes.append(f"{self.minimum:g} to {self.maximum:g}")
        elif self.minimum is not None:
            notes.append(f"at least {self.minimum:g}")
        elif self.maximum is not None:
            notes.append(f"at most {self.maximum:g}")
        about = about or (f"{self.help} [{', '.join(notes)}]" if notes else self.help)
        if not default or self.default in (None, "", ()):
            return about
        return f"{about} (default: {_shown(self.default)})"

    def check(self, value: Any) -> Any:
        """Return `value` converted to the option's type, or raise OptionError."""
        value = _convert(self.path, self.type, value)
        values = [v for v in (value if isinstance(value, tuple) else (value,)) if v is not None]
        if any(isinstance(v, float) and math.isnan(v) for v in values):
            raise OptionError(f"{self.path} = {_shown(value)}: nan is not a number")
        if any(isinstance(v, int | float) and abs(v) > _LARGEST for v in values):
            raise OptionError(f"{self.path} = {value} is too far from 0")
        if self.minimum is not None and any(v < self.minimum for v in values):
            raise OptionError(f"{self.path} = {value} must be at least {self.minimum:g} {self.unit}".rstrip())
        if self.maximum is not None and any(v > self.maximum for v in values):
            raise OptionError(f"{self.path} = {value} must be at most {self.maximum:g} {self.unit}".rstrip())
        if self.choices is not None:
            unknown = [v for v in values if v not in self.choices]
            if unknown:
                raise OptionError(f"{self.path} = {unknown[0]!r} must be one of {', '.join(self.choices)}")
        return value


@dataclass(frozen=True)
class Options:
    """Base of all options classes."""

    def __post_init__(self) -> None:
        """Check every option of this class. Raises OptionError."""
        for declared, hint in _declared(type(self)):
            if not _is_options(hint):
                checked = _option_field(declared, hint, "").check(getattr(self, declared.name))
                object.__setattr__(self, declared.name, checked)

    @classmethod
    def fields(cls, prefix: str = "") -> Iterator[OptionField]:
        """Every option, nested ones by their dotted path."""
        for declared, hint in _declared(cls):
            if _is_options(hint):
                yield from hint.fields(f"{prefix}{declared.name}.")
            else:
                yield _option_field(declared, hint, prefix)

    @classmethod
    def groups(cls, prefix: str = "") -> Iterator[tuple[str, type[Options]]]:
        """This class and every one nested in it, each with the prefix of its options: nothing, or `pairing.`."""
        yield prefix, cls
        for declared, hint in _declared(cls):
            if _is_options(hint):
                yield from hint.groups(f"{prefix}{declared.name}.")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], where: str | Path = "", prefix: str = "") -> Self:
        """Build from a nested or dotted mapping; what it does not name keeps its default.

        Raises:
            OptionError: An unknown name, a wrong type or a value out of range; the message carries `where`.
        """
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for name, value in _nested(mapping).items():
            if name not in hints:
                known = [declared.name for declared, _ in _declared(cls)]
                alike = difflib.get_close_matches(name.replace("-", "_"), known, 1)
                meant = f"Did you mean {prefix}{alike[0]}? " if alike else ""
                fix = f"{meant}Options here: {', '.join(known)}."
                raise OptionError(f"there is no option {prefix}{name}", where=where, fix=fix)
            if _is_options(hints[name]):
                if not isinstance(value, Mapping):
                    raise OptionError(f"{prefix}{name} must hold options, not {value!r}", where=where)
                value = hints[name].from_mapping(value, where, f"{prefix}{name}.")
            values[name] = value
        try:
            return cls(**values)
        except OptionError as error:
            raise OptionError(f"{prefix}{error.what}", where=error.where or where, fix=error.fix) from None

    @classmethod
    def from_yaml(cls, path: Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read a YAML file (safe loader); `overrides` (dotted paths) win over it."""
        mapping = _nested(read_yaml(path))
        for dotted, value in (overrides or {}).items():
            _put(mapping, dotted, value)
        return cls.from_mapping(mapping, where=path)

    def to_yaml(self) -> str:
        """YAML that `from_yaml` reads back, each option under a comment with its help, unit and range."""
        return "\n".join(_yaml_lines(self, indent="")) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict of YAML and JSON types."""
        return {declared.name: _plain(getattr(self, declared.name)) for declared, _ in _declared(type(self))}


def differences(one: Options | Mapping[str, Any], other: Options | Mapping[str, Any]) -> str:
    """What tells two sets of options apart, in words: `teacher.steps = 30, not 40; seed = 1, not 0`; else nothing.

    Args:
        one: Options, or their plain nested dict as a summary or YAML file has it; its values come first.
        other: The same; an option that only one of both has is told as `none`.
    """
    mine, theirs = (_flat(o.to_dict() if isinstance(o, Options) else o) for o in (one, other))
    paths = [path for path in (*mine, *(p for p in theirs if p not in mine)) if mine.get(path) != theirs.get(path)]
    return "; ".join(f"{path} = {_shown(mine.get(path))}, not {_shown(theirs.get(path))}" for path in paths)


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        path = f"{prefix}{name}"
        flat.update(_flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value})
    return flat


def _shown(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(_shown, value)) or "none"
    return "none" if value in (None, "") else str(value)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Raises:
        DsegError: It is missing, broken or not a mapping, or a name stands in it twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            known = set[str]()
            for key, _ in node.value:
                if key.value in known:  # of two, the last would count, without a word
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                known.add(key.value)
            return dict(super().construct_mapping(node, deep))

    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506  # a safe one
    except OSError as error:
        raise DsegError(f"cannot be read: {error.strerror}", where=path, fix="Give a YAML file that is there") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DsegError(f"is not YAML: {one_line(error)}", where=path, fix="Mend it there, or give another") from None
    if not isinstance(loaded, dict | None):
        fix = "Write `name: value`, a line each"
        raise DsegError(f"holds {type(loaded).__name__}, not a mapping", where=path, fix=fix)
    return loaded or {}


def _declared(kind: type[Options]) -> list[tuple[dataclasses.Field[Any], Any]]:
    """A class's options, then its groups, each with its type: a subclass may add options to a base that has groups."""
    hints = typing.get_type_hints(kind)
    return sorted(((f, hints[f.name]) for f in dataclasses.fields(kind)), key=lambda found: _is_options(found[1]))


def _is_options(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Options)


def _option_field(declared: dataclasses.Field[Any], hint: Any, prefix: str) -> OptionField:
    default = declared.default
    return OptionField(path=f"{prefix}{declared.name}", type=hint, default=default, **declared.metadata)


def _nested(mapping: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for dotted, value in mapping.items():
        _put(nested, str(dotted), _nested(value) if isinstance(value, Mapping) else value)
    return nested


def _put(nested: dict[str, Any], dotted: str, value: Any) -> None:
    head, _, rest = dotted.partition(".")
    if not rest:
        if isinstance(value, Mapping) and isinstance(nested.get(head), dict):
            for name, inner in value.items():
                _put(nested[head], name, inner)
        else:
            nested[head] = value
        return
    inner = nested.setdefault(head, {})
    if not isinstance(inner, dict):
        raise OptionError(f"{head} is given both as a value and as a group")
    _put(inner, rest, value)


def _yaml_lines(options: Options, indent: str) -> Iterator[str]:
    import yaml

    for declared, hint in _declared(type(options)):
        value = getattr(options, declared.name)
        if isinstance(value, Options):
            yield f"{indent}{declared.name}:"
            yield from _yaml_lines(value, f"{indent}  ")
        else:
            about = _option_field(declared, hint, "").describe(default=False)
            yield from textwrap.wrap(about, 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
            # As the only item of a list in flow style, any value stays on one line: "[value]".
            text = yaml.safe_dump([_plain(value)], default_flow_style=True, width=math.inf, allow_unicode=True)
            yield f"{indent}{declared.name}: {text.strip()[1:-1]}"


def _plain(value: Any) -> Any:
    if isinstance(value, Options):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _convert(path: str, wanted: Any, value: Any) -> Any:
    """Convert a value of YAML, ROS or the command line (a string) to the declared type."""
    origin = typing.get_origin(wanted)
    if origin in (Union, types.UnionType):
        if value is None or value in ("none", ""):
            return None
        (wanted,) = (a for a in typing.get_args(wanted) if a is not type(None))
        return _convert(path, wanted, value)
    if origin is tuple:
        inner = typing.get_args(wanted)[0]
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple):
            raise OptionError(f"{path} = {value!r} must be a list")
        return tuple(_convert(path, inner, v) for v in value)
    if origin is Literal:
        if value not in typing.get_args(wanted):
            raise OptionError(f"{path} = {value!r} must be one of {', '.join(map(str, typing.get_args(wanted)))}")
        return value
    if wanted is bool:
        known = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if isinstance(value, bool) or str(value).lower() in known:
            return value if isinstance(value, bool) else known[str(value).lower()]
        raise OptionError(f"{path} = {value!r} must be true or false")
    if isinstance(value, bool) or (wanted is int and isinstance(value, float) and value != int(value)):
        raise OptionError(f"{path} = {value!r} must be {_TYPE_WORDS[wanted]}")
    try:
        return wanted(value)
    except (TypeError, ValueError):
        raise OptionError(f"{path} = {value!r} must be {_TYPE_WORDS[wanted]}") from None


_TYPE_WORDS = {int: "a whole number", float: "a number", str: "text", Path: "a path"}
