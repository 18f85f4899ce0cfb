"""The desk: who has met a challenge gets a pass, which is nobody else's, for its time, once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway_guard.challenge.desk import Desk, Offer, Pass
from gateway_guard.challenge.grants import MemoryGrants
from gateway_guard.challenge.seal import Seal, derived
from gateway_guard.challenge.stepup import StepUpKey
from gateway_guard.challenge.work import PARTS, solve
from gateway_guard.decision import Action, Decision
from gateway_guard.errors import ProofRefused
from gateway_guard.policy.model import Policy
from gateway_guard.ports import Store
from gateway_guard.stores.memory import MemoryStore
from tests.fakes import KEY

NOON = 1_795_000_000.0
WITHIN, LASTS = 900.0, 43_200.0
ALICE, MALLORY, CLUSTER = "a" * 20, "b" * 20, "c-18546ce39512"
OPERATOR = Ed25519PrivateKey.generate()
T = TypeVar("T")


def policy(**changes: Any) -> Policy:
    rules: dict[str, Any] = {
        "challenges": {
            "quick": {"work": {"effort": "1ms"}},
            "hard": {"work": {"effort": "20ms", "algorithm": "scrypt"}},
            "person": {"step_up": {"url": "https://console.example.com/verify?from=api", "key_file": "k", "algorithm": "EdDSA"}, "lasts": "7d"},
        },
        "ladder": [
            {"id": "prove", "at": 1, "do": "challenge", "challenge": "quick"},
            {"id": "sweat", "at": 2, "do": "challenge", "challenge": "hard"},
            {"id": "show", "at": 3, "do": "challenge", "challenge": "person"},
        ],
    }
    return Policy.model_validate({"version": 1, "name": "test", **rules, **changes})


class Office:
    """A desk with its surroundings, and the ways of a caller."""

    def __init__(self, rules: Policy | None = None, *, secret: bytes = KEY, store: Store | None = None, grants: MemoryGrants | None = None) -> None:
        self.store = MemoryStore() if store is None else store
        self.grants = grants or MemoryGrants()
        self.desk = Desk(rules or policy(), secret, self.store, self.grants, {"person": StepUpKey(OPERATOR.public_key(), "EdDSA")})

    def ask(self, ident: str = "d1", *, rung: str = "prove", account: str = ALICE, cluster: str = CLUSTER, at: float = NOON, size: int = 3) -> Offer:
        decision = Decision(ident, at, account, Action.CHALLENGE, Action.CHALLENGE, rung=rung, cluster=cluster)
        return run(self.desk.offer(decision, size, 0.0))

    def redeem(self, proof: str, at: float = NOON + 1) -> Pass:
        return run(self.desk.redeem(proof, at))

    def met(self, token: str = "", *, account: str = ALICE, cluster: str = CLUSTER, at: float = NOON + 2) -> tuple[str, ...]:
        return run(self.desk.met(account, cluster, token, at))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def proof(offer: Offer) -> str:
    assert offer.puzzle is not None
    return solve(offer.puzzle)


def result(offer: Offer, key: Any = OPERATOR, algorithm: str = "EdDSA", **claims: Any) -> str:
    said = {"challenge": offer.token, "met": True, "iat": NOON, "exp": NOON + 300, **claims}
    return jwt.encode({name: held for name, held in said.items() if held is not None}, key, algorithm)


@pytest.mark.parametrize("rung", ["prove", "sweat"])
def test_a_proof_gives_a_pass_for_its_rung(rung: str) -> None:
    office = Office()
    given = office.redeem(proof(office.ask(rung=rung)))
    assert given.expires == NOON + 1 + LASTS
    assert office.met(given.token) == (rung,)
    assert office.met("") == ()


def test_a_pass_cannot_be_moved() -> None:
    """Neither to another account, member of the same cluster or not, nor to another cluster or rung."""
    office = Office()
    token = office.redeem(proof(office.ask())).token
    assert office.met(token, account=MALLORY) == ()
    assert office.met(token, cluster="c-other") == ()
    assert office.met(token, cluster="") == ()
    assert "sweat" not in office.met(token)


def test_a_pass_is_for_one_rung_although_two_ask_for_the_same() -> None:
    ladder = [{"id": ident, "at": at, "do": "challenge", "challenge": "quick"} for ident, at in (("prove", 1), ("again", 2))]
    office = Office(policy(ladder=ladder))
    assert office.met(office.redeem(proof(office.ask())).token) == ("prove",)


def test_names_cannot_be_cut_elsewhere() -> None:
    """`ab` + `c` is not `a` + `bc`."""
    office = Office()
    token = office.redeem(proof(office.ask(account="ab", cluster="c"))).token
    assert office.met(token, account="a", cluster="bc") == ()


def test_a_pass_ends() -> None:
    office = Office()
    token = office.redeem(proof(office.ask())).token
    assert office.met(token, at=NOON + 1 + LASTS - 0.01) == ("prove",)
    assert office.met(token, at=NOON + 1 + LASTS) == (), "also when it was read before"
    assert Office().met(token, at=NOON + 1 + LASTS) == ()


def test_any_worker_of_the_same_key_reads_a_pass_and_no_other() -> None:
    token = Office().redeem(proof(Office().ask())).token
    assert Office().met(token) == ("prove",)
    assert Office(secret=b"another secret, as long as it has to be").met(token) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"passes": {"keys": ["2"]}},
        {"challenges": {**policy().model_dump(exclude_unset=True)["challenges"], "quick": {"work": {"effort": "2ms"}}}},
    ],
)
def test_a_changed_rule_or_key_asks_again(changes: dict[str, Any]) -> None:
    token = Office().redeem(proof(Office().ask())).token
    assert Office(policy(**changes)).met(token) == ()


def test_a_proof_is_taken_once_by_all_workers_that_share_a_store() -> None:
    one, done = Office(), proof(Office().ask())
    two = Office(store=one.store)
    one.redeem(done)
    for office in (one, two):
        with pytest.raises(ProofRefused, match="was met before"):
            office.redeem(done, NOON + WITHIN - 1)


@pytest.mark.parametrize("rung", ["prove", "sweat"])
def test_a_proof_is_taken_once_when_it_comes_many_times_at_once(rung: str) -> None:
    office = Office()
    done = proof(office.ask(rung=rung))

    async def many() -> list[Pass | BaseException]:
        return await asyncio.gather(*(office.desk.redeem(done, NOON + 1) for _ in range(20)), return_exceptions=True)

    assert [isinstance(found, Pass) for found in run(many())].count(True) == 1


def test_no_moment_after_its_end_takes_a_proof_again() -> None:
    """What was spent is forgotten only when the challenge itself is over."""
    office = Office()
    done = proof(office.ask())
    office.redeem(done, NOON)
    for after in (1.0, WITHIN - 0.001, WITHIN, WITHIN + 2.5, WITHIN * 3):
        with pytest.raises(ProofRefused):
            office.redeem(done, NOON + after)


def test_a_shorter_time_to_answer_does_not_open_an_old_challenge_again() -> None:
    office = Office()
    done = proof(office.ask())
    office.redeem(done)
    quick = {"challenges": {**policy().model_dump(exclude_unset=True)["challenges"], "quick": {"work": {"effort": "1ms"}, "within": "10s"}}}
    with pytest.raises(ProofRefused):
        Office(policy(**quick), store=office.store).redeem(done, NOON + 60)


def test_a_full_store_refuses_good_proofs_and_takes_none_twice() -> None:
    office = Office(store=MemoryStore(cap=1))
    proofs = [proof(office.ask(f"d{number}")) for number in range(6)]
    taken = []
    for done in proofs * 2:
        try:
            taken.append(office.redeem(done).token)
        except ProofRefused:
            continue
    assert 1 <= len(taken) <= 2


def test_what_is_wrong_with_a_proof_is_refused() -> None:
    office = Office()
    offer = office.ask()
    good = proof(offer)
    token, _, nonces = good.rpartition("~")
    parts = nonces.split(".")
    wrong = [
        "",
        token,
        f"{token}~{'.'.join(reversed(parts))}",
        f"{token}~{'.'.join(parts[:-1])}",
        f"{token}~{'.'.join([*parts[1:], parts[0]])}",
        f"{token}~{'.'.join([*parts[:-1], '0'])}",
        f"{token[:-1]}~{nonces}",
        f"{office.ask('d2').token}~{nonces}",
        f"{office.ask('d3', rung='show').token}~{nonces}",
        f"{token}~{'.'.join(['0'] * PARTS)}",
    ]
    for attempt in wrong:
        with pytest.raises(ProofRefused):
            office.redeem(attempt)
    assert office.redeem(good).token, "what was wrong did not use the challenge up"


def test_a_challenge_cannot_be_made_easier() -> None:
    """The work is in the signed statement: a solution of an easier puzzle for the same words is not taken."""
    office = Office(policy(challenges={**policy().model_dump(exclude_unset=True)["challenges"], "quick": {"work": {"effort": "1s"}}}))
    offer = office.ask()
    assert offer.puzzle is not None
    with pytest.raises(ProofRefused, match="The proof is wrong"):
        office.redeem(solve(offer.puzzle._replace(work=1)))


def test_a_wrong_memory_hard_proof_uses_its_challenge_up() -> None:
    """Only one part is checked, so whoever leaves parts out must not be able to try again."""
    office = Office(policy(challenges={**policy().model_dump(exclude_unset=True)["challenges"], "hard": {"work": {"effort": "30s", "algorithm": "scrypt"}}}))
    offer = office.ask(rung="sweat")
    attempt = f"{offer.token}~{'.'.join(['0'] * PARTS)}"
    with pytest.raises(ProofRefused, match="The proof is wrong"):
        office.redeem(attempt)
    with pytest.raises(ProofRefused, match="was met before"):
        office.redeem(attempt)


@pytest.mark.parametrize(("at", "taken"), [(NOON + WITHIN - 0.01, True), (NOON + WITHIN, False), (NOON - 59, True), (NOON - 61, False)])
def test_a_challenge_is_for_its_time(at: float, taken: bool) -> None:
    office = Office()
    done = proof(office.ask())
    if taken:
        office.redeem(done, at)
    else:
        with pytest.raises(ProofRefused, match="its time is over"):
            office.redeem(done, at)


def test_a_pass_is_no_challenge_and_a_challenge_no_pass() -> None:
    office = Office()
    offer = office.ask()
    given = office.redeem(proof(offer))
    assert office.met(offer.token) == ()
    with pytest.raises(ProofRefused):
        office.redeem(f"{given.token}~{'.'.join(['0'] * PARTS)}")


def test_who_knows_the_key_of_passes_could_make_one() -> None:
    """The test of the tests: the claims that forgeries are made with are the right ones."""
    office = Office()
    holder = office.desk.holder(ALICE, CLUSTER, "prove")
    claims = {"for": holder, "iat": NOON, "exp": NOON + 9}
    assert office.met(jwt.encode(claims, derived(KEY, "gg-pass", "1"), "HS256", {"kid": "1", "typ": "gg-pass+jwt"})) == ("prove",)
    assert office.met(jwt.encode(claims, KEY, "HS256", {"kid": "1", "typ": "gg-pass+jwt"})) == ()
    assert office.met(Seal(KEY, "gg-challenge", ["1"]).sign(claims)) == ()


def test_a_token_does_not_tell_who_is_taken_for_one() -> None:
    """Members of a cluster get nothing in common to compare, and no names."""
    office = Office()
    tokens = [office.ask("d1").token, office.ask("d2", account=MALLORY).token, office.ask("d3").token]
    claims = [jwt.decode(token, options={"verify_signature": False}) for token in tokens]
    assert claims[0]["for"] != claims[1]["for"]
    assert len({held["to"] for held in claims}) == 3
    for held in claims:
        assert not {ALICE, MALLORY, CLUSTER, "prove"} & {str(value) for value in held.values()}


def test_passes_make_the_next_challenge_of_the_cluster_harder() -> None:
    """Whoever takes many out pays more for the next; a day later one for each member is forgiven; the neighbours pay nothing for it."""
    office = Office()

    def work(ident: str, at: float = NOON, **more: Any) -> int:
        puzzle = office.ask(ident, at=at, **more).puzzle
        assert puzzle is not None
        return puzzle.work

    first = work("d1")
    for number in range(6):
        office.redeem(proof(office.ask(f"e{number}", account=(ALICE, MALLORY)[number % 2])))
    assert work("d2") == pytest.approx(3 * first, rel=0.01), "six passes of three members are two for each"
    assert work("d3", NOON + 86_400) == pytest.approx(2 * first, rel=0.01)
    assert work("d4", cluster="c-neighbours") == first
    assert work("d5", size=30) == pytest.approx(30 * first, rel=0.01)


def test_asking_alone_makes_nothing_harder() -> None:
    """An enemy who sends requests under many accounts cannot make a cluster's challenges dearer without meeting them."""
    office = Office()
    works = {office.ask(f"d{number}").puzzle.work for number in range(50)}  # type: ignore[union-attr]
    assert len(works) == 1
    assert len(office.store) == 0, "nothing is kept before a challenge is met"  # type: ignore[arg-type]


