"""Brings the brokers of the contract suites to the tests in this folder."""

from mqtt_brokers import mqtt_broker as mqtt_broker
