"""Metrics and decisions as pure functions of numpy arrays and frozen values. No torch, services, clock or environment."""
