"""The processes of Tierwise: the roles device, edge, gateway, stream, cloud and trainer, and the command line."""
