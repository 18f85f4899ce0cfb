"""Putting a guard's parts together from its files: the same for a served application, a replay and a test."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx

from gateway_guard.challenge.stepup import StepUpKey
from gateway_guard.errors import PolicyError
from gateway_guard.fingerprint.take import Fingerprinter
from gateway_guard.identity.assemble import identifier
from gateway_guard.identity.directory import CsvDirectory, Lookup
from gateway_guard.identity.keys import FixedKey
from gateway_guard.identity.pseudonyms import Pseudonyms, load_key
from gateway_guard.intake import Intake
from gateway_guard.policy.judge import Rulebook, compile_policy
from gateway_guard.policy.lists import load_lists
from gateway_guard.policy.load import Loaded, load, load_candidate
from gateway_guard.policy.model import Mode, Policy
from gateway_guard.policy.profile import ProvenanceRules
from gateway_guard.provenance.marker import Marker

# Digits of a keyed hash as logs show it.
HASHED = 20


class Parts(NamedTuple):
    """What a gate needs: the loaded policy, the rulebook, the intake, whose names are whose, every file that was read, and who confirms step-ups."""

    loaded: Loaded
    rules: Rulebook
    intake: Intake
    pseudonyms: Pseudonyms
    directory: CsvDirectory | None
    files: tuple[Path, ...]
    operators: dict[str, StepUpKey]


def assemble(
    policy: Path,
    key: bytes,
    *,
    today: datetime.date | None,
    directory: Path | None = None,
    lookup: Lookup | None = None,
    client: Callable[[], httpx.AsyncClient] | None = None,
    mode: Mode | None = None,
    change: Callable[[Policy], Policy] | None = None,
) -> Parts:
    """Load the policy and what it names. Raises PolicyError or DirectoryError.

    `today` decides which exemptions are past their date (None: a log's own days count) · `directory` replaces the one that the policy names,
    `lookup` is the host application's own · `client` makes what fetches key sets, when there are any · `mode` overrides the file's,
    `change` anything else in it: how a policy is tried that is not written yet.
    """
    loaded = load(policy, today=today)
    changes = {"mode": mode} if mode is not None else {}
    if directory is not None:
        changes |= {"identity": loaded.policy.identity.model_copy(update={"directory": str(directory.absolute())})}  # type: ignore[dict-item]
    rules = loaded.policy.model_copy(update=changes)
    rules = change(rules) if change is not None else rules
    folder = policy.parent
    pseudonyms = Pseudonyms(key)
    remote = rules.identity.jwt is not None and rules.identity.jwt.jwks is not None
    who = identifier(rules.identity, pseudonyms, folder=folder, client=client() if client and remote else None, function=lookup)
    lists = [folder / name for name in rules.lists]
    fingerprinter = Fingerprinter(key, load_lists(lists))
    rulebook = _rulebook(rules, loaded.digest, pseudonyms)
    table = who.directory if isinstance(who.directory, CsvDirectory) else None
    files = (*loaded.files, *lists, *([folder / rules.identity.directory] if rules.identity.directory else ()))
    marker = Marker(provenance_key(rules.provenance, folder, key)) if any(profile.marks for profile in rules.profiles.values()) else None
    return Parts(loaded, rulebook, Intake(rules, who, pseudonyms, fingerprinter, marker), pseudonyms, table, files, _operators(rules, folder))


def provenance_key(rules: ProvenanceRules, folder: Path, key: bytes) -> bytes:
    """What marks are drawn with: the key in the policy's file, made when there is none, or one derived from the installation's `key`."""
    return Pseudonyms(key).subkey("gg-provenance") if rules.key_file is None else load_key({}, folder / rules.key_file)


class Beside(NamedTuple):
    """A candidate policy: its rulebook, every file that was read, and what to know of it."""

    rules: Rulebook
    files: tuple[Path, ...]
    warnings: tuple[str, ...]


# The candidate is asked about requests as the active policy has read them, and about the active policy's clusters.
SHARED = ("identity", "lists", "guard", "analysis", "binding")


def candidate_of(active: Policy, path: Path, pseudonyms: Pseudonyms, *, today: datetime.date | None) -> Beside | None:
    """The candidate of the policy in `path`, as if it were enforced; None when it names none. Raises PolicyError."""
    if active.candidate is None:
        return None
    place = path.parent / active.candidate
    if place.resolve() == path.resolve():
        raise PolicyError([f"{path}: `candidate` names this policy itself; name another one"])
    loaded = load_candidate(place, today=today)
    rules = loaded.policy.model_copy(update={"mode": "enforce"})
    differ = [section for section in SHARED if getattr(rules, section) != getattr(active, section)]
    odd = f"{place}: as a candidate it reads requests and finds clusters as the active policy does: its own `{'`, `'.join(differ)}` is not used"
    return Beside(_rulebook(rules, loaded.digest, pseudonyms), loaded.files, (*loaded.warnings, *([odd] if differ else ())))


def _rulebook(rules: Policy, digest: str, pseudonyms: Pseudonyms) -> Rulebook:
    accounts, orgs = _ids(pseudonyms, "account", "credential"), _ids(pseudonyms, "org")
    return compile_policy(rules, digest, account_ids=accounts, org_ids=orgs, seed=pseudonyms.text("moments", "").encode())


def _operators(policy: Policy, folder: Path) -> dict[str, StepUpKey]:
    """The keys that verify step-ups, by challenge. PolicyError when one cannot be used."""
    keys = {}
    for name, rule in policy.challenges.items():
        step = rule.step_up
        if step is not None:
            found = FixedKey.load(folder / step.key_file, [step.algorithm], f"challenges.{name}.step_up.key_file").find("", step.algorithm)
            assert found is not None  # noqa: S101 - for the type checker: it was loaded for this algorithm
            keys[name] = StepUpKey(found.material, step.algorithm)
    return keys


def _ids(pseudonyms: Pseudonyms, *kinds: str) -> Callable[[str], list[str]]:
    """A policy names accounts as the operator's directory does, by key, or by the hash that logs show."""

    def ids(name: str) -> list[str]:
        literal = [name] if len(name) == HASHED else []
        return literal + [pseudonyms.text(kind, name) for kind in kinds]

    return ids
