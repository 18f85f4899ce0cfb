"""Deciding on a policy before it meets a customer: policy cases, quotas from benign traffic, and what a policy would catch."""
