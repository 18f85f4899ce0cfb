"""A policy file, as types. What is written here is all that a file may say; every field is honoured by the code."""

from __future__ import annotations

import datetime as _datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from gateway_guard.policy import units
from gateway_guard.policy.profile import BindingRules, Profile, ProvenanceRules
from gateway_guard.policy.strict import Rules, Share

Mode = Literal["shadow", "enforce"]
SignalMode = Literal["enforce", "shadow", "off"]
DialectName = Literal["openai.chat", "openai.responses", "openai.completions", "openai.embeddings", "anthropic.messages"]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"]
Per = Literal["account", "org", "model", "account_model", "plan", "network"]

Duration = Annotated[float, BeforeValidator(units.duration), WithJsonSchema(units.DURATION_SCHEMA)]
Period = Annotated[float, BeforeValidator(units.duration), Field(gt=0), WithJsonSchema(units.DURATION_SCHEMA)]
Size = Annotated[int, BeforeValidator(units.size), WithJsonSchema(units.SIZE_SCHEMA)]
Limit = Annotated[units.Limit, BeforeValidator(units.limit), PlainSerializer(str, return_type=str), WithJsonSchema(units.LIMIT_SCHEMA)]
Amount = Annotated[float, BeforeValidator(units.amount), WithJsonSchema(units.AMOUNT_SCHEMA)]
Money = Annotated[float, BeforeValidator(units.price), WithJsonSchema(units.PRICE_SCHEMA)]
Day = Annotated[_datetime.date, BeforeValidator(units.day), WithJsonSchema(units.DAY_SCHEMA)]


# What `state` says in place of a file's name: it is kept on the server that `store` names.
SHARED = "redis"


class GuardRules(Rules):
    """What is guarded and how a request is read."""

    paths: dict[str, DialectName] = {
        "/v1/chat/completions": "openai.chat",
        "/v1/responses": "openai.responses",
        "/v1/completions": "openai.completions",
        "/v1/embeddings": "openai.embeddings",
        "/v1/messages": "anthropic.messages",
    }
    body_limit: Size = 8 * 2**20
    unreadable: Literal["refuse", "pass"] = "refuse"


class JwtRules(Rules):
    """Identity tokens (RFC 7519). `jwks` is a URL; `key_file` a PEM public key or a shared secret instead of it."""

    issuer: str
    audience: str
    algorithms: Annotated[list[Algorithm], Field(min_length=1)]
    jwks: str | None = None
    key_file: str | None = None
    account: str = "sub"
    org: str | None = None
    plan: str | None = None
    leeway: Duration = 30.0
    refresh: Period = 600.0

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.jwks is None) == (self.key_file is None):
            raise ValueError("give exactly one of `jwks` (a URL) and `key_file`")
        if self.jwks is not None and any(name.startswith("HS") for name in self.algorithms):
            raise ValueError("HS* algorithms take a shared secret and cannot go with `jwks`")
        return self


class HeaderRules(Rules):
    """An identity that a trusted proxy has established and hands over in headers."""

    account: str
    org: str | None = None
    plan: str | None = None


class IdentityRules(Rules):
    """Who asks. Tried in this order: `header` (from a trusted proxy only), `jwt`, API keys."""

    keys: list[Literal["authorization", "x-api-key", "api-key"]] = ["authorization", "x-api-key", "api-key"]
    jwt: JwtRules | None = None
    header: HeaderRules | None = None
    trusted_proxies: list[str] = []
    unknown_keys: Literal["accept", "refuse"] = "accept"
    anonymous: Literal["refuse", "accept"] = "refuse"
    anonymous_plan: str = "anonymous"
    directory: str | None = None


class Trust(Rules):
    """New accounts start at `start` of their plan's quotas and reach the whole after `over`, in a straight line.

    Members of a cluster that harvests stay at `start`.
    """

    start: Share
    over: Period


class Plan(Rules):
    """`scale` multiplies rate and burst of every per-account quota."""

    scale: Annotated[float, Field(gt=0)] = 1.0
    trust: Trust | None = None


