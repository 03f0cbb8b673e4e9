"""ROS 2 nodes around `dseg_core`: they convert messages, call it, and publish."""
