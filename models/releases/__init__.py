"""Signed releases by The Update Framework."""
