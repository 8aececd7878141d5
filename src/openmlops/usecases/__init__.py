"""What is modelled: one folder a use case. What one is, says `base`."""

BUILT_IN = ("cifar10", "person")
"""names of the use cases that ship"""
