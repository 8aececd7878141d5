"""The promises of docs/reliability.md, put to the test on the user's own machine: `openmlops selftest --faults`."""
