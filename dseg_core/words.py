"""Words of messages."""

import textwrap


def one_line(error: object, longest: int = 300) -> str:
    """What an error of a library says, in one line without a full stop; a long one is cut between words."""
    return textwrap.shorten(str(error).strip().rstrip("."), longest, placeholder=" …") or type(error).__name__


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 frame, 2 frames."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
