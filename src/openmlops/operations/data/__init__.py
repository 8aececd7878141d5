"""The data set: its versions, downloads and splits, and the labelled production images that extend it."""
