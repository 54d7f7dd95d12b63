"""Which split a new image goes into: for any ties, no patient and no near-duplicate ends in two splits."""

from hypothesis import given
from hypothesis import strategies as st

from shards.appending.joining import settle

SPLITS = ("train", "val", "test")


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]], list[set[str]]]:
    """Patients of images, near-duplicates among them, and the splits that each is tied to."""
    count = draw(st.integers(0, 12))
    patients = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    of_patient = draw(st.dictionaries(st.integers(0, 6), st.sampled_from(SPLITS)))
    ties = [
        draw(st.sets(st.sampled_from(SPLITS), max_size=1)) | ({of_patient[p]} if p in of_patient else set())
        for p in patients
    ]
    index = st.integers(0, max(count - 1, 0))
    near = draw(st.lists(st.tuples(index, index), max_size=8)) if count else []
    return patients, near, ties


@given(situations())
def test_whatever_is_joined_is_in_one_split(
    situation: tuple[list[int], list[tuple[int, int]], list[set[str]]],
) -> None:
    patients, near, ties = situation
    splits, aside = settle(patients, near, ties)
    kept = [index for index in range(len(patients)) if index not in aside]
    for index in kept:
        assert ties[index] <= {splits[index]}
    for a in kept:
        for b in kept:
            if patients[a] == patients[b] or (a, b) in near:
                assert splits[a] == splits[b]
    for index, where in aside.items():
        assert splits[index] is None and len(where) > 1
    if all(len(tied) <= 1 for tied in ties) and len(set().union(*ties)) <= 1:
        assert not aside


def test_one_image_of_two_splits_does_not_take_its_patient_along() -> None:
    splits, aside = settle(["p", "p", "q"], [(0, 2)], [{"train"}, {"train", "val"}, set()])
    assert splits == ["train", None, "train"] and aside == {1: {"train", "val"}}


def test_new_images_between_two_splits_are_all_set_aside() -> None:
    splits, aside = settle(["p", "q", "r"], [(0, 1)], [{"train"}, {"val"}, set()])
    assert splits == [None, None, None] and aside.keys() == {0, 1}