class QuotaRule(Rules):
    """`limit` such as `60/min`, `2M tokens/day`, `$50/month`, `8 in flight`; `burst` defaults to the limit's amount."""

    limit: Limit
    burst: Amount | None = None
    per: Per = "account"
    plans: list[str] | None = None
    models: list[str] | None = None
    reserve: Literal["forecast", "asked"] = "forecast"
    spend: Literal["leased", "exact"] = "leased"


class ClusterRules(Rules):
    """A cluster of n accounts shares `n^a` times what one account may use of the quotas named in `share`; a falls from 1 to 0 as confidence rises.

    `minimum`: each member keeps this share of its own quota whatever the others use, so that nobody merged by mistake is starved.
    """

    share: list[str] = []
    minimum: Share = 0.05
    mode: Mode = "enforce"


class AnalysisRules(Rules):
    """The analyst: how often it concludes, how long it remembers, and the calibration (made by `gateway-guard calibrate`) without which it only records."""

    enabled: bool = True
    refresh: Period = 600.0
    calibration: str | None = None
    window: Period = 14 * 86400.0
    half_life: Period = 7 * 86400.0
    smallest: Annotated[int, Field(ge=2)] = 3


class ThrottleRules(Rules):
    """A request that would fit within `wait` is held that long instead of refused; each process releases held requests at `release` at most."""

    wait: Duration = 0.0
    release: Annotated[Limit, Field(validate_default=True)] = "100/s"  # type: ignore[assignment]


class ReservationRules(Rules):
    """`expires`: an unsettled reservation is given back after this. `output`: expected output tokens of an account not seen before."""

    expires: Period = 600.0
    output: Annotated[int, Field(ge=1)] = 500


class Price(Rules):
    """Money for a million tokens."""

    input: Money
    output: Money


class SignalRule(Rules):
    """`weight` times the signal's log-odds, at most `ceiling`."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    ceiling: Annotated[float, Field(gt=0)] = 3.0
    mode: SignalMode = "enforce"


class StepUp(Rules):
    """Where an operator looks at whoever is behind an account, and the key that the result is signed with: a PEM public key or a shared secret."""

    url: str
    key_file: str
    algorithm: Algorithm = "HS256"


class Work(Rules):
    """A proof of work. `effort` is the work that an account alone is asked at the rung's bound, `most` the most that anybody is: time of one plain core."""

    algorithm: Literal["sha256", "scrypt"] = "sha256"
    effort: Period = 0.2
    most: Period = 30.0


class ChallengeRule(Rules):
    """What is to be met before a request is served: `work`, or `step_up` with the operator. `within` is the time to meet it, `lasts` how long that counts."""

    work: Work | None = None
    step_up: StepUp | None = None
    within: Period = 900.0
    lasts: Period = 12 * 3600.0

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.work is None) == (self.step_up is None):
            raise ValueError("give exactly one of `work` (a proof of work; `work: {}` for the usual one) and `step_up`")
        return self


class PassRules(Rules):
    """`path` is where challenges are met. `keys` name the keys that passes are signed with, the first one signs; taking a name out ends its passes."""

    path: str = "/.well-known/gateway-guard/challenge"
    keys: Annotated[list[str], Field(min_length=1)] = ["1"]


class Rung(Rules):
    """From a score of `at` (log-odds) upwards: `do`, with quotas scaled by `scale`.

    `challenge` says what a `challenge` rung asks for; `profile` how a `degrade` rung degrades, or a `challenge` rung once the challenge is met.
    What rests on the analyst's evidence ends `expires` after the last new evidence, and begins at once or for the whole cluster at a moment in each
    hour or day (`apply`).
    `in_flight`: requests of one actor at once. `pace`: at which the events of a stream go out.
    """

    id: str
    at: float
    do: Literal["allow", "throttle", "degrade", "challenge", "deny"]
    profile: str | None = None
    challenge: str | None = None
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    expires: Period = 3 * 86400.0
    apply: Literal["now", "hourly", "daily"] = "now"
    in_flight: Annotated[int, Field(ge=1)] | None = None
    pace: Limit | None = None
    mode: Mode = "enforce"


