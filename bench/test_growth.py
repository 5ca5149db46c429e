"""How cost grows with the size of the work: timed with --benchmark only; --picture draws it."""

import growth
import interleave
import processes
import pytest


@pytest.mark.parametrize("name", growth.SERIES)
def test_time_and_memory_grow_with(time_beside, curve, name):
    series, threads = growth.SERIES[name], growth.threads()[-1]
    # Whoever is first may compile, and that takes memory.
    interleave.time_beside(series.operation.format(series.values[0]), threads, [], rounds=1)
    for value in series.values:
        row = time_beside(series.operation.format(value), threads)
        curve(name, value, row, series.power)


def test_time_falls_with_threads(time_beside, curve):
    for threads in growth.threads():
        curve("threads, training step", threads, time_beside("cap training", threads), -1)


def test_memory_is_flat_in_the_number_of_stamps(time_process, curve, tmp_path):
    """The scoring program needs no more memory for eight times as many stamps (to a tenth)."""
    run = tmp_path / "run"
    train = processes.make_store(tmp_path / "train.h5", 400, 100)
    time_process(["rotinv.train", "--data", str(train), "--iterations", "20", "--out", str(run)])
    memory = []
    for count in growth.STAMPS:
        store = processes.make_store(tmp_path / f"{count}.h5", 100, count)
        row = time_process(["rotinv.score", str(run), str(store), "--out", str(tmp_path / f"{count}.csv")])
        curve("stamps scored by the program", count, row | {"ms": 1e3 * row["seconds"]})
        memory.append(row["memory_mb"])
    assert memory[-1] < 1.1 * memory[0]
