"""A file of policy cases, as types."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from gateway_guard.makers.model import AnyMaker
from gateway_guard.policy.model import Day, Period
from gateway_guard.policy.strict import Rules, Share
from gateway_guard.tuning.ranges import CountRange, ShareRange

# In `expect`: every account of the case together. No source may have this name.
ALL = "all"
ActionName: TypeAlias = Literal["allow", "throttle", "degrade", "challenge", "deny"]
Parts: TypeAlias = dict[str, dict[str, Any]]


class Outcomes(Rules):
    """What is expected of one part of the traffic.

    Shares of its requests: `served` (reached the model), and, as if everything in the policy were enforced, `touched` (anything but allow), `refused`,
    `delayed` · shares of its accounts: `touched_accounts` at least once, `clustered` in one and the same cluster at the end · `action` the hardest that
    any request meets, `would` the same as if everything were enforced · `reasons` how many requests have each of these codes.
    """

    served: ShareRange | None = None
    touched: ShareRange | None = None
    refused: ShareRange | None = None
    delayed: ShareRange | None = None
    touched_accounts: ShareRange | None = None
    clustered: ShareRange | None = None
    action: ActionName | None = None
    would: ActionName | None = None
    reasons: dict[str, CountRange] = Field(default_factory=dict)


class LogSource(Rules):
    """A small exchange log or trace, relative to the file; `accounts` its directory."""

    log: str
    accounts: str | None = None


class CalibrationRules(Rules):
    """Made benign `traffic` that the analyst is calibrated on for these cases, within a friction `budget` a week."""

    budget: Share = 0.02
    traffic: Annotated[Parts, Field(min_length=1)]


class CaseRules(Rules):
    """`traffic` by name, each a maker with its parameters or a log; `expect` by the same names, or `all`. `calibrated`: by the file's calibration."""

    id: str
    says: Annotated[str, Field(min_length=3)]
    traffic: Annotated[Parts, Field(min_length=1)]
    calibrated: bool = False
    expect: Annotated[dict[str, Outcomes], Field(min_length=1)]


class CaseFile(Rules):
    """Cases of one policy: `policy` (default: NAME.yaml beside NAME.cases.yaml) · `starts` the day on which the traffic begins, at midnight UTC ·
    `seed` of all chance · `refresh` how often the analyst concludes here (default: as the policy says).
    """

    version: Literal[1]
    policy: str | None = None
    starts: Day = datetime.date(2027, 1, 4)
    seed: Annotated[int, Field(ge=0)] = 1
    refresh: Period | None = None
    calibration: CalibrationRules | None = None
    cases: Annotated[list[CaseRules], Field(min_length=1, max_length=1000)]


Source: TypeAlias = AnyMaker | LogSource
