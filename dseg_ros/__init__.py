"""ROS 2 side of dseg: nodes that convert messages, call dseg_core and publish."""
