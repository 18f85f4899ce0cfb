"""The way back: appeals, acknowledgements, and the file beside the policy that keeps them."""
