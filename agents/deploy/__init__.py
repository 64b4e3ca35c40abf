"""What a deployment needs before its parts can start: logins, certificates, broker configuration, rights.

`tierwise init` makes every secret once; `tierwise provision` gives each login its rights at Kafka and InfluxDB, where
that takes a running server; `tierwise credentials` prints what a person needs. The compose stack runs the first two as
services that the others wait for::

    logins.py        who logs in where, and what each may do there: tables
    certificates.py  an authority of our own, and what it signs
    vault.py         the folder of secrets: made once, kept, one folder a service
    mosquitto.py     mosquitto.conf, its passwords and access rules, from the tables
    kafka.py         server.properties, from the tables
    influx.py        buckets, retention and one token a role, by InfluxDB's own API
"""
