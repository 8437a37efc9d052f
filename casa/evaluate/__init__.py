"""Scores of detections, tracks, kinematics and whole chains against truth; knows types and tables only."""
