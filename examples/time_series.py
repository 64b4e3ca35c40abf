"""Print the last readings and answers that a site keeps: `python time_series.py`, in the folder of `tierwise.toml`.

An edge without InfluxDB keeps its series in one SQLite file. This script only reads it, also while the edge writes.
"""

import time
from datetime import datetime

from pipeline.series.sqlite import LocalStore
from pipeline.settings.settings import Settings

HOUR_S = 3600.0


def main() -> None:
    settings = Settings.load()
    store = LocalStore(settings.data_dir / "edge" / "series.db", settings.edge.keep_days)
    for measurement in ("reading", "result"):
        for point in store.query(measurement, since_s=time.time() - 24 * HOUR_S, limit=20):
            when = datetime.fromtimestamp(point.time_s).strftime("%d %b %H:%M:%S")
            what = point.fields["value"] if measurement == "reading" else point.tags["label"]
            print(when, f"{point.tags['device']}/{point.tags['stream']}", what, point.tags.get("unit", ""))


if __name__ == "__main__":
    main()
