"""What points and pixels are in truth, and which truth classes a proposal can be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable

OBJECT, GROUND, BACKGROUND, NOISE, UNKNOWN = range(5)
"""What a truth class is: things to be found; ground; large structures, whose extent geometry cannot tell (houses in a
row); measurements of nothing (rain, reflections); not labelled."""

ROLES = 5


@dataclass(frozen=True)
class Roles:
    """Which truth classes are what, by name; all others are objects. `vehicles`: objects that ground goes beneath."""

    ground: Collection[str] = ("road", "pavement", "sidewalk", "terrain", "lane", "parking", "ground")
    background: Collection[str] = ("building", "wall", "fence", "bridge", "tunnel", "ego", "sky")
    noise: Collection[str] = ("noise",)
    vehicles: Collection[str] = ("car", "van", "truck", "bus", "vehicle")

    def of(self, name: str) -> int:
        """The role of one class."""
        folded = name.casefold()
        roles = ((GROUND, self.ground), (BACKGROUND, self.background), (NOISE, self.noise))
        return next((role for role, names in roles if folded in names), OBJECT)


@dataclass(frozen=True, eq=False)
class Truth:
    """What points or pixels are: `semantic` uint8 and `instance` integers (0: none) of one shape, and the classes.

    Ids that are in no class table are not labelled, and not scored.
    """

    semantic: NDArray[np.uint8]
    instance: NDArray[np.integer]
    classes: ClassTable
    roles: Roles = Roles()

    def roles_of_elements(self) -> NDArray[np.uint8]:
        """The role of each point or pixel: uint8, the shape of `semantic`. Objects without a number are background."""
        table = np.full(256, UNKNOWN, np.uint8)
        for entry in self.classes.entries:
            table[entry.id] = self.roles.of(entry.name)
        found = table[self.semantic]
        found[(found == OBJECT) & (self.instance == 0)] = BACKGROUND
        return found

    def of_classes(self, names: Collection[str]) -> NDArray[np.bool_]:
        """Where the class is one of some, by name in lower case; bool, the shape of `semantic`."""
        return np.isin(self.semantic, [entry.id for entry in self.classes.entries if entry.name.casefold() in names])
