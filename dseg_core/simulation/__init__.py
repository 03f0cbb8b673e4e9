"""Synthetic drives with ground truth."""
