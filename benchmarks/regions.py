"""Regions of LiDAR proposals: processor time beside peers, and what is right against simulated truth. Markdown tables.

Run: python benchmarks/regions.py [speed] [occlusion] [motion] [lenses] [--worlds 12] [--first 9000]. `speed` takes the
real drive and one thread's processor time. Worlds from 9000 on are used for nothing else. Regions are made of right
proposals, which shows what painting does, and of our own. An object counts from 100 visible pixels and 10 points on;
IoU is with all of its visible pixels, those above the topmost beam, too. `hidden`: wrong pixels that are painted
otherwise when the points that the camera cannot see are of no proposal.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from arguments import positive
from region_paint_scores import count_pixels, hidden_points, meanings, score
from region_peers import METHODS, Method, own
from region_scenes import FISHEYE, PINHOLE, WIDE, Pair, Turning, pair, world_of
from region_speed import speed

from dseg_core.cameras import Camera
from dseg_core.evaluation.proposal_scores import ObjectScore
from dseg_core.evaluation.proposal_tally import BANDS, THIN
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import REGION_GROUND, Sweep
from dseg_core.stage_options import ProposalOptions

APART = (0.3, 0.7, 1.0, 1.5)


def standing(seeds: range, apart: float, camera: Camera = PINHOLE) -> Iterator[Pair]:
    """A pair of each world, frozen."""
    for seed in seeds:
        yield pair(Turning(world_of(seed, 1.0), 0.0, 0.9 * (seed % 3), 0.0), camera, apart, seed=seed)


def proposals_of(found: Pair) -> dict[str, np.ndarray]:
    """Right proposals, and ours."""
    return {"right": found.of_points, "own": proposals_from_sweep(found.sweep, ProposalOptions())}


def mean(values: list[float]) -> str:
    """In percent."""
    return f"{100 * np.mean(values):.1f}" if values else "–"


def occlusion(seeds: range) -> None:
    """Pixels and objects by the sensors' distance and by method, then objects by class and range."""
    objects: dict[tuple[float, str], list[ObjectScore]] = defaultdict(list)
    print(
        "\n| apart, m | proposals | method | painted | right | sky | hidden | bled | off by more than a pixel ", end=""
    )
    print("| objects found, IoU | thin: found, IoU |\n|" + "---|" * 11)
    for apart in APART:
        pixels: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        scores: dict[tuple[str, str], list[ObjectScore]] = defaultdict(list)
        for found in standing(seeds, apart):
            xyz = found.sweep.xyz.astype(np.float64) @ found.T[:3, :3].T + found.T[:3, 3]
            hidden = hidden_points(found, xyz)
            for kind, ids in proposals_of(found).items():
                for name, method in METHODS.items():
                    if name != "dseg" and apart != APART[1]:
                        continue

                    def paint(
                        sweep: Sweep, chosen: np.ndarray, method: Method = method, of: Pair = found
                    ) -> np.ndarray:
                        return method(sweep, chosen, of.camera, of.T)

                    pixels[kind, name] += count_pixels(found, ids, paint, hidden)
                    scores[kind, name] += score(found, paint(found.sweep, ids)).objects
        for (kind, name), counted in pixels.items():
            listed = scores[kind, name]
            names = ("right", "sky", "hidden", "bled", "wrong by more than a pixel")
            shares = [f"{100 * counted[what] / counted['painted']:.2f}" for what in names]
            cells = [f"{100 * counted['painted'] / counted['pixels']:.1f}", *shares]
            for some in (listed, [o for o in listed if o.name in THIN]):
                cells.append(f"{mean([o.fate == 'found' for o in some])}, {mean([o.iou for o in some])}")
            print(f"| {apart} | {kind} | {name} | {' | '.join(cells)} |", flush=True)
            if name == "dseg":
                objects[apart, kind] = listed
    by_class(objects)


def by_class(objects: dict[tuple[float, str], list[ObjectScore]]) -> None:
    """Mean IoU of right proposals / ours by class, range and the sensors' distance."""
    print(
        f"\n| class | range, m | objects | {' | '.join(f'{apart} m' for apart in APART)} |\n|"
        + "---|" * (3 + len(APART))
    )
    every = [o for listed in objects.values() for o in listed]
    groups = {name: (name,) for name in sorted({o.name for o in every})} | {"thin": THIN}
    for name, classes in groups.items():
        for low, high in ((0.0, np.inf), *pairwise(BANDS)):
            chosen = {
                key: [o.iou for o in listed if o.name in classes and low <= o.distance < high]
                for key, listed in objects.items()
            }
            number = sum(len(ious) for (_, kind), ious in chosen.items() if kind == "right")
            if number < 8:
                continue
            cells = [f"{mean(chosen[apart, 'right'])} / {mean(chosen[apart, 'own'])}" for apart in APART]
            band = "all" if high - low == np.inf and not low else f"{low:g}–{high:g}"
            print(f"| {name} | {band} | {number} | {' | '.join(cells)} |")


