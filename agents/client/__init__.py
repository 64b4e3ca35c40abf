"""MQTT as a person uses it: publish until acknowledged, label, follow answers. For commands, the demo and scripts.

::

    from pathlib import Path
    from agents.client import connect

    with connect() as site:                                    # ./tierwise.toml names the broker and the site
        answer = site.publish_photo(Path("cat.jpg"), "cam1/garden")
        print(answer.label, answer.probability)                # Felis catus 0.93
        site.label(answer.event, "cam1", "Felis catus", by="ann")
        for answer in site.answers():                          # whatever the site's tiers answer from now on
            print(answer.source, answer.label)

What commands read of the files of a role that runs on this machine is read here, too: `edge_reader`, `pictures`,
`trainings`.
"""

from agents.client.site_client import SiteClient, connect

__all__ = ["SiteClient", "connect"]
