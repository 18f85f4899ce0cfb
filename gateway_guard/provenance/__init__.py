"""Provenance: harmless habits and a decoy tool, drawn by key for each cluster, and the check of a suspect model's outputs for them."""
