"""Geometry of LiDAR sweeps: range images, ground, clustering."""
