"""Recipe of the device's small network."""
