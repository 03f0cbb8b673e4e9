"""The report's sections about recorded frames and pseudo-classes."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from dseg_core.image_codecs import decode
from dseg_core.label_store import LabelStore
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, ViewKey
from dseg_core.reporting import pictures, strips, tables
from dseg_core.reporting.neighbour_colors import neighbour_colors
from dseg_core.reporting.page import Html, absent, details, figure, join, section, table, tag
from dseg_core.reporting.selection import evenly, moment, spread
from dseg_core.reporting.sources import Frames, Sources, read_summary
from dseg_core.stage_options import PairingOptions
from dseg_core.words import count

_MOST_PAIRS = 2000
"""Views whose stamps are read for the histograms, evenly from all."""


def pairing_section(sources: Sources) -> Html:
    """How far apart in time image and sweep are, per camera."""
    title = "Pairing"
    shown = [frames for frames in (sources.frames, sources.test) if frames is not None]
    if not shown:
        return section("pairing", title, absent("No frames were given, so there are no pairs to show."))
    offsets: dict[str, list[float]] = {}
    bands: dict[str, tuple[float, float]] = {}
    for frames in shown:
        for key in evenly(frames.store.view_keys, _MOST_PAIRS):
            offset_ms = (frames.store.view(key).stamp_ns - key.stamp_ns) / 1e6
            offsets.setdefault(key.camera, []).append(offset_ms)
        bands = _tolerances(frames) | bands
    rows = []
    for camera, values in sorted(offsets.items()):
        found = np.array(values)
        words = f"{found.mean():+.1f} ± {found.std():.1f} ms, {count(len(found), 'pair')}".replace("-", "−")
        rows.append(strips.Strip(camera, found, words, bands.get(camera)))
    caption = "Offsets of each camera's images, each strip as high as its fullest bar. " + (
        "Shaded: the tolerance; an image outside it is no pair."
        if bands
        else "The tolerance counts from when the beam crosses the camera's axis, so it is not drawn."
    )
    intro = (
        "A pair is one sweep with the nearest image of a camera, by their stamps alone. A constant offset is harmless "
        "where the vehicle's own motion is known; a wide spread, or two humps, means clocks that do not agree or a "
        "sensor that drops messages. Every message of the bags ends as paired, as surplus (an image that no sweep was "
        "nearest to: normal for a camera faster than the laser scanner), or as dropped, with the reason."
    )
    ledgers = [_ledger(frames) for frames in shown]
    chart = strips.strips(rows, "image stamp − sweep stamp [ms]", "Time offsets of the images of each camera")
    drawn = figure(tag("div", chart, class_="scroll strips", tabindex="0"), caption)
    return section("pairing", title, tag("p", intro), drawn, *ledgers)


def _tolerances(frames: Frames) -> dict[str, tuple[float, float]]:
    """Where offsets may be by camera, milliseconds; empty where they do not count from the sweep's stamp."""
    options = PairingOptions.from_mapping(frames.summary["options"]["pairing"])
    if options.reference != "stamp":
        return {}
    centers = options.constant_offsets_ns(sorted({entry.rpartition(":")[0] for entry in options.offsets}))
    around = {camera: centers.get(camera, 0) / 1e6 for camera in frames.store.cameras}
    return {c: (at - 1e3 * options.tolerance, at + 1e3 * options.tolerance) for c, at in around.items()}


def _ledger(frames: Frames) -> Html:
    """Where every message of the bags went: paired, surplus or dropped, with reasons, adding up."""
    drives = frames.summary["results"]["drives"].values()
    sums: dict[str, Counter[str]] = {}
    reasons: dict[str, Counter[str]] = {}
    for drive in drives:
        for sensor, counts in drive["sensors"].items():
            counted = {name: counts[name] for name in ("messages", "paired", "surplus")}
            sums.setdefault(sensor, Counter()).update(counted)
            reasons.setdefault(sensor, Counter()).update(counts["dropped"])
    rows = []
    for sensor, total in sums.items():
        lost = reasons[sensor].total()
        accounted = total["paired"] + total["surplus"] + lost
        words = ", ".join(f"{reason}: {count}" for reason, count in reasons[sensor].most_common()) or "–"
        missing = total["messages"] - accounted
        sums_up = "adds up" if not missing else f"{missing} not accounted for"
        rows.append((sensor, total["messages"], total["paired"], total["surplus"], lost, words, sums_up))
    header = (
        "sensor",
        "messages in the bags",
        "paired",
        "surplus",
        "dropped",
        tag("th", "why dropped"),
        tag("th", "check"),
    )
    body = [(*row[:5], tag("td", row[5]), tag("td", row[6])) for row in rows]
    moved = sum(drive["motion"]["compensated"] for drive in drives)
    still = sum(sum(drive["motion"]["not_compensated"].values()) for drive in drives)
    words = f"The vehicle's motion between sweep and image was taken out in {count(moved, 'pair')}, and not in {still}."
    return join([tag("h3", f"Every message of {frames.path.name}"), table(header, body), tag("p", words)])


