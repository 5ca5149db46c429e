"""Connecting to a Dask cluster: an existing one, or processes of this machine; needs the extra `dask`."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from rotinv.system.errors import UserError, require_extra

_PATIENCE = 60  # seconds until a cluster must have a worker


def processes(address: str) -> int:
    """The N of an address local:N, or 0 for a scheduler's address. Raises UserError if N is no number."""
    if not address.startswith("local:"):
        return 0
    number = address.removeprefix("local:")
    if not number.isdecimal() or not int(number):
        raise UserError(f"--dask {address}: local:N wants a number of processes, as local:2")
    return int(number)


def threads_each(address: str) -> int | None:
    """The threads of each process of local:N, which share this machine's cores.

    None for a scheduler's address, since each of its workers knows its own number.
    """
    count = processes(address)
    return max(1, (os.cpu_count() or 1) // count) if count else None


def own_threads(dask_worker: Any) -> int:
    """On a worker: how many threads it may compute with, since several workers may share a machine.

    Client.run passes the worker to an argument with this name.
    """
    import numba

    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # made at run time
    return int(min(dask_worker.state.nthreads, most))


def least_threads(address: str) -> int:
    """The number of threads of the worker that has the fewest. Raises UserError as `connected` does."""
    with connected(address) as client:
        return min(client.run(own_threads).values())


@contextlib.contextmanager
def connected(address: str, plugin: Any = None) -> Iterator[Any]:
    """Give a client of the cluster, on whose workers `plugin` is installed.

    Raises UserError if the extra is missing, or if the cluster has no worker within a minute.
    """
    dask, count = require_extra("distributed", "dask", f"--dask {address}"), processes(address)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # else Dask logs each worker that dies
    with contextlib.ExitStack() as stack:
        where = address
        if count:
            where = stack.enter_context(
                dask.LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,
                    dashboard_address=":0",
                    silence_logs=logging.CRITICAL,
                )
            )
        try:
            client = stack.enter_context(dask.Client(where, timeout=_PATIENCE, set_as_default=False))
            client.wait_for_workers(1, timeout=_PATIENCE)
            if plugin is not None:
                client.register_plugin(plugin)
        except UserError:
            raise
        except Exception as error:  # Dask's, the network's, or a worker's that lacks this package
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"--dask {address}: no cluster to work on ({reason})") from error
        yield client
