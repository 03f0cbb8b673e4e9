"""What surfaces are made of, and the truth classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable

ROAD, PAVEMENT, BUILDING, CAR, VAN, PEDESTRIAN, POLE, SIGN, TREE, SKY, TERRAIN = range(11)

TRUTH_CLASSES = ClassTable.of_names(
    ("road", "pavement", "building", "car", "van", "pedestrian", "pole", "sign", "tree", "sky", "terrain"),
    (
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (0, 0, 142),
        (0, 60, 100),
        (220, 20, 60),
        (153, 153, 153),
        (220, 220, 0),
        (107, 142, 35),
        (70, 130, 180),
        (152, 251, 152),
    ),
)

# How `shading.surface` paints a material. Extras are the columns from EXTRA on, their meaning depends on the kind.
PLAIN, ASPHALT, PAVING, FACADE, FOLIAGE, GLASS, PAINT, SIGN_FACE, BARK, ROOF, GRASS = range(11)
EXTRA, COLUMNS = 8, 20

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """One surface. `color`: linear RGB 0..1. `gloss`: share of mirrored sky. `reflectivity`: factor of LiDAR returns.

    `grain`: strength of fine noise. `extras`: numbers that depend on `kind`, see `shading.surface`.
    """

    kind: int
    color: Color
    gloss: float = 0.0
    reflectivity: float = 1.0
    grain: float = 0.1
    extras: tuple[float, ...] = ()


class Materials:
    """The materials of one world, numbered as they are added."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._rows: list[NDArray[np.float32]] = []

    def add(self, material: Material) -> int:
        """Number of a new material; it gets a random seed for its textures."""
        row = np.zeros(COLUMNS, dtype=np.float32)
        row[:3] = material.color
        row[3], row[4] = material.kind, self._rng.uniform(0, 1000)
        row[5], row[6], row[7] = material.gloss, material.reflectivity, material.grain
        row[EXTRA : EXTRA + len(material.extras)] = material.extras
        self._rows.append(row)
        return len(self._rows) - 1

    def table(self) -> NDArray[np.float32]:
        """float32 (M, COLUMNS): r, g, b, kind, seed, gloss, reflectivity, grain, extras."""
        return np.stack(self._rows)


def linear(red: float, green: float, blue: float) -> Color:
    """Linear RGB of an sRGB colour given as 0..255."""
    r, g, b = ((v / 255.0) ** 2.2 for v in (red, green, blue))
    return r, g, b


def varied(rng: np.random.Generator, color: Color, brightness: float = 0.25, hue: float = 0.06) -> Color:
    """A colour near `color`."""
    scale = float(np.exp(rng.normal(0, brightness)))
    r, g, b = (min(max(v * scale * float(np.exp(rng.normal(0, hue))), 0.004), 0.9) for v in color)
    return r, g, b


CAR_PAINTS = tuple(
    linear(*c)
    for c in (
        (28, 29, 32), (60, 62, 66), (112, 114, 117), (150, 152, 154), (190, 192, 194), (232, 232, 230),
        (225, 225, 225), (24, 42, 92), (48, 84, 150), (140, 26, 28), (96, 20, 26), (40, 74, 58), (168, 150, 120),
        (196, 120, 40), (86, 96, 108),
    )
)  # fmt: skip
FACADE_COLORS = tuple(
    linear(*c)
    for c in (
        (206, 196, 176), (222, 212, 190), (188, 170, 144), (150, 146, 140), (170, 168, 164), (128, 124, 120),
        (150, 84, 66), (128, 72, 58), (168, 108, 84), (214, 186, 150), (200, 200, 198), (176, 150, 130),
        (216, 202, 160), (160, 172, 178), (110, 96, 88),
    )
)  # fmt: skip
CLOTHES = tuple(
    linear(*c)
    for c in (
        (30, 32, 38), (52, 56, 70), (90, 92, 96), (140, 40, 40), (40, 60, 110), (170, 160, 140), (200, 198, 194),
        (60, 80, 60), (120, 90, 60), (210, 170, 60), (90, 50, 90),
    )
)  # fmt: skip
