"""The proposals of three sweeps of the real drives as they were when somebody looked at them last.

Run: python test/golden_proposals.py    # after a change that is meant; look at the pictures it writes beside the drives
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dseg_core.bag import BagReader
from dseg_core.messages import sweep_from_message
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.stage_options import ProposalOptions

FILE = Path(__file__).parent / "golden" / "proposals.npz"
SWEEPS = (("kitti_city", 0), ("kitti_city", 25), ("nuscenes_sample", 0))


def golden_sweep(bag: Path, number: int) -> Sweep:
    """A sweep of a bag, counted from 0."""
    with BagReader(bag) as reader:
        topic = next(t.name for t in reader.topics if t.type.endswith("PointCloud2"))
        return sweep_from_message([m.data for m in reader.messages([topic])][number])


def main() -> None:
    """Write the partitions, and a picture of each from above into the working folder."""
    import cv2

    from dseg_core.reporting.pictures import cloud_from_above

    found = {}
    for name, number in SWEEPS:
        sweep = golden_sweep(Path(__file__).parents[2] / "shared" / "data" / name, number)
        ids = proposals_from_sweep(sweep, ProposalOptions())
        found[f"{name}_{number}"] = ids
        picture = cloud_from_above(sweep.xyz, ids, 45.0, (1200, 1000))
        cv2.imwrite(f"{name}_{number}.png", picture[..., ::-1])
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
