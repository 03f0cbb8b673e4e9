"""Quality of proposals beside their peers, on the same simulated sweeps with truth: Markdown tables.

Run: python benchmarks/proposal_quality.py. Worlds from 9000 on are used for nothing else. Peers are those of
`proposal_peers.py` that are installed, and programs of your own (`proposal_programs.py`). An object counts from 10
points on. "Objects found": those with which a proposal has IoU 0.5 in points; "thin ones" of poles, signs and people.
"Proposals that are an object": but for those of houses. "Merged": objects that are half or more in a proposal with more
of other things; "split": in several; "missed": in none. Ground in points; ms of processor time.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from arguments import Help, positive
from proposal_peers import Lidar, add_methods, peers
from proposal_scenes import SETTINGS, Setting, sweeps

from dseg_core.errors import DsegError
from dseg_core.evaluation.proposal_scores import score_points
from dseg_core.evaluation.proposal_tally import ProposalTally

COLUMNS = {
    "recall": "objects found",
    "thin": "thin ones",
    "precision": "proposals that are an object",
    "merged": "merged",
    "split": "split",
    "missed": "missed",
    "ground recall": "ground found",
    "ground precision": "called ground that is",
    "on slopes": "on slopes",
    "lost": "object called ground",
    "iou": "mean IoU",
    "at kerbs": "at kerbs",
    "beneath vehicles": "beneath vehicles",
    "raised": "ground in proposals",
}
"""Titles of `ProposalTally.summary`'s shares."""


def measure(
    setting: Setting, seeds: range, only: list[str], programs: list[tuple[str, list[str]]]
) -> dict[str, tuple[ProposalTally, float]]:
    """Every method's scores, and its median milliseconds of processor time, on the sweeps of some worlds."""
    rows = 121 if setting.uneven else setting.beams  # TRAVEL knows even rows only: as fine as the finest
    with peers(Lidar(1.91, setting.beams, setting.field(), 1800, rows), only, programs) as methods:
        tallies = {name: ProposalTally() for name in methods}
        took: dict[str, list[float]] = {name: [] for name in methods}
        for number, (sweep, truth) in enumerate(sweeps(setting, seeds)):
            for name, method in methods.items():
                if not number:
                    method(sweep)  # compiles
                ids, seconds = method(sweep)
                took[name].append(1e3 * seconds)
                tallies[name].add(score_points(sweep.xyz, ids.astype(np.uint16), truth))
    return {name: (tallies[name], float(np.median(took[name]))) for name in methods}


def table(found: dict[str, tuple[ProposalTally, float]]) -> str:
    """A row for each method, in percent."""
    lines = [f"| method | {' | '.join(COLUMNS.values())} | ms |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, (tally, took) in found.items():
        values = tally.summary()
        cells = (f"{100 * values[c]:.1f}" if np.isfinite(values.get(c, np.nan)) else "–" for c in COLUMNS)
        lines.append(f"| {name} | {' | '.join(cells)} | {took:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Print a table for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("--worlds", type=positive, default=6, help="simulated worlds of each setting, two sweeps each")
    parser.add_argument("--first", type=int, default=9000, help="the first world's seed")
    names = "; ".join(setting.name for setting in SETTINGS)
    parser.add_argument(
        "--setting", default="", help=f"only those whose name has this in it, of: {names}".replace("%", "%%")
    )
    parser.add_argument("--json", type=Path, help="file to write all numbers to")
    add_methods(parser)
    arguments = parser.parse_args()
    settings = [setting for setting in SETTINGS if arguments.setting in setting.name]
    if not settings:
        parser.error(f"--setting: no setting has {arguments.setting!r} in its name; there are: {names}")
    everything = {}
    for setting in settings:
        seeds = range(arguments.first, arguments.first + arguments.worlds)
        try:
            found = measure(setting, seeds, arguments.only, arguments.programs)
        except DsegError as error:
            sys.exit(str(error))
        first = next(iter(found.values()))[0]
        title = f"**{setting.name}**: {first.sweeps} sweeps, {len(first.objects)} objects"
        print(f"\n{title}\n\n{table(found)}", flush=True)
        everything[setting.name] = {name: tally.summary() | {"ms": ms} for name, (tally, ms) in found.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
