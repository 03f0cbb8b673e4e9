"""The account of a recording, in numbers and in words."""

from __future__ import annotations

from array import array

from dseg_core.ledger import Ledger, account_in_words, account_table, spread_ms
from dseg_core.words import count


def ledger() -> Ledger:
    made = Ledger()
    made.paired.update({"lidar": 3, "front": 2})
    made.surplus["front"] = 4
    made.dropped["front"].update({"too far": 1, "no sweep": 2})
    return made


def test_in_numbers_and_in_words() -> None:
    made = ledger()
    assert (made.total("lidar"), made.total("front"), made.total("rear")) == (3, 9, 0)
    sensors = made.to_dict({"lidar": 3, "front": 9})["sensors"]
    assert account_in_words(sensors) == (
        "lidar 3 messages, 3 paired; front 9 messages, 2 paired, 4 surplus, dropped 1 (too far), 2 (no sweep)"
    )
    assert account_table(sensors) == [
        "sensor  messages  paired  surplus  dropped",
        "lidar          3       3        0  0",
        "front          9       2        4  1 (too far), 2 (no sweep)",
    ]


def test_spread_keeps_the_sign() -> None:
    spread = spread_ms(array("q", [-1_500_000, 500_000, 500_000, 4_000_000]))
    assert spread["min"] == -1.5 and spread["median"] == 0.5 and spread["max"] == 4.0
    assert spread["histogram"] == [[-2.0, 1], [0.0, 2], [4.0, 1]]


def test_nouns_follow_their_number() -> None:
    assert [count(n, "frame") for n in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert count(2, "entry", "entries") == "2 entries"
