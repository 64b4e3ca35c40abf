"""The stream role's processors: routing, counts, summaries and labelled features, inside a Faust app."""