def test_an_operator_confirms_and_the_account_is_served_with_or_without_the_pass() -> None:
    office = Office()
    offer = office.ask(rung="show")
    assert offer.url == f"https://console.example.com/verify?from=api&challenge={offer.token}"
    given = office.redeem(result(offer))
    assert office.met(given.token) == ("show",)
    assert office.met("") == ("show",)
    assert office.met("", account=MALLORY) == ()
    assert office.met("", at=NOON + 1 + 7 * 86_400) == ()
    assert Office().met("") == (), "another process knows by the pass alone"
    assert Office().met(given.token) == ("show",)


def test_what_the_operator_has_not_signed_confirms_nothing() -> None:
    office = Office()
    offer = office.ask(rung="show")
    other = Office().ask("d7", rung="prove")
    for attempt in [
        result(offer, Ed25519PrivateKey.generate()),
        result(offer, b"a shared secret of thirty-two bytes", "HS256"),
        result(offer, OPERATOR.public_key().public_bytes_raw(), "HS256"),
        jwt.encode({"challenge": offer.token, "met": True, "iat": NOON, "exp": NOON + 300}, "", "none"),
        result(offer, met=False),
        result(offer, met="true"),
        result(offer, met=None),
        result(offer, exp=NOON),
        result(offer, exp=None),
        result(offer, iat=NOON + 1000),
        result(offer, challenge=None),
        result(offer, challenge=[offer.token]),
        result(other),
        offer.token,
        "a.b.c",
        "a.\udc80.c",
        "x" * 20_000,
    ]:
        with pytest.raises(ProofRefused):
            office.redeem(attempt)
    assert office.redeem(result(offer)).token


def test_a_result_is_taken_once() -> None:
    office = Office()
    offer = office.ask(rung="show")
    office.redeem(result(offer))
    with pytest.raises(ProofRefused, match="was met before"):
        office.redeem(result(offer, exp=NOON + 200))


def test_grants_are_bounded_and_forget_the_oldest() -> None:
    grants = MemoryGrants(cap=3)
    for number in range(10):
        run(grants.grant(f"h{number}", NOON + 100, NOON))
    assert [run(grants.granted(f"h{number}", NOON)) for number in range(10)] == [False] * 7 + [True] * 3
    run(grants.grant("late", NOON + 300, NOON + 200))
    assert [run(grants.granted(f"h{number}", NOON)) for number in range(7, 10)] == [False] * 3
