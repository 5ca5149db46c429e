"""The training stream: shuffled, resumable, bounded, and the same held in memory or streamed."""

import threading
import time
from itertools import islice

import numpy as np
import pytest

from rotinv.runs.batches import Batches
from rotinv.stamps.pixels import prepare
from rotinv.stamps.splits import Split
from rotinv.stamps.store import StampStore, create_store
from rotinv.system.errors import UserError

COUNT = 1000


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """A split on disk; its labels are random, its stamps all different."""
    path = tmp_path_factory.mktemp("store") / "store.h5"
    rng = np.random.default_rng(1)
    with create_store(path, channels=["a", "b"], size=5) as writer:
        writer.append("train", rng.normal(size=(COUNT, 5, 5, 2)), rng.integers(0, 2, COUNT))
    with StampStore(path) as store:
        yield store.split("train")


@pytest.fixture
def small_pools(monkeypatch):
    """Pools of two blocks, so that 1000 stamps make eight pools."""
    monkeypatch.setattr("rotinv.runs.batches._POOL_STAMPS", 128)


def take(split, count, indices=None, **options):
    with Batches(split, indices, **options) as batches:
        return list(islice(batches, count))


def same(one, other):
    return len(one) == len(other) and all(
        a.tobytes() == b.tobytes() and c.tobytes() == d.tobytes()
        for (a, c), (b, d) in zip(one, other, strict=True)
    )


