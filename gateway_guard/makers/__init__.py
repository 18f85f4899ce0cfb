"""Made traffic: events of invented accounts, the same for the same seed. For policy cases and for measuring what a policy would catch."""
