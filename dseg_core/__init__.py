"""dseg: semantic segmentation of urban scenes from rosbags, without manual labels."""