def frames_section(sources: Sources) -> Html:
    """Proposals over the image, and the sweep from above in the same colours, for several drives and cameras."""
    intro = tag(
        "p",
        "A sweep is one turn of the laser scanner. Its points are split into ground and proposals: groups of "
        "points that hang together, most of them one thing each. Projected into the camera, a proposal becomes "
        "a region. Left, regions over the image; right, the same sweep seen from above, driving upwards. One "
        "colour is one proposal in both pictures and says nothing about its class; far from one another, proposals may "
        "share one. Purple without outline is ground.",
    )
    wrong = tag(
        "p",
        "What would be wrong here: regions shifted against the things they belong to (calibration, or image and sweep "
        "from different moments), one colour over several things, or one thing in many colours.",
    )
    shown = [frames for frames in (sources.frames, sources.test) if frames is not None]
    if not shown:
        return section("frames", "Frames: what the scanner saw", absent("No frames were given (--frames)."))
    samples = sources.options.samples
    rows = []
    rooms = (samples - samples // 3, samples // 3) if len(shown) == 2 else (samples,)
    for frames, room in zip(shown, rooms, strict=True):
        rows += [frame_row(frames, key) for key in spread(frames.store.view_keys, max(room, 1))]
    return section("frames", "Frames: what the scanner saw", intro, *rows, wrong)


def frame_row(frames: Frames, key: ViewKey) -> Html:
    """One frame: regions over one camera's image beside the cloud."""
    frame = frames.store.frame(key.drive, key.stamp_ns)
    view = next(v for v in frame.views if v.camera == key.camera)
    objects = int((np.unique(frame.proposals) >= REGION_FIRST_OBJECT).sum())
    seen = np.unique(view.regions)
    visible = int((seen >= REGION_FIRST_OBJECT).sum())
    covered = float((view.regions >= REGION_GROUND).mean())
    colors = neighbour_colors(view.regions, int(frame.proposals.max(initial=1)) + 1)
    over = pictures.regions_over_image(decode(view.image), view.regions, colors)
    height = round(over.shape[0] / over.shape[1] * 800)
    above = pictures.cloud_from_above(
        frame.sweep.xyz, frame.proposals, _reach(frame.sweep.xyz), (480, max(height, 220)), colors=colors
    )
    offset_ms = (view.stamp_ns - key.stamp_ns) / 1e6
    caption = (
        f"{moment(frames.store, key)}: {count(objects, 'proposal')} in {count(len(frame.sweep), 'point')}, "
        f"{visible} of them in this image; regions cover {covered:.0%} of it. Image {abs(offset_ms):.1f} ms "
        f"{'after' if offset_ms >= 0 else 'before'} the sweep's stamp."
    )
    alt = f"Camera image of {key.drive} with {visible} coloured regions"
    content = join(
        [pictures.embedded(over, alt), pictures.embedded(above, f"The same sweep from above, {key.drive}", 480)]
    )
    return figure(tag("div", content, class_="row two"), caption)


def _reach(xyz: NDArray[np.float32]) -> float:
    """Metres ahead that hold nearly everything of interest, 20 to 60."""
    ahead = xyz[xyz[:, 0] > 0, 0]
    return float(np.clip(np.quantile(ahead, 0.97) if len(ahead) else 30, 20, 60))


def classes_section(sources: Sources) -> Html:
    """The contact sheet: samples of every pseudo-class, and how often each occurs."""
    title = "Pseudo-classes: what hangs together by looks and shape"
    frames = sources.frames or sources.test
    if frames is None:
        return section("classes", title, absent("No frames were given, so there are no pseudo-classes to show."))
    labels = LabelStore(frames.path, sources.options.labels)
    if not (labels.path / "contact_sheet.png").is_file():
        return section("classes", title, absent(f"{frames.path} has not been labelled yet (dseg label FRAMES)."))
    results = read_summary(labels.path)["results"]
    classes = labels.classes
    sheet = pictures.read_png(labels.path / "contact_sheet.png")
    blocks = ", ".join(f"{name} ({count(length, 'number')})" for name, length in results["blocks"].items())
    intro = (
        f"{count(results['regions'], 'region')} of {count(results['views'], 'image')} were described by {blocks} and "
        f"grouped into {count(results['clusters'], 'pseudo-class', 'pseudo-classes')} (k-means); ground is one more. "
        "Nobody says what they are: a name is "
        "given once to each, in classes.yaml, and several may share one."
    )
    caption = (
        "Each row is one pseudo-class: number and size, then samples, half of them typical and half any, from drives "
        "and times far apart, the region outlined. Good rows show one kind of thing; a row of mixed things will be one "
        "class in the masks too."
    )
    pixels = np.array(results["pixels_per_cluster"], dtype=np.float64)
    shares = pixels / max(pixels.sum(), 1)
    rows = [
        (entry.name, regions, tables.percent(share))
        for entry, regions, share in zip(classes.entries[1:], results["regions_per_cluster"], shares, strict=True)
    ]
    counts = table(("pseudo-class", "regions", "share of objects' pixels (%)"), rows)
    shown = pictures.embedded(sheet, f"Samples of {results['clusters']} pseudo-classes", 1600, wide=True)
    return section(
        "classes",
        title,
        tag("p", intro),
        figure(tag("div", shown, class_="scroll"), caption),
        details("Sizes of the pseudo-classes", counts),
    )
