"""Monitoring of the champion: windows, drift, decisions, and the cycle that acts on them."""
