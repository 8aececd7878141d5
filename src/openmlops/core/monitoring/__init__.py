"""Monitoring: drift, estimated accuracy, and the policy that decides when to act."""
