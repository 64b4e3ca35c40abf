"""Other people's sensors: their MQTT topics (`filters`) and what their messages hold (`formats`). Pure."""
