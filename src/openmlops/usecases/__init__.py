"""Use cases, one folder each. `base` defines what a use case is."""

BUILT_IN = {"cifar10": "cifar10_cnn", "person": "person_yolo"}
"""name of each built-in use case -> name of its registered model; importable without numpy"""
