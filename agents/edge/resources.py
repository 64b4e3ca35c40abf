"""The resources that all parts of one edge share: settings, policy, clock, metrics, the store, keys and time series."""

from __future__ import annotations

from dataclasses import dataclass

from agents.edge.store import EdgeStore
from agents.edge.time_series import SiteSeries
from agents.role.telemetry import Metrics
from pipeline.clock import Clock
from pipeline.errors import Rejected
from pipeline.messages import Result, Tier
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.series.writer import Writer
from pipeline.settings.settings import Settings
from pipeline.spool import Item, Spool


@dataclass(frozen=True, slots=True)
class EdgeResources:
    """Opened by `open_resources`; the role closes the series and the spool."""

    settings: Settings
    policy: Policy
    clock: Clock
    metrics: Metrics
    store: EdgeStore
    keyring: Keyring
    series: SiteSeries

    def record(self, *results: Result) -> None:
        """Count published answers of edge and cloud, and write all of them as time series."""
        for result in results:
            if result.tier is not Tier.DEVICE:
                self.metrics.answered(result)
        self.series.results(*results)

    def refuse(self, item: Item, error: Rejected) -> None:
        """Finish a record of the inbox, and publish why it is refused."""
        with self.store.transaction() as tx:
            self.store.send_refusal(error, item.topic, item.payload, tx)
            tx.finish(item)
        self.metrics.refused(error.reason)


def open_resources(settings: Settings, clock: Clock, metrics: Metrics, spool: Spool, writer: Writer) -> EdgeResources:
    """Create the tables and the keys where there are none."""
    store = EdgeStore(settings.site, spool, clock)
    store.open()
    keyring = Keyring.open(settings.data_dir / "keys", create=True)
    return EdgeResources(settings, Policy(settings), clock, metrics, store, keyring, SiteSeries(writer))
