"""The settings that `tierwise up` writes if there are none: a camera, a room, a meter, and a reason on every line."""

from __future__ import annotations

from typing import Final

STARTER: Final = """\
# Tierwise settings. docs/settings.md describes every key. An unknown key is an error, so no line here is ignored.
# A privacy level says how far a record may travel unencrypted:
# "public": to the cloud. "edge-private": within this site. "user-private": it stays on its device.

site = "home"                 # the name of this site in every topic and result
data = "tierwise-data"        # the folder for unsent records, answers, pictures and keys; relative to this file
timezone = "UTC"              # the time zone of rules, of the usual hours of readings, and of the days of counts

[mqtt]
address = "embedded"          # Tierwise starts a small broker; for your own, write "host:1883" or "mqtts://host:8883"

[uplink]
address = ""                  # empty: edge and cloud use the same broker, since both run on this machine
sealed = []                   # empty: private records never go to the cloud, not even encrypted

[kafka]
address = "embedded"          # Tierwise starts a small Kafka broker; for your own, write "host:9092"

# A camera. Send it a photo: mosquitto_pub -t tierwise/v1/home/cam1/frame/garden -f cat.jpg
[streams."cam1/garden"]
task = "wildlife"             # first animal, plant, person or other; then the family, then the species
wants = "species"             # ask the cloud for the species, once for each sighting
pixels = "edge-private"       # a picture shows more than the animal, so it stays at this site
feature = "public"            # about 500 bytes from which the cloud finds the species, but cannot restore the picture
result = "public"             # the answer, such as "fox", may go to the cloud
reason = "a garden camera for wildlife; a person in the frame makes picture and feature user-private automatically"

# A room. Send it a reading: mosquitto_pub -t tierwise/v1/home/room1/reading/temperature -m 21.5
[streams."room1/temperature"]
task = "occupancy"            # usual or unusual, vacant or occupied, and a forecast of the next hours
room = "office"               # all streams of this room are evaluated together
unit = "Cel"                  # degrees Celsius; other units of temperature are converted
reading = "edge-private"      # single readings reveal when somebody is in the room
summary = "public"            # hourly means are enough for the cloud's forecast, and reveal much less
result = "edge-private"       # whether the room is occupied stays at this site
reason = "comfort and usual hours of a room"

[streams."room1/humidity"]
task = "occupancy"            # the same task as for the temperature
room = "office"               # the same room
unit = "%RH"                  # relative humidity in percent
reading = "edge-private"      # people's breath raises the humidity, so it reveals them
summary = "public"            # hourly means only
result = "edge-private"       # stays at this site
reason = "comfort and usual hours of a room"

[streams."room1/light"]
task = "occupancy"            # light is the strongest sign that somebody is in the room
room = "office"               # the same room
unit = "lx"                   # illuminance in lux
reading = "edge-private"      # reveals when somebody switches the lamp
summary = "public"            # hourly means only
result = "edge-private"       # stays at this site
reason = "comfort and usual hours of a room"

[streams."room1/co2"]
task = "occupancy"            # carbon dioxide follows the number of people
room = "office"               # the same room
unit = "ppm"                  # parts per million
reading = "edge-private"      # reveals roughly how many people are in the room
summary = "public"            # hourly means only
result = "edge-private"       # stays at this site
reason = "comfort and usual hours of a room"

# A smart meter. Send it a reading: mosquitto_pub -t tierwise/v1/home/meter/reading/power -m 412
[streams."meter/power"]
task = "meter"                # usual or unusual use, and a forecast of the next hours
unit = "W"                    # watts; kW is converted
reading = "edge-private"      # single readings reveal which appliance runs
summary = "public"            # hourly means, as on an electricity bill
result = "edge-private"       # unusual use can reveal whether somebody is at home
reason = "the household's own use of electricity"

# Rules raise levels and never lower them; docs/privacy.md explains them. A person in the frame needs no rule.
# An example of a rule (remove the first "#" of each line to use it):
# [[rules]]
# name = "our-evenings"         # results name the rule that raised their level
# stream = "cam1/*"             # all streams of this device
# hours = "18:00-23:00"         # in the time zone above
# raise = { pixels = "user-private", feature = "user-private" }
# reason = "we sit in the garden then"
"""
