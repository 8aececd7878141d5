"""Numbers and decisions: numpy and frozen values. No torch, no service, no clock, no environment."""
