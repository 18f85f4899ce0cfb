"""Fingerprints: what is kept of a request's content and client, as keyed integers. No text can be had back from them."""
