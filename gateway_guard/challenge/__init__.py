"""Challenges: what is asked of a caller before a request is served, and the passes that show that it was met."""
