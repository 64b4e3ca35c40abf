"""Start Home Assistant with its MQTT integration, publish messages, and print what it shows; for Python 3.13.

    python show.py PORT WEB_PORT FOLDER < messages.json > shown.json

`messages.json` holds `announced`, `states` (both retained) and `published`: lists of topic and payload. Home Assistant
shows US units, so that it converts. The answer holds the state, the attributes and the area of each entity, and the
warnings in its log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from homeassistant import bootstrap, loader
from homeassistant.auth import auth_manager_from_config
from homeassistant.components import mqtt
from homeassistant.config_entries import ConfigEntries
from homeassistant.core import HomeAssistant
from homeassistant.helpers import area_registry, device_registry, entity_registry
from homeassistant.setup import async_setup_component
from homeassistant.util.unit_system import US_CUSTOMARY_SYSTEM

WAIT_S = 280
ENTRY = {
    "created_at": "2026-01-01T00:00:00+00:00", "modified_at": "2026-01-01T00:00:00+00:00", "data": {}, "options": {},
    "disabled_by": None, "discovery_keys": {}, "domain": "mqtt", "entry_id": "1", "minor_version": 2,
    "pref_disable_new_entities": False, "pref_disable_polling": False, "source": "user", "subentries": [],
    "title": "MQTT", "unique_id": None, "version": 1,
}  # fmt: skip


class Warnings(logging.Handler):
    """Keeps what Home Assistant warns about in templates, entities and MQTT."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        ours = ("homeassistant.components", "homeassistant.helpers", "homeassistant.util")
        if record.name.startswith(ours) and record.name != "homeassistant.helpers.frame":  # of its own code
            self.lines.append(f"{record.name}: {record.getMessage()}"[:500])


async def show(port: int, web_port: int, folder: Path) -> None:
    """Run Home Assistant until everything was published, and print what it shows."""
    messages = json.load(sys.stdin)
    storage = folder / ".storage"
    storage.mkdir(parents=True, exist_ok=True)
    (folder / "configuration.yaml").touch()
    entry = {**ENTRY, "data": {"broker": "127.0.0.1", "port": port}}
    (storage / "core.config_entries").write_text(
        json.dumps({"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [entry]}})
    )
    logging.basicConfig(level=logging.WARNING)
    warnings = Warnings()
    logging.getLogger().addHandler(warnings)
    hass = HomeAssistant(str(folder))
    hass.config.skip_pip = True
    hass.config.units = US_CUSTOMARY_SYSTEM
    loader.async_setup(hass)
    hass.config_entries = ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth_manager_from_config(hass, [], [])
    assert await async_setup_component(hass, "http", {"http": {"server_host": "127.0.0.1", "server_port": web_port}})
    assert await async_setup_component(hass, "mqtt", {})
    await hass.async_start()
    entities = entity_registry.async_get(hass)
    async with asyncio.timeout(WAIT_S):
        for topic, payload in messages["announced"]:
            await mqtt.async_publish(hass, topic, payload, 1, True)
        for topic, payload in messages["states"]:
            await mqtt.async_publish(hass, topic, payload, 1, True)
        while len(entities.entities) < len(messages["announced"]) or "unavailable" in all_states(hass):
            await heard_all(hass)
        for topic, payload in messages["published"]:
            await mqtt.async_publish(hass, topic, payload, 1, False)
        await heard_all(hass)
    devices, areas = device_registry.async_get(hass), area_registry.async_get(hass)
    shown = {}
    for entity in entities.entities.values():
        state, device = hass.states.get(entity.entity_id), devices.async_get(entity.device_id)
        area = areas.async_get_area(device.area_id) if device and device.area_id else None
        shown[entity.unique_id] = {
            "state": state.state if state else None,
            "attributes": {**state.attributes} if state else {},
            "area": area.name if area else "",
        }
    print(json.dumps({"shown": shown, "warnings": warnings.lines}, default=str))
    await hass.async_stop(force=True)


def all_states(hass: HomeAssistant) -> list[str]:
    """Return the state of each entity; one that has none yet is unavailable."""
    ids = entity_registry.async_get(hass).entities
    return [state.state if (state := hass.states.get(entity)) else "unavailable" for entity in ids]


async def heard_all(hass: HomeAssistant) -> None:
    """Wait until Home Assistant has handled every message so far: its own last one comes back behind them."""
    back = asyncio.Event()
    stop = await mqtt.async_subscribe(hass, "shown/end", lambda _message: back.set(), 1)
    client = hass.data["mqtt"].client
    await hass.async_block_till_done()
    while not back.is_set() or not client.connected or client._pending_subscriptions:
        # It subscribes some time later, and one topic after another: what was published before is not heard.
        await mqtt.async_publish(hass, "shown/end", "end", 1, False)
        await asyncio.sleep(0.2)
    await hass.async_block_till_done()
    stop()


if __name__ == "__main__":
    asyncio.run(show(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
