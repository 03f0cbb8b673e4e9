"""Scores against truth: counting, matching, the ladder of pseudo-labels, teacher and student, and its baselines."""
