"""HiSLIP (IVI-6.1): the bridge as an instrument on the network."""

from firmware_bridge.hislip.server import MAX_CLIENTS, HislipServer

__all__ = ["MAX_CLIENTS", "HislipServer"]
