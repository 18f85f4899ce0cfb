"""Measurements: `make bench`. Not part of the tests, since figures depend on the machine; only ratios within one run count."""
