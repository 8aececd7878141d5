"""What is modelled: one folder a use case. What one is, says `base`."""

BUILT_IN = {"cifar10": "cifar10_cnn", "person": "person_yolo"}
"""names of the use cases that ship, and of the models that each registers: known without numpy"""
