"""Recorded traffic in virtual time, through the same gate that serves live traffic."""
