"""Words of messages."""


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 frame, 2 frames."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
