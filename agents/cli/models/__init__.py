"""`tierwise models`: the models of this installation, and your own."""
