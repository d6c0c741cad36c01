"""Servers and helpers that tests start for themselves: each on loopback, each stopped by its own process id."""
