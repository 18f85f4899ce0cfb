"""Who asks: addresses, credentials, identity tokens, the account directory; names leave here as keyed hashes."""
