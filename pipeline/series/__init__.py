"""Time series for dashboards: points, and the stores that keep them (InfluxDB or SQLite)."""
