"""Other gateways' logs and published traces as exchange logs. What a source does not have stays unknown, and is said."""
