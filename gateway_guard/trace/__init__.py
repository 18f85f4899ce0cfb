"""Logs on disk: exchanges, decisions, traces, and the recorder of live traffic."""
