"""Decide which model release serves on this machine, try candidates beside it, and swap."""
