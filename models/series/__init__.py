"""Models of sensor readings."""
