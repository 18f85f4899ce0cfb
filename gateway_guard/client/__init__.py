"""For customers of a guarded API: an httpx auth flow that meets challenges."""

from gateway_guard.client.auth import ChallengeAuth

__all__ = ["ChallengeAuth"]
