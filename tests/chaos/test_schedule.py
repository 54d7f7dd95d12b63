"""A trial follows from its seed alone, and seeds in a row try everything."""

from hypothesis import given
from hypothesis import strategies as st

from chaos.schedule import MOST, PLANTED, ROUND, TARGETS, trial


@given(st.integers(0, 10**9))
def test_a_seed_is_one_trial(seed: int) -> None:
    """Of one to three faults that its target can have, in order, none twice."""
    found = trial(seed)
    assert found == trial(seed) and found.seed == seed
    kinds = [fault.kind for fault in found.faults]
    assert 1 <= len(kinds) <= MOST and len({*kinds}) == len(kinds)
    assert {*kinds} <= {*TARGETS[found.target][found.size]}
    assert [fault.at for fault in found.faults] == sorted(fault.at for fault in found.faults)
    for fault in found.faults:
        assert 0 <= fault.at < 1 and 0 <= fault.amount < 1 and 0 <= fault.rank < found.size
        assert (fault.at == 0) == (fault.kind in PLANTED)


@given(st.integers(0, 10**6))
def test_seeds_in_a_row_try_everything(first: int) -> None:
    """Every fault of every target at every size, in as many trials as there are of these."""
    tried = {
        (found.target, found.size, fault.kind)
        for found in map(trial, range(first, first + len(ROUND)))
        for fault in found.faults
    }
    assert tried == {*ROUND} and len({*ROUND}) == len(ROUND)