class Exemption(Rules):
    """Accounts or organisations on whom no action is taken; recording goes on."""

    id: str
    accounts: list[str] = []
    orgs: list[str] = []
    until: Day
    reason: Annotated[str, Field(min_length=3)]

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.accounts and not self.orgs:
            raise ValueError("names nobody: give `accounts` or `orgs`")
        return self


class RecordRules(Rules):
    """Where the live guard writes; relative paths are relative to the policy file."""

    decisions: str | None = None
    exchanges: str | None = None
    audit: str | None = None
    sample: Share = 1.0
    rotate: Size = 256 * 2**20
    keep: Annotated[int, Field(ge=1)] = 8


class AppealRules(Rules):
    """Where accounts appeal against decisions about themselves (null: nowhere), and how often each may."""

    path: str | None = "/.well-known/gateway-guard/appeals"
    limit: Annotated[Limit, Field(validate_default=True)] = "10/day"  # type: ignore[assignment]


class SentinelRules(Rules):
    """Who knows which server leads: `hosts` such as `10.0.0.5:26379`, and the `master` as they call it."""

    master: str
    hosts: Annotated[list[str], Field(min_length=1)]


class TlsRules(Rules):
    """Files in PEM, relative to the policy: who signed the server's certificate, and a certificate of our own."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class StoreRules(Rules):
    """Where debts are shared by all workers: a Redis or Valkey server. Without `url` or `sentinel` they are in the memory of the one worker that there may be.

    `lease` the share of a burst that a worker may spend before it reports · `timeout` what a request waits for the server at most · `down` what happens
    without the server · `workers` how many there are at least, while the server cannot tell · `history` how long events are kept for the analyst's successor.
    """

    url: str | None = None
    cluster: bool = False
    sentinel: SentinelRules | None = None
    tls: TlsRules | None = None
    user: str | None = None
    password_from: str = "GATEWAY_GUARD_STORE_PASSWORD"  # noqa: S105 - the name of a variable
    prefix: str = "gateway_guard"
    lease: Share = 0.02
    flush: Period = 0.005
    timeout: Period = 0.05
    down: Literal["local", "open", "closed"] = "local"
    workers: Annotated[int, Field(ge=1)] = 1
    history: Period = 3600.0


class UpstreamRules(Rules):
    """The stand-alone proxy's side towards the model server."""

    connect_timeout: Period = 5.0
    read_timeout: Period = 600.0
    write_timeout: Period = 30.0
    pool_timeout: Period = 5.0
    connections: Annotated[int, Field(ge=1)] = 1000


class Policy(Rules):
    """One policy file."""

    version: Literal[1]
    name: str
    mode: Mode = "shadow"
    guard: GuardRules = GuardRules()
    identity: IdentityRules = IdentityRules()
    plans: dict[str, Plan] = {}
    default_plan: str = "default"
    quotas: dict[str, QuotaRule] = {}
    clusters: ClusterRules = ClusterRules()
    analysis: AnalysisRules = AnalysisRules()
    throttle: ThrottleRules = ThrottleRules()
    reservation: ReservationRules = ReservationRules()
    prices: dict[str, Price] = {}
    signals: dict[str, SignalRule] = {}
    profiles: dict[str, Profile] = {}
    challenges: dict[str, ChallengeRule] = {}
    passes: PassRules = PassRules()
    binding: BindingRules = BindingRules()
    provenance: ProvenanceRules = ProvenanceRules()
    ladder: list[Rung] = []
    exemptions: list[Exemption] = []
    accounts: Annotated[int, Field(ge=1)] = 1_000_000
    lists: list[str] = []
    record: RecordRules = RecordRules()
    candidate: str | None = None
    state: Annotated[str, Field(description="A file, or `redis`: on the server of `store`.")] | None = None
    appeals: AppealRules = AppealRules()
    store: StoreRules = StoreRules()
    upstream: UpstreamRules = UpstreamRules()


def schema() -> dict[str, Any]:
    """The JSON Schema of a policy file (2020-12)."""
    whole = Policy.model_json_schema(mode="validation")
    paths: dict[str, Any] = {"type": "string", "description": "A policy file, relative to this one."}
    include = {"description": "Files that this one builds on; what it says itself wins.", "anyOf": [paths, {"type": "array", "items": paths}]}
    whole["properties"] = {"include": include, **whole["properties"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}
