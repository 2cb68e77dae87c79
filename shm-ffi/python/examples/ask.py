"""A guest in an event loop: it asks its host, which sends everything back, several things at once.

``cargo run -p shm-ffi --bin shm-echo-host -- /run/user/1000/echo`` in one terminal, and
``python3 ask.py /run/user/1000/echo`` in another.
"""

from __future__ import annotations

import asyncio
import sys

from shm_transport import Guest


async def receive(guest: Guest) -> bytes:
    """The next message. The loop goes on meanwhile; to cancel this loses nothing."""
    loop = asyncio.get_running_loop()
    while (message := guest.try_receive()) is None:
        if guest.arm():
            readable = asyncio.Event()
            loop.add_reader(guest.fileno(), readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(guest.fileno())
                guest.disarm()
    return message


async def count() -> int:
    """Something else that the loop does."""
    turns = 0
    try:
        while True:
            await asyncio.sleep(0)
            turns += 1
    except asyncio.CancelledError:
        return turns


async def main(path: str) -> None:
    with Guest.attach(path, timeout=30) as guest:
        # Nothing is to come yet: the wait is given up, without a loss.
        try:
            await asyncio.wait_for(receive(guest), timeout=0.01)
            raise AssertionError("nobody was asked")
        except asyncio.TimeoutError:
            pass
        other = asyncio.create_task(count())
        for number in range(100):
            guest.send(f"question {number}".encode(), timeout=30)
            answer = await receive(guest)
            assert answer == f"question {number}".encode(), answer
        other.cancel()
        turns = await other
        print(f"100 answers, and {turns} turns of the loop for others")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
