"""The time from command to first iteration, with the kernels compiled already and without."""

import processes

READY = "ready after"  # what rotinv.train says when its first step is done


def test_start_of_a_training(time_process, tmp_path):
    store = processes.make_store(tmp_path / "store.h5", 2000, 100)

    def command(name):
        return ["rotinv.train", "--data", str(store), "--iterations", "20", "--out", str(tmp_path / name)]

    cold = time_process(command("cold"), cache=tmp_path / "cache", until=READY)
    warm = time_process(command("warm"), cache=tmp_path / "cache", until=READY)
    assert warm["to_first_step"] < cold["to_first_step"]
