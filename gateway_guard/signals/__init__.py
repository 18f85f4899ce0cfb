"""Detectors that look at one request and at what the view holds of its account."""
