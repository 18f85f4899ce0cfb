"""Where debts are kept."""
