"""Pixels: decoding, statistics, corruptions, boxes, drawing."""