MOTIONS = {
    "the beam passes as the image is taken": {},
    "image 50 ms after the beam": {"early": 0.05},
    "image 50 ms before the beam": {"early": -0.05},
    "50 ms after, stamped at the turn's end": {"early": 0.05, "stamped": 1.0},
    "50 ms after, odometry at 10 Hz": {"early": 0.05, "odometry": 10.0},
}


def motion(seeds: range, camera: Camera = PINHOLE, speed_and_rate: tuple[float, float] = (15.0, 1.0)) -> list[float]:
    """Mean IoU standing, moving with compensation and without, of the objects seen in all. Returns shares of loss."""
    lost = []
    print("\n| 15 m/s, 1 rad/s | proposals | objects | standing | compensated | not | loss, share of that without |")
    print("|---|---|---|---|---|---|---|")
    for title, options in MOTIONS.items():
        ious: dict[str, list[tuple[float, ...]]] = defaultdict(list)
        for seed in seeds:
            world = world_of(seed, 0.0)
            still = pair(Turning(world, 0.0, 0.9, 0.0), camera, seed=seed)
            driven = pair(
                Turning(world, speed_and_rate[0], 0.9, speed_and_rate[1]), camera, period=0.1, seed=seed, **options
            )
            at_rest, moved = proposals_of(still), proposals_of(driven)
            for kind in at_rest:
                seen = [
                    (still, own(still.sweep, at_rest[kind], camera, still.T)),
                    (driven, own(driven.sweep, moved[kind], camera, driven.T, driven.T_end)),
                    (driven, own(driven.sweep, moved[kind], camera, driven.unmoved)),
                ]
                scored = [{o.instance: o.iou for o in score(found, regions).objects} for found, regions in seen]
                ious[kind] += [tuple(s[k] for s in scored) for k in scored[0] if k in scored[1]]
        for kind, rows in ious.items():
            rest, with_it, without = np.mean(rows, axis=0)
            lost.append((rest - with_it) / (rest - without))
            cells = " | ".join(f"{100 * value:.1f}" for value in (rest, with_it, without))
            print(f"| {title} | {kind} | {len(rows)} | {cells} | {lost[-1]:.2f} |", flush=True)
    return lost


ANGLES = (0, 25, 45, 70)


def lenses(seeds: range) -> None:
    """Right proposals: what is right, and the road between 6 and 30 m that stays unpainted, by angle off the axis."""
    print("\n| camera | right | bled | objects' IoU | road unpainted, % at", end=" ")
    print(" | ".join(f"{a}–{b}°" for a, b in pairwise(ANGLES)) + " |\n|" + "---|" * (3 + len(ANGLES)))
    for name, camera in {"pinhole, 81°": PINHOLE, "pinhole, 114°": WIDE, "equidistant, 137°": FISHEYE}.items():
        counted, listed, road = Counter[str](), list[float](), Counter[int]()
        angle = np.degrees(np.arccos(camera.rays()[..., 2]))
        for found in standing(seeds, 0.7, camera):
            xyz = found.sweep.xyz.astype(np.float64) @ found.T[:3, :3].T + found.T[:3, 3]

            def paint(sweep: Sweep, ids: np.ndarray, of: Pair = found) -> np.ndarray:
                return own(sweep, ids, of.camera, of.T)

            counted += count_pixels(found, found.of_points, paint, hidden_points(found, xyz))
            regions = paint(found.sweep, found.of_points)
            listed += [o.iou for o in score(found, regions).objects]
            near = (found.seen == REGION_GROUND) & (found.reach > 6) & (found.reach < 30)
            for k, (low, high) in enumerate(pairwise(ANGLES)):
                here = near & (angle >= low) & (angle < high)
                road[k] += int(here.sum())
                road[10 + k] += int((meanings(found.of_points, found.of_points)[regions][here] == 0).sum())
        shares = [f"{100 * road[10 + k] / road[k]:.2f}" if road[k] else "–" for k in range(len(ANGLES) - 1)]
        right, bled = (100 * counted[what] / counted["painted"] for what in ("right", "bled"))
        print(f"| {name} | {right:.2f} | {bled:.2f} | {mean(listed)} | {' | '.join(shares)} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["speed", "occlusion", "motion", "lenses"])
    parser.add_argument("--worlds", type=positive, default=12, help="simulated worlds of each table")
    parser.add_argument("--first", type=int, default=9000)
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.worlds)
    parts: dict[str, Callable[[], object]] = {
        "speed": speed,
        "occlusion": lambda: occlusion(seeds),
        "motion": lambda: motion(seeds),
        "lenses": lambda: lenses(seeds),
    }
    for name in arguments.parts:
        parts[name]()


if __name__ == "__main__":
    main()
