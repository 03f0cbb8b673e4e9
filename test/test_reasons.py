"""Counts by reason, of messages that no two are alike of."""

from __future__ import annotations

from dseg_core.transforms import TransformError
from dseg_ros.reasons import Reasons


def test_numbers_make_no_new_reason() -> None:
    reasons = Reasons()
    texts = [str(TransformError(f"odom -> base is known only until {k} ns, {k / 7:.1f} ms before")) for k in range(99)]
    assert [reasons.add(text) for text in texts] == [True, *[False] * 98]
    assert dict(reasons) == {texts[0]: 99}


def test_names_do() -> None:
    reasons = Reasons()
    for name in ("wheel_1", "wheel_2", "wheel_1", "rgb8", "rgb16"):
        reasons.add(f"{name} 7")
    assert dict(reasons) == {"wheel_1 7": 2, "wheel_2 7": 1, "rgb8 7": 1, "rgb16 7": 1}


def test_there_is_an_end_of_reasons_and_nothing_is_left_uncounted() -> None:
    reasons = Reasons()
    new = [reasons.add(f"no frame {chr(ord('A') + k % 26)}{k}") for k in range(1000)]
    assert len(reasons) == sum(new) == 21
    assert sum(reasons.values()) == 1000
    assert reasons["other reasons"] == 980


def test_control_characters_do_not_reach_a_terminal() -> None:
    reasons = Reasons()
    reasons.add("frame \x1b[31m")
    assert list(reasons) == ["frame \\x1b[31m"]
