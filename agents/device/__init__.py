"""The device agent and its parts."""
