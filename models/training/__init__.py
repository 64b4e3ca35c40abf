"""How labelled events of all sites become the next release of the heads."""
