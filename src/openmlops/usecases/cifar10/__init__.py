"""CIFAR-10: ten classes of 32x32 colour images, classified by a small convolutional network."""
