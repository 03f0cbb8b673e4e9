"""Regions against what a simulated camera sees: pixels of hidden things, thin objects, and a vehicle that moves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from dseg_core.records import Sweep
from dseg_core.regions_from_pair import regions_from_pair
from dseg_core.stage_options import RegionOptions

SEED = 8129


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The benchmark's modules, which import one another by name."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    before = set(sys.modules)
    sys.path.insert(0, folder)
    try:
        import region_paint_scores
        import region_scenes

        yield SimpleNamespace(scenes=region_scenes, scores=region_paint_scores)
    finally:
        sys.path.remove(folder)
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and str(sys.modules[name].__file__).startswith(folder):
                del sys.modules[name]


def iou_by_object(scores: ModuleType, found: object, regions: np.ndarray) -> dict[int, float]:
    return {o.instance: o.iou for o in scores.score(found, regions).objects}


@pytest.mark.parametrize(("apart", "most"), [(0.3, 0.001), (1.5, 0.003)])
def test_what_only_the_lidar_sees_does_not_label_what_hides_it(
    bench: SimpleNamespace, apart: float, most: float
) -> None:
    """Hardly a pixel, however far the sensors are apart; without silent beams four times as many.

    What hides things where they may be seen costs thin ones a little: these are over cars, of which much is silent.
    """
    vehicle = bench.scenes.Turning(bench.scenes.world_of(SEED, 1.0), 0.0, 0.9, 0.0)
    found = bench.scenes.pair(vehicle, bench.scenes.PINHOLE, apart)
    xyz = found.sweep.xyz.astype(np.float64) @ found.T[:3, :3].T + found.T[:3, 3]
    hidden = bench.scores.hidden_points(found, xyz)

    def counted(options: RegionOptions) -> dict[str, float]:
        def paint(sweep: Sweep, ids: np.ndarray) -> np.ndarray:
            return regions_from_pair(sweep, ids, found.camera, found.T, options)

        pixels = bench.scores.count_pixels(found, found.of_points, paint, hidden)
        return {name: number / pixels["painted"] for name, number in pixels.items()}

    shares = counted(RegionOptions())
    assert shares["pixels"] < 2.0, "more than half of the image"
    assert shares["right"] > 0.955 and shares["hidden"] < most and shares["sky"] < 0.003
    assert counted(replace(RegionOptions(), silent=0.0))["hidden"] > 4 * shares["hidden"]
    assert counted(replace(RegionOptions(), enclosed=0.0))["hidden"] > 1.5 * shares["hidden"]
    thin = [
        o.iou
        for o in bench.scores.score(
            found, regions_from_pair(found.sweep, found.of_points, found.camera, found.T, RegionOptions())
        ).objects
        if o.name in ("pole", "sign", "pedestrian") and o.distance < 30
    ]
    assert len(thin) > 10 and np.mean(thin) > 0.52


@pytest.mark.parametrize("early", [0.05, -0.05], ids=["image after the beam", "image before the beam"])
def test_a_fifth_of_the_loss_by_motion_is_left_with_compensation(bench: SimpleNamespace, early: float) -> None:
    """15 m/s and 1 rad/s against a car that stands where the image is taken, in the same still world."""
    scenes = bench.scenes
    world = scenes.world_of(SEED, 0.0)
    still = scenes.pair(scenes.Turning(world, 0.0, 0.9, 0.0), scenes.PINHOLE)
    driven = scenes.pair(scenes.Turning(world, 15.0, 0.9, 1.0), scenes.PINHOLE, period=0.1, early=early)
    options = RegionOptions()
    scored = [
        iou_by_object(
            bench.scores, found, regions_from_pair(found.sweep, found.of_points, found.camera, T, options, end)
        )
        for found, T, end in (
            (still, still.T, None),
            (driven, driven.T, driven.T_end),
            (driven, driven.unmoved, None),
        )
    ]
    common = sorted(set(scored[0]) & set(scored[1]))
    standing, moving, without = (np.mean([s[k] for k in common]) for s in scored)
    assert len(common) > 8 and standing - without > 0.2
    assert standing - moving < 0.2 * (standing - without)
