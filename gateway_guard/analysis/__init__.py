"""The analyst: turns events, off to the side, into views."""
