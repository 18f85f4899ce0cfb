"""Every error that gateway_guard raises.

GuardError
├── UsageError              a call that cannot be carried out as given (exit code 2)
├── PolicyError             a policy file that is refused; `.problems` lists every one
├── TrafficError            a log or trace that cannot be read
├── DirectoryError          an account directory that cannot be read
├── RequestError            a request that the guard will not pass on; `.status` is the answer's
│   ├── BodyTooLarge        413
│   ├── UnreadableBody      400
│   ├── Unidentified        401
│   ├── ProofRefused        403
│   └── Unavailable         503
└── StoreError              the store failed; `.retryable` says whether asking again can help
"""

from __future__ import annotations

from collections.abc import Sequence


class GuardError(Exception):
    """Base of all; its text is one clear line: where, what, what to do."""


class UsageError(GuardError):
    """The command line, or an argument of the API, does not fit."""


class PolicyError(GuardError):
    """A policy was refused. `problems` holds one line a mistake, each with file:line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class TrafficError(GuardError):
    """An exchange log or a trace cannot be used."""


class DirectoryError(GuardError):
    """An account directory cannot be used."""


class RequestError(GuardError):
    """A request is answered by the guard itself, in the caller's dialect."""

    status = 400
    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        self.message = message
        self.param = param
        super().__init__(message)


class BodyTooLarge(RequestError):
    """The body is longer than the policy's cap."""

    status = 413
    code = "request_too_large"


class UnreadableBody(RequestError):
    """The body is not what the endpoint takes: broken JSON, wrong types, duplicate keys."""

    status = 400
    code = "invalid_request_body"


class Unidentified(RequestError):
    """No usable credential, and the policy does not take anonymous callers."""

    status = 401
    code = "invalid_credentials"


class ProofRefused(RequestError):
    """A proof, or an operator's result, that meets no challenge."""

    status = 403
    code = "proof_refused"


class Unavailable(RequestError):
    """The shared store is down, and the policy serves nobody without it."""

    status = 503
    code = "quotas_unavailable"


class StoreError(GuardError):
    """The store did not answer, or answered nonsense."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        self.retryable = retryable
        super().__init__(message)
