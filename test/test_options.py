"""Options mean the same on the command line, in YAML and in code, and refuse what is wrong in one line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dseg_core.cli import COMMANDS
from dseg_core.errors import DsegError, OptionError
from dseg_core.options import Options, differences, option
from dseg_core.stage_options import ProposalOptions
from dseg_core.stage_options.proposals import FEWEST_COLUMNS


@dataclass(frozen=True)
class Inner(Options):
    """A nested group."""

    tolerance: float = option(0.05, "largest offset", unit="s", minimum=0, maximum=1)
    mode: str = option("near", "which image", choices=("near", "first"))


@dataclass(frozen=True)
class Outer(Options):
    """Every supported type."""

    count: int = option(3, "how many", minimum=1)
    fast: bool = option(False, "whether")
    path: Path | None = option(None, "a file")
    names: tuple[str, ...] = option((), "some names")
    scales: tuple[float, ...] = option((0.5, 2.0), "some numbers", minimum=0)
    inner: Inner = Inner()


def test_defaults_are_usable() -> None:
    assert Outer() == Outer.from_mapping({})


@given(
    st.builds(
        Outer,
        count=st.integers(1, 10**6),
        fast=st.booleans(),
        path=st.none() | st.sampled_from([Path("a/b"), Path("/tmp/x.yaml")]),  # noqa: S108
        names=st.lists(st.text(st.characters(categories=["L"]), min_size=1)).map(tuple),
        scales=st.lists(st.floats(0, 1e9)).map(tuple),
        inner=st.builds(Inner, tolerance=st.floats(0, 1), mode=st.sampled_from(["near", "first"])),
    )
)
def test_yaml_and_back_is_equal(tmp_path_factory: pytest.TempPathFactory, options: Outer) -> None:
    path = tmp_path_factory.mktemp("options") / "options.yaml"
    path.write_text(options.to_yaml(), encoding="utf-8")
    assert Outer.from_yaml(path) == options


def test_differences_are_named_with_both_values() -> None:
    one = Outer(fast=True, names=("a", "b"), inner=Inner(tolerance=0.2))
    assert differences(one, one) == differences(one, one.to_dict()) == ""
    told = "fast = true, not false; names = a,b, not none; inner.tolerance = 0.2, not 0.05"
    assert differences(one, Outer()) == differences(one.to_dict(), Outer().to_dict()) == told
    assert differences({"old": 1}, {"new": None, "late": 2}) == "old = 1, not none; late = none, not 2"


def test_dotted_nested_and_text_values_agree() -> None:
    nested = Outer.from_mapping({"inner": {"tolerance": 0.2}, "scales": [1, 2], "fast": True})
    dotted = Outer.from_mapping({"inner.tolerance": "0.2", "scales": "1, 2", "fast": "yes"})
    assert nested == dotted == Outer(fast=True, scales=(1.0, 2.0), inner=Inner(tolerance=0.2))


def test_overrides_win_over_yaml(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("inner: {tolerance: 0.1, mode: first}\ncount: 7\n", encoding="utf-8")
    options = Outer.from_yaml(path, {"inner.tolerance": "0.3"})
    assert options == Outer(count=7, inner=Inner(tolerance=0.3, mode="first"))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"count": 0}, "count = 0 must be at least 1"),
        ({"count": 2.5}, "count = 2.5 must be a whole number"),
        ({"count": "many"}, "count = 'many' must be a whole number"),
        ({"count": True}, "count = True must be a whole number"),
        ({"fast": "perhaps"}, "fast = 'perhaps' must be true or false"),
        ({"inner.tolerance": 2}, "inner.tolerance = 2.0 must be at most 1 s"),
        ({"inner": {"tolerance": float("nan")}}, "inner.tolerance = nan: nan is not a number"),
        ({"scales": [1, float("inf")]}, "scales = (1.0, inf) is too far from 0"),
        ({"inner.mode": "last"}, "inner.mode = 'last' must be one of near, first"),
        ({"scales": [1, -1]}, "must be at least 0"),
        ({"scales": 3}, "must be a list"),
        ({"inner": 3}, "inner must hold options, not 3"),
        ({"speed": 1}, "there is no option speed. Options here: count"),
        ({"inner.speed": 1}, "there is no option inner.speed"),
        ({"inner.tolerence": 1}, "there is no option inner.tolerence. Did you mean inner.tolerance?"),
    ],
)
def test_refuses(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Outer.from_mapping(mapping, where="drive.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("drive.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", r"is not YAML: .*\. Mend it there"),
        (b"- 1", r"holds list, not a mapping\. Write `name: value`"),
        (b"\xff\xfe\x00", r"is not YAML: .*\. Mend it there"),
        (
            b"count: 2\ninner: {tolerance: 0.1, tolerance: 0.2}",
            r"is not YAML: 'tolerance' stands twice.*line 2",
        ),
    ],
)
def test_broken_yaml(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "options.yaml"
    path.write_bytes(content)
    with pytest.raises(DsegError, match=message):
        Outer.from_yaml(path)
    with pytest.raises(DsegError, match="cannot be read: No such file"):
        Outer.from_yaml(tmp_path / "missing.yaml")


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("count: !!python/object/apply:os.getpid []\n", encoding="utf-8")
    with pytest.raises(DsegError, match="is not YAML"):
        Outer.from_yaml(path)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_stage_is_documented(command: object) -> None:
    for field in command.options.fields():  # type: ignore[attr-defined]
        assert field.help and field.help[0].islower() and not field.help.endswith("."), field.path
        assert field.check(field.default) == field.default


def test_a_height_that_nothing_would_read() -> None:
    for columns in (1, 8, FEWEST_COLUMNS - 1):
        with pytest.raises(OptionError, match=f"columns = {columns} must be 0 or at least 64"):
            ProposalOptions(columns=columns)
    assert ProposalOptions(columns=FEWEST_COLUMNS).columns == 64
    with pytest.raises(OptionError, match="min_points = 99999999999999999999 is too far from 0"):
        ProposalOptions(min_points=99999999999999999999)
    with pytest.raises(OptionError, match="is for ground = patchwork"):
        ProposalOptions(sensor_height=1.8)
    assert ProposalOptions(sensor_height=1.8, ground="patchwork").sensor_height == 1.8
