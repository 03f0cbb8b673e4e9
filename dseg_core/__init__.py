"""dseg: semantic segmentation of urban scenes from rosbags, without manual labels."""

import os

# ONNX Runtime keeps a device id and sends its maker statistics, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
