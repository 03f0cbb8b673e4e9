"""The command line's parser: groups of options in the help, and one line for what is wrong."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dseg_core.options import OptionField, Options


@dataclass(frozen=True)
class Argument:
    """A positional or required argument that is a path. `many`: one or more."""

    name: str
    help: str
    many: bool = False
    flag: bool = False


@dataclass(frozen=True)
class Command:
    """One subcommand: `runner` is `module:function`, called with the arguments by name and `options`."""

    name: str
    help: str
    arguments: tuple[Argument, ...]
    options: type[Options]
    runner: str


class CommandParser(argparse.ArgumentParser):
    """argparse, but abbreviations are no options, and an error is one line on stderr and exit status 2."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **keywords})
        self.commands: tuple[str, ...] = ()

    def error(self, message: str) -> NoReturn:
        """Say it in one line and leave."""
        self.exit(2, f"{self.prog}: {message}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Nothing is left over: what this command does not know is an error that names what is near."""
        given = _joined(list(sys.argv[1:] if args is None else args))
        if self.commands:
            self._check_command(given)
        else:
            self._check_flags(given)
            if "--print-config" in given:
                self._ask_for_nothing()
        found, left = super().parse_known_args(given, namespace)
        if left:
            self.error(f"nothing takes {left[0]!r}; see `{self.prog} --help`")
        return found, left

    def _check_command(self, given: Sequence[str]) -> None:
        if not given:
            self.error(f"give a command: {', '.join(self.commands)}")
        if given[0] not in self.commands and given[0] not in self._option_string_actions:
            near = difflib.get_close_matches(given[0], self.commands, 1)
            self.error(f"no command {given[0]}; " + (f"did you mean {near[0]}?" if near else "see `dseg --help`"))

    def _check_flags(self, given: Sequence[str]) -> None:
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        for argument in given:
            flag = argument.partition("=")[0]
            if argument == "--":
                return
            if re.match("--|-[A-Za-z]", flag) and flag not in self._option_string_actions:
                near = [name for name in known if name.rpartition(".")[2] == flag.removeprefix("--")]
                near = near or _alike(flag, known)
                hint = f"did you mean {' or '.join(near)}?" if near else f"see `{self.prog} --help`"
                self.error(f"no option {flag}; {hint}")

    def _ask_for_nothing(self) -> None:
        """Options can be shown without what the command works on."""
        for action in self._actions:
            action.required = False
            if not action.option_strings:
                action.nargs = "*" if action.nargs == "+" else "?"


def _alike(flag: str, known: Sequence[str]) -> list[str]:
    """The option that is spelt most like a flag, all of its path or its last part, if one is; dashes tell nothing."""
    for part in (str.strip, lambda name: name.rpartition(".")[2]):
        words = {part(name.removeprefix("--")): name for name in known}
        near = difflib.get_close_matches(flag.strip("-"), words, 1)
        if near:
            return [words[near[0]]]
    return []


def _joined(given: Sequence[str]) -> list[str]:
    """Options with values such as -1,2,3 or -5:5 as one word, since argparse would take the value for a flag."""
    joined: list[str] = []
    for argument in given:
        last = joined[-1] if joined else ""
        if re.match(r"-\.?\d", argument) and last.startswith("--") and last != "--" and "=" not in last:
            joined[-1] = f"{last}={argument}"
        else:
            joined.append(argument)
    return joined


def command_parser(commands: Sequence[Command], version: str) -> CommandParser:
    """The parser of all commands; what it returns has the command, its arguments, and options by their dotted path."""
    parser = CommandParser("dseg", description="Semantic segmentation of urban scenes from rosbags, no labels.")
    parser.add_argument("--version", action="version", version=version)
    parser.commands = tuple(command.name for command in commands)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in commands:
        words = (f"--{a.name} PATH" if a.flag else a.name + " ..." * a.many for a in command.arguments)
        usage = f"dseg {command.name} {' '.join(words)} [options]"
        sub = subparsers.add_parser(command.name, usage=usage, help=command.help, description=command.help)
        sub.set_defaults(command=command)
        _add_arguments(sub, command)
        _add_options(sub, command.options)
    return parser


def _add_arguments(sub: argparse.ArgumentParser, command: Command) -> None:
    for argument in command.arguments:
        extra: dict[str, Any] = {"nargs": "+"} if argument.many else {}
        if argument.flag:
            flag = f"--{argument.name}"
            sub.add_argument(
                flag, type=Path, required=True, metavar="PATH", help=f"{argument.help} (required)", **extra
            )
        else:
            sub.add_argument(argument.name, type=Path, help=argument.help, **extra)
    sub.add_argument("--config", type=Path, metavar="YAML", help="file with options; flags win over it")
    sub.add_argument(
        "--print-config", action="store_true", help="print the options of this call as such a file, and exit"
    )


def _add_options(sub: argparse.ArgumentParser, options: type[Options]) -> None:
    """A command's own options first, then a group for each prefix; a second group of one kind refers to the first."""
    shown: dict[type[Options], str] = {}
    for prefix, kind in options.groups():
        title = f"--{prefix}*" if prefix else "options of this command"
        group = sub.add_argument_group(title, (kind.__doc__ or "").split("\n")[0] if prefix else None)
        first = shown.setdefault(kind, prefix)
        for field in kind.fields(prefix):
            if "." in field.path.removeprefix(prefix):
                continue  # of a group inside, which comes by itself
            flag = _flag(field.path)
            told = field.describe(choices=False)
            if first != prefix:
                told = field.describe(choices=False, about=f"as {_flag(first + field.path.removeprefix(prefix))}")
            # A switch may stand alone; argparse would take a word after it as its value, so that it goes last.
            alone: dict[str, Any] = {"nargs": "?", "const": "true"} if field.type is bool else {}
            group.add_argument(flag, dest=field.path, metavar=_metavar(field), help=told.replace("%", "%%"), **alone)


def _flag(path: str) -> str:
    return "--" + path.replace("_", "-")


def _metavar(field: OptionField) -> str:
    wanted = field.type
    if wanted is bool:
        return "{true,false}"
    words = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
    word = next(word for kind, word in words.items() if wanted is kind or kind in typing.get_args(wanted))
    if field.choices is not None:
        word = "{" + ",".join(field.choices) + "}"
    return f"{word},..." if typing.get_origin(wanted) is tuple else word
