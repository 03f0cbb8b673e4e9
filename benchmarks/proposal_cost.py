"""What proposals cost, by the number of points and of beams: a picture and a Markdown table.

Run: python benchmarks/proposal_cost.py [--out docs/proposal_cost.png] [--turns 25]. Simulated sweeps of one street, of
LiDARs with 16 to 128 beams and 1024 to 4096 columns, by turns. Processor time of one thread, the least of all turns, as
other work on the machine only ever adds to it.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from arguments import positive
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from proposal_scenes import DURATION, SPEED

from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.simulation.sensors import LidarSpec, Vehicle, sweep
from dseg_core.simulation.world import build
from dseg_core.stage_options import ProposalOptions

LIDARS = {16: (2048, 4096), 32: (1024, 2048, 4096), 64: (1024, 2048, 4096), 128: (1024, 1536, 2048, 2900)}
SEED = 100


def sweeps() -> list[tuple[int, Sweep]]:
    """A sweep of each LiDAR, and its number of beams."""
    vehicle, found = Vehicle(build(SEED, SPEED, DURATION, 1.0, 0.0, True), SPEED), []
    for beams, widths in LIDARS.items():
        for columns in widths:
            lidar = LidarSpec.mounted(beams, columns, 0.1, 0.02, 0.005, 100.0, 0.6)
            measured = sweep(vehicle, lidar, 0.0, np.random.default_rng(SEED))
            found.append((beams, Sweep(0, "lidar", measured.xyz, ring=measured.ring)))
    return found


def measure(chosen: list[tuple[int, Sweep]], turns: int) -> list[float]:
    """Milliseconds of each sweep."""
    took: list[list[float]] = [[] for _ in chosen]
    for turn in range(turns + 2):  # two for compiling, and for memory
        for (_, one), times in zip(chosen, took, strict=True):
            fresh = replace(one)  # else its beams would be known
            start = time.thread_time()
            proposals_from_sweep(fresh, ProposalOptions())
            if turn > 1:
                times.append(1e3 * (time.thread_time() - start))
    return [min(times) for times in took]


def draw(beams: np.ndarray, points: np.ndarray, ms: np.ndarray, slope: float, base: float, out: Path) -> None:
    """Dots, and the line through them."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ends = np.array([0.0, points.max() * 1.05])
    axes.plot(ends / 1e3, base + slope * ends / 1e6, color="0.6", label=f"{base:.1f} ms + {slope:.0f} ns a point")
    for number, color in zip(LIDARS, ("tab:green", "tab:blue", "tab:orange", "tab:red"), strict=True):
        chosen = beams == number
        axes.plot(points[chosen] / 1e3, ms[chosen], "o", color=color, label=f"{number} beams")
    axes.set(xlabel="points of a sweep, thousands", ylabel="processor time, ms", xlim=(0, None), ylim=(0, None))
    axes.set_title("Ground and objects of simulated sweeps, one thread")
    axes.grid(alpha=0.3)
    axes.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


def main() -> None:
    """Measure, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "proposal_cost.png")
    parser.add_argument("--turns", type=positive, default=25, help="how often each sweep is split")
    arguments = parser.parse_args()
    chosen = sweeps()
    ms = np.array(measure(chosen, arguments.turns))
    beams, points = np.array([b for b, _ in chosen]), np.array([len(s) for _, s in chosen])
    slope, base = np.polyfit(points / 1e3, ms, 1)
    draw(beams, points, ms, 1e3 * slope, base, arguments.out)
    print("| beams | points | ms | ns a point |\n|---|---|---|---|")
    for b, n, t in zip(beams, points, ms, strict=True):
        print(f"| {b} | {n} | {t:.2f} | {1e6 * t / n:.0f} |")
    off = 100 * np.abs(ms - base - slope * points / 1e3) / ms
    print(f"\n{base:.2f} ms + {1e3 * slope:.1f} ns a point; off it by {off.mean():.0f} %, at most {off.max():.0f} %")


if __name__ == "__main__":
    main()
