"""Train the next release of the heads from labelled events of all sites."""
