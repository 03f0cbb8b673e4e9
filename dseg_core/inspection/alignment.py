"""How well depth edges fall on image edges, for any small rotation of the camera and any offset of its stamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.cameras import Camera
from dseg_core.compiling import compiled
from dseg_core.inspection.depth_edges import KINDS


@dataclass(frozen=True, eq=False)
class EdgePair:
    """Depth edges and image edges of one sweep and one camera's image.

    `xyz`: float32 (E, 3), optical frame at the image's stamp, metres. `velocity`: float32 (E, 3), how that changes when
    the image was taken earlier, metres per second of stamp error; zero without odometry. `kind`: uint8 (E,), see
    `depth_edges`, as `width`, float32 (E,), and `piece`, int64 (E,). `edges`: uint8 (2, H, W) of the pinhole.
    """

    xyz: NDArray[np.float32]
    velocity: NDArray[np.float32]
    kind: NDArray[np.uint8]
    width: NDArray[np.float32]
    piece: NDArray[np.int64]
    edges: NDArray[np.uint8]


class Alignment:
    """The edges of one camera over a drive, at one scale.

    A correction is float64 (4,): a rotation vector in the optical frame (x right, y down, z forward) that turns
    T_camera_lidar, in radians, and how much later than the truth the images are stamped, in seconds.

    Args:
        pairs: All of one camera.
        pinhole: The camera of the edges.
        blur: Standard deviation of the blur over the image edges, radians; to it comes how far edges are off because
            they lie somewhere between two beams, without which whatever few of them fit by chance would decide.
        most: Edges that are used at most, evenly.
    """

    def __init__(self, pairs: Sequence[EdgePair], pinhole: Camera, blur: float, most: int = 1 << 30) -> None:
        every = max(1, -(-sum(len(pair.kind) for pair in pairs) // most))
        self._kind = np.concatenate([pair.kind[::every] for pair in pairs])
        width = np.concatenate([pair.width[::every] for pair in pairs])
        usual = [np.median(width[self._kind == kind]) if (self._kind == kind).any() else 0.0 for kind in KINDS]
        self.blurs = [float(np.hypot(blur, each / np.sqrt(12))) for each in usual]
        """Of the image edges, by kind, radians."""
        sigmas = [max(each * float(pinhole.matrix[0, 0]), 0.5) for each in self.blurs]
        # Blurred maps need no fine pixels.
        shrink = min(max(int(min(sigmas) / 2), 1), 8)
        size = (-(-pinhole.width // shrink), -(-pinhole.height // shrink))
        scaled = pinhole.scaled(*size)
        self._lens = np.array([scaled.matrix[0, 0], scaled.matrix[1, 1], scaled.matrix[0, 2], scaled.matrix[1, 2]])
        self._maps = np.stack(
            [[_blurred(pair.edges[kind], size, sigmas[kind] / shrink) for kind in KINDS] for pair in pairs]
        )
        self._xyz = np.concatenate([pair.xyz[::every] for pair in pairs]).astype(np.float64)
        self._velocity = np.concatenate([pair.velocity[::every] for pair in pairs]).astype(np.float64)
        self._pair = np.repeat(np.arange(len(pairs)), [len(pair.kind[::every]) for pair in pairs])
        pieces = np.concatenate([pair.piece[::every] for pair in pairs])
        _, first, self._piece = np.unique(pieces, return_index=True, return_inverse=True)
        self.kinds: NDArray[np.uint8] = self._kind[first]
        """Of each piece of an outline (G,)."""
        self.off: NDArray[np.float64] = np.bincount(self._piece, width / 2) / np.bincount(self._piece)
        """By how much the edges of each piece may be off together, float64 (G,), radians."""

    @property
    def pairs(self) -> int:
        """How many there are."""
        return len(self._maps)

    def per_pair(self, correction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of edge strengths and number of edges seen, of each pair: float64 (P, 2)."""
        return self._sums(correction, self._pair, len(self._maps))

    def per_piece(self, correction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of edge strengths and number of edges seen, of each piece of an outline: float64 (G, 2)."""
        return self._sums(correction, self._piece, len(self.kinds))

    def _sums(self, correction: NDArray[np.float64], of: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        R = cv2.Rodrigues(np.asarray(correction[:3], np.float64))[0]
        found = np.zeros((count, 2))
        offset = float(correction[3])
        _sample(self._xyz, self._velocity, self._kind, self._pair, of, self._maps, self._lens, R, offset, found)
        return found

    def score(self, correction: NDArray[np.float64]) -> float:
        """Mean edge strength below the depth edges."""
        total, count = self.per_pair(correction).sum(axis=0)
        return float(total / max(count, 1.0))


def _blurred(edges: NDArray[np.uint8], size: tuple[int, int], sigma: float) -> NDArray[np.float32]:
    small = cv2.resize(edges.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), sigma), dtype=np.float32)


@compiled
def _sample(
    xyz: NDArray[np.float64],
    velocity: NDArray[np.float64],
    kind: NDArray[np.uint8],
    pair: NDArray[np.int64],
    of: NDArray[np.int64],
    maps: NDArray[np.float32],
    lens: NDArray[np.float64],
    R: NDArray[np.float64],
    offset: float,
    found: NDArray[np.float64],
) -> None:
    height, width = maps.shape[2], maps.shape[3]
    for i in range(len(kind)):
        x = xyz[i, 0] + offset * velocity[i, 0]
        y = xyz[i, 1] + offset * velocity[i, 1]
        z = xyz[i, 2] + offset * velocity[i, 2]
        depth = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z
        if depth < 0.5:
            continue
        u = lens[0] * (R[0, 0] * x + R[0, 1] * y + R[0, 2] * z) / depth + lens[2]
        v = lens[1] * (R[1, 0] * x + R[1, 1] * y + R[1, 2] * z) / depth + lens[3]
        if not (0 <= u < width - 1 and 0 <= v < height - 1):
            continue
        a, b = int(u), int(v)
        s, t = u - a, v - b
        m = maps[pair[i], kind[i]]
        top = (1 - s) * m[b, a] + s * m[b, a + 1]
        low = (1 - s) * m[b + 1, a] + s * m[b + 1, a + 1]
        found[of[i], 0] += (1 - t) * top + t * low
        found[of[i], 1] += 1
