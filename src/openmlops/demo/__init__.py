"""`openmlops demo`: runs the whole loop once on sample data, offline, and checks every reported fact."""
