"""Tokens as an engine makes them."""

from __future__ import annotations

import ibis
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.analysis.tokens import HASH_BITS, tokens
from gateway_guard.batch.reduction import hashed

VALUES = st.integers(1, 2**63 - 1)


@given(st.lists(VALUES, min_size=1, max_size=50))
def test_a_hash_in_limbs_is_the_analysts_own(values: list[int]) -> None:
    assert [hashed(value) for value in values] == tokens(0, np.array(values, np.uint64)).tolist()


def test_an_engine_works_it_out_alike() -> None:
    values = [1, 2**24 - 1, 2**24, 2**48, 2**62 + 12345, 2**63 - 1]
    connection = ibis.duckdb.connect()
    rows = connection.con.execute(connection.compile(ibis.array(values).unnest().name("v").as_table().mutate(h=lambda t: hashed(t.v)))).fetchall()
    connection.disconnect()
    assert [row[1] for row in rows] == tokens(0, np.array(values, np.uint64)).tolist()
    assert all(row[1] < 2**HASH_BITS for row in rows)
