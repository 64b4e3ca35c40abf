"""Training pictures: views, and frames of camera traps."""
