"""Decoding of pictures, motion, detection, and the model of each tier."""
