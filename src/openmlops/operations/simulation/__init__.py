"""Simulated client traffic."""
