"""`tierwise demo`: the whole system on this machine, with real photos and simulated sensors.

Nothing here is a shortcut: frames and readings are published over MQTT to the same roles that `tierwise up` starts.
"""