def which(split, batches, side=None):
    """The indices in the split of the stamps of all batches, in their order; checks the labels."""
    known = {stamp.tobytes(): n for n, stamp in enumerate(prepare(split.raw(0, len(split)), "none", side)[0])}
    found = np.array([known[stamp.tobytes()] for stamps, _ in batches for stamp in stamps])
    np.testing.assert_array_equal(np.concatenate([label for _, label in batches]), split.label[found])
    return found


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 50, 1000, 2300])
def test_every_stamp_comes_once_an_epoch(split, small_pools, hold, batch):
    batches = take(split, -(-2 * COUNT // batch), batch=batch, hold=hold)
    assert all(
        stamps.shape == (batch, 5, 5, 2) and stamps.dtype == np.float32 and label.dtype == np.int32
        for stamps, label in batches
    )
    order = which(split, batches)
    first, second = order[:COUNT], order[COUNT : 2 * COUNT]
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert (first != second).mean() > 0.95 and (first != np.arange(COUNT)).mean() > 0.95


def test_held_and_streamed_batches_are_the_same_bits(split, small_pools):
    assert same(take(split, 70, hold=True), take(split, 70, hold=False))


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("first", [1, 2, 3, 19, 20, 21, 45])
def test_a_run_resumes_at_any_step(split, small_pools, first, hold):
    whole = take(split, 60, hold=hold)
    assert same(take(split, 60 - first, first=first, hold=hold), whole[first:])


def test_resuming_reads_no_more_than_a_few_pools(split, small_pools, monkeypatch):
    read = []
    raw = Split.raw
    monkeypatch.setattr(Split, "raw", lambda self, *where: read.append(len(where[0])) or raw(self, *where))
    take(split, 1, first=10_000, hold=False)
    assert sum(read) <= 6 * 128


def test_seeds_give_different_orders(split, small_pools):
    zero, one = (which(split, take(split, 20, seed=seed)) for seed in (0, 1))
    assert (zero != one).mean() > 0.95
    assert same(take(split, 20, seed=3), take(split, 20, seed=3))


@pytest.mark.parametrize("hold", [False, True])
def test_only_the_chosen_stamps_come(split, small_pools, hold):
    chosen = np.random.default_rng(2).permutation(COUNT)[:333]
    batches = take(split, 9, chosen, batch=37, hold=hold)
    assert sorted(which(split, batches)) == sorted(chosen)
    assert same(batches, take(split, 9, np.sort(chosen), batch=37, hold=hold))


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_fewer_stamps_than_a_batch(split, count, hold):
    batches = take(split, 6, np.arange(count), batch=8, hold=hold)
    order = which(split, batches)
    for epoch in range(len(order) // count):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == list(range(count))


@pytest.mark.parametrize("hold", [False, True])
def test_batches_are_prepared_like_stamps_to_score(split, hold):
    batches = take(split, 20, crop=3, hold=hold)
    assert batches[0][0].shape == (50, 3, 3, 2)
    assert sorted(which(split, batches, 3)) == list(range(COUNT))
    raw = take(split, 1, np.arange(1), batch=1, normalisation="minmax", hold=hold)[0][0]
    assert raw.tobytes() == split.raw(0, 1).tobytes()


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("error", [UserError("the file is damaged"), ValueError("no such row")])
def test_an_error_of_the_thread_reaches_the_consumer(split, small_pools, monkeypatch, hold, error):
    calls = []
    raw = Split.raw

    def fail(self, *where):
        calls.append(where)
        if hold or len(calls) > 3:
            raise error
        return raw(self, *where)

    monkeypatch.setattr(Split, "raw", fail)
    with Batches(split, hold=hold) as batches, pytest.raises(type(error), match=str(error)):
        for _ in islice(batches, 100):
            pass
    assert next(batches, None) is None


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("taken", [0, 1, 30])
def test_closing_ends_the_threads_at_once(split, small_pools, hold, taken):
    before = threading.active_count()
    with Batches(split, hold=hold) as batches:
        list(islice(batches, taken))
        start = time.perf_counter()
    assert time.perf_counter() - start < 1
    assert threading.active_count() == before
    assert next(batches, None) is None
    batches.close()


def test_the_queue_is_bounded(split, small_pools):
    with Batches(split, hold=False) as batches:
        time.sleep(0.3)
        assert batches._queue.qsize() <= 8


def test_stamps_without_labels_or_no_stamps_are_refused(split):
    with pytest.raises(UserError, match="no labels"):
        Batches(Split(split.path, "stamps", np.zeros((3, 5, 5, 2), np.float32)))
    with pytest.raises(UserError, match="no stamps"):
        Batches(split, [])


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """One candidate among each 10 stamps, all different."""
    path = tmp_path_factory.mktemp("store") / "uneven.h5"
    label = np.arange(COUNT) % 10 == 3
    with create_store(path, channels=["a", "b"], size=5) as writer:
        writer.append("train", np.random.default_rng(2).normal(size=(COUNT, 5, 5, 2)), label)
    with StampStore(path) as store:
        yield store.split("train")


@pytest.mark.parametrize("hold", [False, True])
def test_a_balanced_epoch_has_as_much_of_each_class(uneven, small_pools, hold):
    """All of the larger class once, all of the smaller one nine times; another order in the next epoch."""
    batches = take(uneven, 72, batch=50, balanced=True, hold=hold)
    order = which(uneven, batches)
    first, second = order[:1800], order[1800:]
    for epoch in (first, second):
        np.testing.assert_array_equal(np.bincount(epoch), np.where(uneven.label, 9, 1))
    assert (first != second).mean() > 0.9
    shares = [label.mean() for _, label in batches]
    assert 0.25 < min(shares) < max(shares) < 0.75


def test_what_is_left_over_of_a_repetition_is_drawn(uneven):
    """Of 100 candidates and 250 artifacts: 50 candidates come three times, other ones each epoch."""
    chosen = np.concatenate([np.flatnonzero(uneven.label), np.flatnonzero(uneven.label == 0)[:250]])
    order = which(uneven, take(uneven, 20, chosen, batch=50, balanced=True))
    one, two = (np.bincount(part, minlength=COUNT)[uneven.label == 1] for part in np.split(order, 2))
    assert sorted(one) == sorted(two) == [2] * 50 + [3] * 50
    assert not np.array_equal(one, two)


AUGMENTED = {"balanced": True, "augment": ("flips", "shifts")}


def test_balanced_and_changed_batches_are_the_same_bits_held_streamed_and_resumed(uneven, small_pools):
    whole = take(uneven, 80, hold=True, **AUGMENTED)
    assert same(take(uneven, 80, hold=False, **AUGMENTED), whole)
    for first in (1, 20, 43):
        for hold in (False, True):
            assert same(take(uneven, 80 - first, first=first, hold=hold, **AUGMENTED), whole[first:])
    assert not same(take(uneven, 80, seed=1, **AUGMENTED), whole)


def test_streaming_balanced_stamps_reads_each_once_a_pool(uneven, small_pools, monkeypatch):
    read = []
    raw = Split.raw
    monkeypatch.setattr(Split, "raw", lambda self, *where: read.append(len(where[0])) or raw(self, *where))
    take(uneven, 36, batch=50, balanced=True, hold=False)
    assert sum(read) <= COUNT + 12 * 128  # an epoch, and the pools that are read ahead


def test_one_class_is_not_balanced(uneven):
    with pytest.raises(UserError, match="one class only"):
        Batches(uneven, np.flatnonzero(uneven.label), balanced=True)
