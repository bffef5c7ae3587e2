"""Flows: the assembled program on loopback, between a client and upstreams that do what the test says."""
