"""The settings that `tierwise up` writes where there are none: one camera and one room, a reason on every line."""

from __future__ import annotations

from typing import Final

STARTER: Final = """\
# Tierwise settings. Every key is told in docs/settings.md; a key that is not known is refused, so nothing here is ignored.
# How far a record may travel in the clear: "public" to the cloud, "edge-private" to this site, "user-private" not off its device.

site = "home"                 # names this site in every topic and result
data = "tierwise-data"        # all that is kept: unsent records, answers, pictures, keys; relative to this file
timezone = "UTC"              # hours of rules, usual hours of readings and days of counts are told in this zone

[mqtt]
address = "embedded"          # one machine needs no broker of its own; "host:1883" or "mqtts://host:8883" uses a real one

[uplink]
address = ""                  # the cloud's parts run on this machine too, so the site's broker is also the uplink's
sealed = []                   # what may not be seen by the cloud does not go there, not even sealed

[kafka]
address = "embedded"          # one machine needs no Kafka of its own; "host:9092" uses a real one

# A camera: mosquitto_pub -t tierwise/v1/home/cam1/frame/garden -f cat.jpg
[streams."cam1/garden"]
task = "wildlife"             # animal, plant, person or other; then the family, then the species
wants = "species"             # ask the cloud once a sighting, since its owner wants to know the species
pixels = "edge-private"       # a picture shows more than the animal: it may not leave this site
feature = "public"            # some 500 bytes that tell species apart and give no recognisable picture back
result = "public"             # "a fox was in the garden" is what this camera is there to tell
reason = "a garden camera for wildlife; a person in the frame makes picture and feature user-private by itself"

# A room: mosquitto_pub -t tierwise/v1/home/room1/reading/temperature -m 21.5
[streams."room1/temperature"]
task = "occupancy"            # usual or not, vacant or occupied, and the hours to come
room = "office"               # streams of one room are looked at together
unit = "Cel"                  # degrees Celsius; other units are converted or refused
reading = "edge-private"      # a room's readings tell when somebody is there
summary = "public"            # the mean of an hour is enough for the cloud's pattern and forecast, and tells far less
result = "edge-private"       # "occupied" is nobody's business outside this site
reason = "comfort and usual hours of a room"

[streams."room1/humidity"]
task = "occupancy"            # as the temperature, on every line below
room = "office"               # the same room
unit = "%RH"                  # relative humidity
reading = "edge-private"      # rises as people breathe
summary = "public"            # an hour's mean
result = "edge-private"       # stays at this site
reason = "comfort and usual hours of a room"

[streams."room1/light"]
task = "occupancy"            # light is the strongest sign that somebody is there
room = "office"               # the same room
unit = "lx"                   # illuminance
reading = "edge-private"      # tells who forgot the lamp, and when
summary = "public"            # an hour's mean
result = "edge-private"       # stays at this site
reason = "comfort and usual hours of a room"

[streams."room1/co2"]
task = "occupancy"            # carbon dioxide follows the number of people
room = "office"               # the same room
unit = "ppm"                  # parts per million
reading = "edge-private"      # counts people, roughly
summary = "public"            # an hour's mean
result = "edge-private"       # stays at this site
reason = "comfort and usual hours of a room"

# A smart meter: mosquitto_pub -t tierwise/v1/home/meter/reading/power -m 412
[streams."meter/power"]
task = "meter"                # unusual use and the hours to come; a meter tells no activity
unit = "W"                    # watts; kW is converted
reading = "edge-private"      # a minute's watts tell which machine runs
summary = "public"            # an hour's mean is what a bill shows
result = "edge-private"       # "unusual" tells that nobody is at home, or that somebody is
reason = "the household's own use of electricity"

# Rules raise levels, never lower them; docs/privacy.md tells how. A person in the frame needs no rule. For example:
# [[rules]]
# name = "our-evenings"         # results name the rule that raised them
# stream = "cam1/*"             # any stream of this device
# hours = "18:00-23:00"         # in the site's own time
# raise = { pixels = "user-private", feature = "user-private" }
# reason = "we sit in the garden then"
"""
