"""Policy files: their types, units, strict loading, lint, and what the gate makes of them."""
