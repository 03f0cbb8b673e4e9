"""What benchmarks' command lines share."""

from __future__ import annotations

import argparse


class Help(argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        given = action.default not in (None, "", [], argparse.SUPPRESS)
        return (action.help or "") + (" (default: %(default)s)" if given else "")


def positive(text: str) -> int:
    """A whole number from 1 on.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)
