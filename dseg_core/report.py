"""`dseg report`: one self-contained HTML page about what the stages made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dseg_core.errors import DsegError
from dseg_core.progress import Summary, check_writable, progress, write_whole
from dseg_core.reporting.frame_sections import classes_section, frames_section, pairing_section
from dseg_core.reporting.learning_sections import masks_section, training_section
from dseg_core.reporting.model_sections import model_section, reproduce_section
from dseg_core.reporting.page import GENERATOR, Html, page
from dseg_core.reporting.result_section import headline, result_section
from dseg_core.reporting.score_sections import scores_section
from dseg_core.reporting.sources import Sources
from dseg_core.stage_options import ReportOptions


def report(out: Path, options: ReportOptions) -> Summary:
    """Write the page. Nothing in it is loaded from elsewhere: pictures and video are inside.

    Args:
        out: The .html file to write.
        options: Which folders it is about; a section whose folder is not given says so in a sentence.

    Returns:
        Where the page is, and the numbers of its first section.

    Raises:
        DsegError: No folder is given, or one does not hold what its option says.
    """
    if options.frames is None and options.test_frames is None and options.run is None:
        raise DsegError("there is nothing to report on", fix="Give --frames, --test-frames or --run.")
    if out.is_file() and GENERATOR not in out.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise DsegError("is a file that `dseg report` did not write", where=out, fix="Give --out another name")
    sources = Sources.open(options)
    check_writable(out.parent)
    parts: tuple[tuple[str, str, Callable[[], Html]], ...] = (
        ("result", "Result", lambda: result_section(sources)),
        ("pairing", "Pairing", lambda: pairing_section(sources)),
        ("frames", "Frames", lambda: frames_section(sources)),
        ("classes", "Pseudo-classes", lambda: classes_section(sources)),
        ("training", "Training", lambda: training_section(sources.run)),
        ("scores", "Scores", lambda: scores_section(sources)),
        ("masks", "Masks", lambda: masks_section(sources)),
        ("model", "Model", lambda: model_section(sources)),
        ("reproduce", "Again", lambda: reproduce_section(sources)),
    )
    sections = [(name, title, make()) for name, title, make in progress(parts, "report", unit="section")]
    subtitle = (
        "From recorded drives to a segmentation network, without a single label drawn by hand: laser scans split into "
        "things, things grouped into pseudo-classes, and a network that learns to see them in the camera image."
    )
    data = page(options.title, subtitle, sections).encode("utf-8")
    write_whole(out, data)
    return Summary(
        f"Wrote {out} ({len(data) / 1e6:.1f} MB, self-contained).", {"bytes": len(data), "headline": headline(sources)}
    )
