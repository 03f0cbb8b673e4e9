"""What topics' names tell: the camera, and whether its images are rectified."""

from __future__ import annotations

_TRANSPORTS = ("compressed", "ffmpeg", "h264", "h265", "video", "compressed_video")
_IMAGES = ("image_raw", "image_rect", "image_rect_color", "image_color", "image_mono", "image")


def camera_name(topic: str) -> str:
    """A camera's name from its image topic: `/camera/front/image_raw/compressed` -> `camera_front`."""
    return safe_name((without_transport(topic) or _image(topic)).strip("/").replace("/", "_"))


def is_rectified(image_topic: str) -> bool:
    """Whether images are rectified, so that their camera_info's P and R hold: image_proc calls them `image_rect...`.

    All others are as the lens made them, and K and D hold. The camera_info is the same for both, and cannot tell.
    """
    return any(part.startswith("image_rect") or part in ("rect", "rectified") for part in image_topic.split("/"))


def info_topic(image_topic: str) -> str:
    """The camera_info beside an image topic: `/front/image_raw/compressed` -> `/front/camera_info`.

    As image_transport has it, it is beside the image also where that has no namespace: `/image_raw` -> `/camera_info`.
    """
    return without_transport(image_topic) + "/camera_info"


def without_transport(topic: str) -> str:
    """The namespace of a camera: its image topic without what names the image and its transport.

    Empty for `/image_raw`.
    """
    namespace, _, image = _image(topic).rpartition("/")
    return namespace if image in _IMAGES + _TRANSPORTS else f"{namespace}/{image}"


def _image(topic: str) -> str:
    """The topic of which all transports are: `/camera/image_raw/compressed` -> `/camera/image_raw`."""
    parts = topic.strip("/").split("/")
    while len(parts) > 1 and parts[-1] in _TRANSPORTS:
        parts.pop()
    return "/" + "/".join(parts)


def safe_name(name: str) -> str:
    """A name that is one path component: what else it has becomes `_`."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return kept.lstrip(".") or "_"
