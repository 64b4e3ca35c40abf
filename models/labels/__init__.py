"""The label tree, scores over it, and calibration."""
