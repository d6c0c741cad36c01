"""Network work runs in a loop of its own, so that one deadline bounds all of it: name look-up, headers, every byte.

A socket time-out alone would not: a server that sends one byte a second never trips it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end in a fresh thread and loop; also where the caller's thread has a loop (notebooks)."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  # carried to the caller's thread and raised there
            failure.append(error)

    thread = threading.Thread(target=body, name="smartmem-web", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Await a blocking function. When the awaiter is cancelled the thread is left to end by itself.

    `loop.run_in_executor` would not do: leaving the loop waits for the executor's threads, so a name server
    that does not answer would hold the caller past its deadline.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(setter: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            setter(value)

    def body() -> None:
        try:
            outcome: tuple[Callable[[Any], None], Any] = (future.set_result, function(*args))
        except BaseException as error:  # noqa: BLE001  # carried to the awaiter and raised there
            outcome = (future.set_exception, error)
        try:
            loop.call_soon_threadsafe(settle, *outcome)
        except RuntimeError:
            return  # the loop has ended: the deadline passed and nobody waits for this any more

    threading.Thread(target=body, name="smartmem-web-blocking", daemon=True).start()
    return await future
