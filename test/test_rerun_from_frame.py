"""The pinhole that Rerun gets puts points where our cameras put them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dseg_core.cameras import Camera
from dseg_core.records import EncodedImage, View
from dseg_core.rerun_from_frame import pinhole_from_view

angle = st.floats(-0.3, 0.3)
length = st.floats(-2, 2)


@given(
    st.tuples(angle, angle, angle),
    st.tuples(angle, angle, angle),
    st.tuples(length, length, length),
    length,
    st.booleans(),
)
def test_projects_as_the_camera_does(
    turned: tuple[float, ...], mounted: tuple[float, ...], at: tuple[float, ...], baseline: float, rectified: bool
) -> None:
    """Rectified images' rotation and a stereo pair's second camera included; half a pixel is Rerun's convention."""
    plain = Camera.pinhole("optical", 640, 480, 400.0, 410.0, 300.0, 250.0)
    P = plain.P.copy()
    P[0, 3] = -400.0 * baseline
    camera = replace(plain, R=cv2.Rodrigues(np.array(turned))[0], P=P, rectified=rectified)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(np.array(mounted))[0], at
    view = View("front", EncodedImage(0, "optical", "png", b""), np.zeros((480, 640), np.uint16), camera, T)
    rng = np.random.default_rng(0)
    sweep = rng.uniform((-8, -6, 8), (8, 6, 40), (200, 3)) - at
    uv, visible = camera.project(sweep @ T[:3, :3].T + T[:3, 3])
    K, T_pinhole_sweep = pinhole_from_view(view)
    points = (sweep @ T_pinhole_sweep[:3, :3].T + T_pinhole_sweep[:3, 3]) @ K.T
    assert visible.sum() > 20
    np.testing.assert_allclose((points[:, :2] / points[:, 2:])[visible], uv[visible] + 0.5, atol=1e-6)
