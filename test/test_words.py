"""Words of messages."""

from __future__ import annotations

import pytest

from dseg_core.words import count, one_line


@pytest.mark.parametrize(("number", "words"), [(0, "0 frames"), (1, "1 frame"), (2, "2 frames")])
def test_count(number: int, words: str) -> None:
    assert count(number, "frame") == words


def test_one_line_of_an_error() -> None:
    assert one_line(ValueError("Wait a\n  while, and try again.")) == "Wait a while, and try again"
    assert one_line(ValueError("Wait a while, and try again."), 20) == "Wait a while, and …"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
