"""Linear heads over the backbone's features, and releases of them."""
