"""Options of proposals and regions: how sweeps are split into objects, and those painted into images."""

from __future__ import annotations

from dataclasses import dataclass

from dseg_core.errors import OptionError
from dseg_core.options import Options, option

FEWEST_COLUMNS = 64
"""What is looked at beside a cell must not go round the turn."""


@dataclass(frozen=True)
class ProposalOptions(Options):
    """How a sweep is split into ground and objects."""

    method: str = option(
        "auto",
        "by beams, or by distance where the points have none; auto chooses between these; hdbscan: by density",
        choices=("auto", "range_image", "euclidean", "hdbscan"),
    )
    columns: int = option(
        0,
        f"cells of the range image per turn, {FEWEST_COLUMNS} at least; 0 takes the points' own spacing",
        minimum=0,
        maximum=16384,
    )
    angle: float = option(
        10.0,
        "smallest angle, at the farther of two points of a beam, between their line and the ray, that joins them "
        "(by beams; Bogoslavskyi's beta)",
        unit="deg",
        minimum=0,
        maximum=90,
    )
    angle_between: float = option(
        25.0,
        "the same for points of neighbouring beams, which are farther apart (by beams)",
        unit="deg",
        minimum=0,
        maximum=90,
    )
    near: float = option(
        0.3, "neighbouring points that are nearer to each other are joined (by beams)", unit="m", minimum=0
    )
    gap: float = option(1.0, "largest step in range between joined points (by beams)", unit="m", minimum=0)
    hole: int = option(3, "empty cells that joined points may have between them (by beams)", minimum=0, maximum=32)
    fragment: float = option(
        4.0,
        "objects that look no larger and do not stand on the ground join a larger one beside them (by beams)",
        unit="m2",
        minimum=0,
    )
    fragment_gap: float = option(
        0.4, "farthest that such a fragment is from it, and 1 % of the range (by beams)", unit="m", minimum=0
    )
    distance: float = option(
        0.3, "farthest that joined points are apart (by distance; second returns by beams)", unit="m", minimum=0.02
    )
    distance_rise: float = option(
        0.015,
        "how much farther apart these may be at each metre of range, since beams spread",
        unit="m/m",
        minimum=0,
        maximum=0.04,
    )
    ground_slope: float = option(9.0, "steepest ground", unit="deg", minimum=0, maximum=45)
    kerb: float = option(0.2, "highest kerb that ground climbs", unit="m", minimum=0)
    min_points: int = option(8, "objects with fewer points are no proposals", minimum=1)
    merge: float = option(
        0.4, "objects of several LiDARs are one that have points in one cube of this side", unit="m", minimum=0.01
    )
    ground: str = option(
        "own", "how ground is found; patchwork: by pypatchworkpp, with every method", choices=("own", "patchwork")
    )
    aggregate: int = option(
        0,
        "earlier sweeps that each is told with, moved by the odometry, up to a second before; their points are not "
        "stored",
        minimum=0,
        maximum=9,
    )
    level: str = option(
        "", "frame whose z is up, for a LiDAR that is mounted at more than some degrees; none takes the LiDAR's own"
    )
    sensor_height: float = option(
        0.0,
        "height of the LiDAR over the ground, for patchwork; 0 finds it in every sweep",
        unit="m",
        minimum=0,
        maximum=100,
    )

    def __post_init__(self) -> None:
        """Check what only goes together. Raises OptionError."""
        super().__post_init__()
        if 0 < self.columns < FEWEST_COLUMNS:
            raise OptionError(f"columns = {self.columns} must be 0 or at least {FEWEST_COLUMNS}")
        if self.sensor_height and self.ground != "patchwork":
            raise OptionError(f"sensor_height = {self.sensor_height:g} is for ground = patchwork")


@dataclass(frozen=True)
class RegionOptions(Options):
    """How proposals become image regions."""

    fill: int = option(24, "farthest that a point paints around it", unit="px", minimum=1)
    fill_without_beams: float = option(3.0, "the same for points whose spacing is not known", unit="px", minimum=0.5)
    spread: float = option(1.4, "size of a point's patch in units of the beams' spacing", minimum=0.1, maximum=3)
    border: float = option(
        1.0, "the same towards a side where the point's proposal ends before something farther", minimum=0.1, maximum=3
    )
    surface: float = option(
        0.02, "patches within this share of their depth are one surface, where the nearer centre wins", minimum=0
    )
    enclosed: float = option(
        1.2,
        "what is seen between points of one nearer object, each at most so far away on it, is hidden (windows, roofs): "
        "ground between two, objects between three or four",
        unit="m",
        minimum=0,
    )
    silent: float = option(
        1.5,
        "where no beam came back from above a return (dark paint, glass), a thing is taken to go on up to this height "
        "above it, and hides what is farther",
        unit="m",
        minimum=0,
    )
    window: float = option(
        2.0,
        "holes that an object encloses on all four sides are closed up to this width and height; half as high where it "
        "does not above",
        unit="m",
        minimum=0,
    )
    hole: int = option(4, "gaps inside a region that are closed, in a row or column", unit="px", minimum=0, maximum=64)
