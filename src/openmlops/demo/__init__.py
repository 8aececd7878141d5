"""`openmlops demo`: the whole loop told as a story on sample data, offline, each line a fact that was checked."""
