"""Prepare a deployment before its parts start: logins, certificates, broker configuration, rights.

`tierwise init` makes every secret once. `tierwise provision` gives each login its rights at a running Kafka and
InfluxDB. `tierwise credentials` prints the logins that a person needs. The compose stack runs the first two as
services that the others wait for::

    logins.py        tables of all logins and their rights
    certificates.py  a certificate authority, and the server certificates that it signs
    vault.py         the folder of secrets, with one folder for each service
    mosquitto.py     mosquitto.conf, passwords and access rules, from the tables
    kafka.py         server.properties, from the tables
    influx.py        buckets, retention and one token for each role, through InfluxDB's API
"""
