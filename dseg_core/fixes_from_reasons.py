"""What to do about messages that become no part of a frame, by the reason in their account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dseg_core.frames_from_regions import NO_TRANSFORM
from dseg_core.ledger import Ledger, reasons_in_words
from dseg_core.pairs_from_bag import NO_IMAGE, NO_SWEEP, TOO_FAR
from dseg_core.sensors_from_bag import Sensors

AFTER = "after --max-frames"
"""Why what a run did not come to is in no frame."""

_LAYOUT = "Let the LiDAR's driver write width, height, point_step and fields of the points that are in data"
_ANY = "Look at the messages with `ros2 topic echo`, and mend their driver"
_FIXES = (
    ("header stamp is", "Let the driver set header.stamp"),
    ("encoding", "Record rgb8, bgr8, mono8 or a compressed image"),
    ("compressed image of format", "Record JPEG or PNG"),
    ("camera_info of", "Record the camera_info of these images, not of a cropped or other one"),
    ("cloud without", "Check the LiDAR's driver"),
    ("not x, y, z", "Let the LiDAR's driver write x, y and z as float metres, or choose another --topics.lidar"),
    ("of unknown unit", "Let the LiDAR's driver write x, y and z as float metres"),
    ("lies outside the point", _LAYOUT),
    ("are not unique", "Let the LiDAR's driver name each field once"),
    ("bytes does not fit", _LAYOUT),
    ("no order of beams", "Leave --proposals.method at auto, or give euclidean"),
    ("with step", "Let the camera's driver write width, height and step of the pixels in data"),
    ("must be even", "Record rgb8, bgr8, mono8 or a compressed image"),
    ("too small to have colours", "Record whole images"),
    ("packets that are too many", "Let the LiDAR's driver write a turn of whole packets in each VelodyneScan"),
    ("Velodyne", "Give --topics.velodyne-model, and an HDL-64E's --topics.velodyne-calibration"),
    ("cannot be read from the bag", "Repair the bag, `mcap recover`, or record it anew"),
    ("recorded already", "Remove the repeated messages"),
    ("point times", "Check the unit of the points' times"),
    ("duplicate stamp", "Remove the second publisher of the topic"),
    ("stamp runs backwards", "Record header stamps of the measurement, from one clock"),
    ("outside the chosen times", "Choose other --windows or --events"),
    ("slower than --min-speed", "Lower --min-speed"),
    (NO_TRANSFORM, "Record /tf and /tf_static, or give --topics.calibration"),
    (NO_IMAGE, "Record the cameras while the LiDAR runs"),
    (NO_SWEEP, "Record it while the LiDAR of the sweeps runs"),
    (TOO_FAR, "Raise --pairing.tolerance, or correct its stamps with --pairing.offsets; `dseg inspect` measures them"),
    ("image", "Check the camera's driver and disk: its images are cut off or garbled"),
    ("video format", "Record H.264 or H.265"),
    ("picture", "Record the video from a key frame on, without lost packets"),
    ("video", "Record one video of one codec a topic"),
)


def fix_of(reason: str) -> str:
    """What to do about a reason."""
    return next((fix for start, fix in _FIXES if start in reason), _ANY)


def most_frequent(dropped: Mapping[str, int]) -> str:
    """The reason that most messages have; "" where there is none."""
    return max(dropped, key=lambda reason: dropped[reason], default="")


def unused_sensors(ledger: Ledger, sensors: Sensors) -> Iterator[str]:
    """A note for each camera and further LiDAR that gave nothing to any frame: its counts alone are overlooked."""
    for name, topic in ({camera.name: camera.topic for camera in sensors.cameras} | dict(sensors.others)).items():
        dropped = {reason: number for reason, number in ledger.dropped[name].items() if reason != AFTER}
        if dropped and not ledger.paired[name] and not ledger.reused[name]:
            what = f"no sweep of {name} was merged" if name in sensors.others else f"no image of {name} was used"
            yield f"{what} ({topic}): {reasons_in_words(dropped)}. {fix_of(most_frequent(dropped))}"
