"""Carry signed model releases: publish, mirror, serve, download."""
