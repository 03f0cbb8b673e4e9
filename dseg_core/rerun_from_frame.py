"""Frames in Rerun's terms: what is logged of one, under which names, and how the viewer lays it out.

Everything of a drive is below `/DRIVE`, in the sweep's frame (x forward, z up): `points`, `boxes`, and for each camera
`cameras/CAMERA` with its pose and pinhole, `image` and `regions`. Ids are proposals everywhere. Two timelines: `stamp`,
the sweep's, and `frame`, a number counted up in the order of logging.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.boxes_from_proposals import boxes_from_proposals
from dseg_core.image_codecs import region_colors
from dseg_core.records import REGION_FIRST_OBJECT, Frame, View

_CLEAR, _GRAY = (0, 0, 0, 0), (110, 110, 110, 255)

_BEHIND, _AHEAD = (-22.0, 0.0, 13.0), (6.0, 0.0, 0.0)  # where the eye begins, and looks [m]


def pinhole_from_view(view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The pinhole that Rerun draws a view with; a lens that bends lines is left out, since Rerun knows none.

    Returns:
        K float64 (3, 3), pixels, the first pixel's centre at (0.5, 0.5) as Rerun has it; T_pinhole_sweep float64
        (4, 4), which holds rectification and a stereo pair's baseline, too.
    """
    camera = view.calibration
    K = camera.matrix.copy()
    K[:2, 2] += 0.5
    T = np.eye(4)
    if camera.rectified:
        T[:3, :3] = camera.R
        T[:3, 3] = np.linalg.solve(camera.matrix, [camera.P[0, 3], camera.P[1, 3], 0.0])
    return K, T @ view.T_image_sweep


def log_frame(recording: Any, frame: Frame, number: int) -> None:
    """Log all of a frame but the colours, see `log_colors`.

    Args:
        recording: A `rerun.RecordingStream`.
        frame: Logged at its sweep's stamp.
        number: The same on the timeline `frame`.
    """
    import rerun as rr

    recording.set_time("stamp", timestamp=np.datetime64(frame.stamp_ns, "ns"))
    recording.set_time("frame", sequence=number)
    proposals, boxes = frame.proposals, boxes_from_proposals(frame.sweep.xyz, frame.proposals)
    recording.log([frame.drive, "points"], rr.Points3D(frame.sweep.xyz, class_ids=proposals))
    recording.log(
        [frame.drive, "boxes"],
        rr.Boxes3D(
            centers=boxes.centers,
            half_sizes=boxes.sizes / 2,
            quaternions=boxes.quaternions(),
            class_ids=boxes.ids,
            fill_mode="majorwireframe",
            show_labels=False,
        ),
    )
    for view in frame.views:
        _log_view(recording, [frame.drive, "cameras", view.camera], view)


def _log_view(recording: Any, place: list[str], view: View) -> None:
    import rerun as rr

    K, T = pinhole_from_view(view)
    camera, image = view.calibration, view.image
    # Half the memory where ids allow it, as they do in most frames.
    regions = view.regions if view.regions.max(initial=0) > 255 else view.regions.astype(np.uint8)
    recording.log(
        place,
        rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3], relation=rr.TransformRelation.ChildFromParent),
        rr.Pinhole(image_from_camera=K, resolution=(camera.width, camera.height), camera_xyz=rr.ViewCoordinates.RDF),
        rr.AnyValues(image_stamp_ns=image.stamp_ns, motion_compensated=view.motion_compensated),
    )
    recording.log([*place, "image"], rr.EncodedImage(contents=image.data, media_type=f"image/{image.format}"))
    recording.log([*place, "regions"], rr.SegmentationImage(regions, opacity=0.5))


def log_missing(recording: Any, frame: Frame, cameras: Collection[str]) -> None:
    """Take away cameras that a frame has no view of: the viewer would go on showing their latest image."""
    import rerun as rr

    for camera in cameras:
        recording.log([frame.drive, "cameras", camera], rr.Clear(recursive=True))


def log_colors(recording: Any, drive: str, count: int) -> None:
    """Give the proposals 0..count-1 of a drive the colours and names that all pictures of regions have."""
    import rerun as rr

    colors = region_colors(np.arange(count, dtype=np.uint16))
    names = ["none", "ground", *(f"object {i}" for i in range(REGION_FIRST_OBJECT, count))]
    entries = [(i, name, (*map(int, color), 255)) for i, (name, color) in enumerate(zip(names, colors, strict=True))]
    # None is black in pictures: in an image it would hide what is below, in the dark it would not be seen.
    for place, none in (([drive], _CLEAR), ([drive, "points"], _GRAY)):
        recording.log(place, rr.AnnotationContext([(0, "none", none), *entries[1:]]), static=True)


def layout(drives: Mapping[str, Collection[str]], active: str) -> Any:
    """A `rerun.blueprint.Blueprint`: a tab for each drive, the sweep in 3D beside the images of its cameras.

    Args:
        drives: The cameras of each drive.
        active: The drive whose tab is open.
    """
    import rerun as rr
    import rerun.blueprint as rrb

    eye = rrb.EyeControls3D(position=_BEHIND, look_target=_AHEAD, eye_up=(0.0, 0.0, 1.0))
    tabs = []
    for drive, cameras in drives.items():
        root = rr.new_entity_path([drive])
        images = [
            rrb.Spatial2DView(
                origin=rr.new_entity_path([drive, "cameras", camera]),
                contents=["$origin/**", f"{root}/boxes"],
                name=camera,
            )
            for camera in sorted(cameras)
        ]
        sweep = rrb.Spatial3DView(origin=root, contents="$origin/**", name="sweep", eye_controls=eye)
        tabs.append(rrb.Horizontal(sweep, rrb.Grid(*images), column_shares=[3, 2], name=drive))
    shown = rrb.Tabs(*tabs, active_tab=list(drives).index(active)) if len(tabs) > 1 else tabs[0]
    return rrb.Blueprint(shown, rrb.TimePanel(state="collapsed", timeline="stamp"), collapse_panels=True)
