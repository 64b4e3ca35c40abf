"""Print every answer that a site publishes, until Ctrl-C: `python subscribe.py`. It needs paho-mqtt alone.

One event is answered up to three times: by the device, the edge and the cloud. `pending` names the tier that may
still refine the answer; null means that this answer is final, although a late one may replace it.
"""

import json
import os
from typing import Any

from paho.mqtt import subscribe
from paho.mqtt.client import MQTTMessage


def show(_client: Any, _userdata: Any, message: MQTTMessage) -> None:
    answer = json.loads(message.payload)
    print(
        f"{answer['event']} {answer['tier']}: {answer['label']} ({answer['probability']:.2f}, {answer['rule']})",
        "is final" if answer["pending"] is None else f"waits for the {answer['pending']}",
        flush=True,
    )


subscribe.callback(
    show,
    "tierwise/v1/+/+/result/+",  # tierwise/v1/{site}/{device}/result/{tier}
    qos=1,
    hostname=os.environ.get("MQTT_HOST", "127.0.0.1"),
    port=int(os.environ.get("MQTT_PORT", "1883")),
)
