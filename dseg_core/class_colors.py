"""Which colour a class is painted in: by its name where the name is known, else well apart from all others."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
"""R, G, B, 0..255."""

GROUND: Color = (128, 64, 128)

_OBJECTS = """
ff4ba5 00ff00 00e1ff ff870f a500ff 008700 ffe196 ff0000 00ff87 2d96f0 008769 a5693c ffb4f0 ffd200 b4f04b ff0fe1
e13c4b b478ff 878700 96ffc3 ff9696 b4a5ff 0069e1 ff5a00 b42dc3 5ac3ff b46900 87b469 1ec300 e1f000 3cc3b4 f00069
1effb4 c3a500 ff78f0 b44b4b ffb487 0f5aff ff5a3c d21ef0 ff87b4 96ff00 4b781e c3f087 87690f 00fff0 8787ff 00b469
78a500 d20fa5 964bff d2d24b e196ff ff003c ff875a e15a78 78ff5a e1a53c c33c00 e169ff 69d25a b4a55a 00d2a5 695ae1
"""
"""Colours of objects, 64. In CIELAB (Delta E 1976) all are 40 or more from `GROUND`, from asphalt under it and from
grey; the first `WELL_APART` 40 or more from one another, any 14 in a row 23, all 18. By farthest points."""

WELL_APART = 20

_CITYSCAPES: dict[str, tuple[Color, tuple[str, ...]]] = {
    "road": (GROUND, ("ground", "street", "lane", "asphalt")),
    "sidewalk": ((244, 35, 232), ("pavement", "footpath", "walkway")),
    "building": ((70, 70, 70), ("house", "facade")),
    "wall": ((102, 102, 156), ()),
    "fence": ((190, 153, 153), ("railing",)),
    "guard rail": ((180, 165, 180), ("guardrail", "barrier")),
    "bridge": ((150, 100, 100), ()),
    "tunnel": ((150, 120, 90), ()),
    "pole": ((153, 153, 153), ("post", "street light", "lamp post")),
    "traffic light": ((250, 170, 30), ("signal",)),
    "traffic sign": ((220, 220, 0), ("sign", "road sign")),
    "vegetation": ((107, 142, 35), ("tree", "bush", "plant", "hedge")),
    "terrain": ((152, 251, 152), ("grass", "soil")),
    "sky": ((70, 130, 180), ()),
    "person": ((220, 20, 60), ("pedestrian", "human")),
    "rider": ((255, 0, 0), ("cyclist", "motorcyclist", "bicyclist")),
    "car": ((0, 0, 142), ("vehicle", "sedan")),
    "truck": ((0, 0, 70), ("lorry",)),
    "bus": ((0, 60, 100), ("coach",)),
    "train": ((0, 80, 100), ("tram",)),
    "motorcycle": ((0, 0, 230), ("motorbike", "scooter")),
    "bicycle": ((119, 11, 32), ("bike", "cycle")),
    "parking": ((250, 170, 160), ()),
    "rail track": ((230, 150, 140), ()),
}
"""The colours of Cityscapes' classes (Cordts et al. 2016, labels.py), and other words for the same things."""

_KNOWN = {name: color for name, (color, _) in _CITYSCAPES.items()}
_SYNONYMS = {word: color for color, words in _CITYSCAPES.values() for word in words}
_APART = 40.0  # RGB units: a cluster's own colour nearer than this to a known name's gives way


def object_colors(count: int) -> NDArray[np.uint8]:
    """Of proposals' or regions' ids 0..count-1, uint8 (count, 3): black, `GROUND`, then objects, after 64 again."""
    objects = np.frombuffer(bytes.fromhex(_OBJECTS), np.uint8).reshape(-1, 3)  # (64, 3)
    first = np.array([(0, 0, 0), GROUND], dtype=np.uint8)
    return np.concatenate([first, objects[np.arange(max(count - 2, 0)) % len(objects)]])[:count]


def cluster_color(identity: int) -> Color:
    """The colour of a class that has no name yet: ground's for 0, then `distinct_color`."""
    return GROUND if identity == 0 else distinct_color(identity)


def named_color(name: str) -> Color | None:
    """Cityscapes' colour for a name or a synonym or plural of it, in any case; None for other names."""
    words = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    for form in (words, words.removesuffix("s"), words.removesuffix("es"), words.removesuffix("ies") + "y"):
        found = _KNOWN.get(form) or _SYNONYMS.get(form)
        if found is not None:
            return found
    return None


def colors_of(wishes: Mapping[str, tuple[Color | None, Color]]) -> dict[str, Color]:
    """A colour for each name, no two of them alike.

    Args:
        wishes: By name: a colour that somebody chose, or None; and the colour to take where the name says nothing.

    Returns:
        By name, in the same order: the chosen colour as it is; else the name's own (`named_color`); else the second
        wish, or, where that is hard to tell from one of those, the colour farthest from all.
    """
    given = {name: chosen for name, (chosen, _) in wishes.items() if chosen is not None}
    taken = list(given.values())
    # Of two words for one thing (tree and vegetation) the proper name has the colour.
    for name in sorted((n for n in wishes if n not in given), key=lambda n: n.casefold() not in _KNOWN):
        color = named_color(name)
        if color is not None and color not in taken:
            given[name] = color
            taken.append(color)
    free = {name: otherwise for name, (_, otherwise) in wishes.items() if name not in given}
    for name, color in free.items():
        rivals = [*taken, *(c for n, c in free.items() if n != name and n not in given), *given.values()]
        given[name] = color if _distance(color, taken) >= _APART and color not in rivals else _farthest(rivals)
    return {name: given[name] for name in wishes}


def _farthest(others: list[Color]) -> Color:
    """The colour, of 200 distinct ones, that is farthest from its nearest other."""
    return max(map(distinct_color, range(1, 201)), key=lambda color: _distance(color, others))


def _distance(color: Color, others: list[Color]) -> float:
    """RGB units to the nearest of the others."""
    nearest = np.linalg.norm(np.array(others, dtype=np.float64).reshape(-1, 3) - color, axis=1)
    return float(nearest.min(initial=np.inf))


def distinct_color(index: int) -> Color:
    """A colour that differs well from those of all other small indices.

    Two additive sequences run through hue and lightness; the steps were searched for the largest smallest distance
    between any two of the first 30 and 60 colours.
    """
    hue, lightness = (index * 0.0834551) % 1.0, 0.3 + 0.45 * ((index * 0.3004202) % 1.0)
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)
