"""Drift, estimated accuracy, and the policy that decides when to act."""
