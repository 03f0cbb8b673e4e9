"""Which sensors a recording uses, why, and where they are mounted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dseg_core.bag import Topic
from dseg_core.sensors_from_bag import Sensors
from dseg_core.stage_options import TopicOptions
from dseg_core.transforms import TransformError


def sensor_facts(
    sensors: Sensors, lidar_frame: str, image_frames: Mapping[str, str], options: TopicOptions, topics: Sequence[Topic]
) -> dict[str, Any]:
    """Plain JSON types.

    Args:
        sensors: What frames would be made from.
        lidar_frame: Of the sweeps; empty where there was none.
        image_frames: Of the images, by camera.
        options: What the user chose.
        topics: Of the bag.
    """
    named = {topic.name: topic for topic in topics}
    kind = named[sensors.lidar].type.rpartition("/")[2]
    alone = sum(topic.type == named[sensors.lidar].type and topic.count > 0 for topic in topics) == 1
    why = f"the only {kind}" if alone else "as if it were chosen by --topics.lidar"
    why = "chosen by --topics.lidar" if options.lidar else why
    cameras = []
    for camera in sensors.cameras:
        frame = image_frames.get(camera.name, camera.calibration.frame_id)
        position, looks = None, ""
        try:
            T = sensors.tree.lookup(lidar_frame, frame, 0) if lidar_frame else None
        except TransformError:
            T = None  # nothing static connects them; told as a problem if nothing else does either
        if T is not None:
            position = np.round(T[:3, 3], 3).tolist()
            turn = float(np.rad2deg(np.arctan2(T[1, 2], T[0, 2])))
            looks = f"turned {turn:+.1f} deg from its x axis"
        cameras.append(
            {
                "name": camera.name,
                "topic": camera.topic,
                "type": named[camera.topic].type,
                "frame": frame,
                "size": [camera.calibration.width, camera.calibration.height],
                "model": "rectified" if camera.calibration.rectified else camera.calibration.model,
                "why": "chosen by --topics.cameras" if options.cameras else "it has a camera_info beside it",
                "position": position,
                "looks": looks,
            }
        )
    lidar = {"topic": sensors.lidar, "type": named[sensors.lidar].type, "frame": lidar_frame, "why": why}
    others = [{"name": name, "topic": topic, "type": named[topic].type} for name, topic in sensors.others.items()]
    return {"lidar": lidar, "other_lidars": others, "cameras": cameras, "notes": list(sensors.notes)}
