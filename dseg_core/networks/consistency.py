"""The cross-modal constraint: what a teacher sees is made one inside each LiDAR proposal (METHOD of Drive&Segment)."""

from __future__ import annotations

import torch
from torch import Tensor

from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND


def make_consistent(probabilities: Tensor, regions: Tensor, how: str, support: int, ground: bool) -> Tensor:
    """Replace the probabilities inside each region by one distribution; outside they stay as they are.

    Vobecky et al. (ECCV 2022) use the proposals so; whether they average or vote is not public, so both are here.

    Args:
        probabilities: float32 (C, h, w).
        regions: int64 (h, w): 0 none, 1 ground, 2.. objects.
        how: "mean": the average over the region's cells; "majority": all on the class that most cells find likeliest
            (of equals the lower id); "none": nothing changes.
        support: Regions of fewer cells stay as they are.
        ground: Whether the ground is a region too; else it stays as it is.

    Returns:
        float32 (C, h, w), a new tensor.
    """
    if how == "none":
        return probabilities.clone()
    classes, cells = len(probabilities), probabilities.flatten(1).T.clone()  # (h*w, C)
    ids, inverse, counts = torch.unique(regions.flatten(), return_inverse=True, return_counts=True)
    votes = cells
    if how == "majority":
        votes = torch.nn.functional.one_hot(cells.argmax(dim=1), classes).to(cells.dtype)
    sums = torch.zeros(len(ids), classes, dtype=cells.dtype, device=cells.device).index_add_(0, inverse, votes)
    if how == "majority":
        merged = torch.nn.functional.one_hot(sums.argmax(dim=1), classes).to(cells.dtype)
    else:
        merged = sums / counts[:, None]
    first = REGION_GROUND if ground else REGION_FIRST_OBJECT
    chosen = ((ids >= first) & (counts >= support))[inverse]  # (h*w,)
    cells[chosen] = merged[inverse[chosen]]
    return cells.T.reshape(probabilities.shape).contiguous()
