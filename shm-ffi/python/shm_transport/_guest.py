from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Union

from ._errors import Busy, Departed, Detached, Forked, Status
from ._library import PeerStruct, check, library

#: What can be sent: bytes, however they are kept.
Bytes = Union[bytes, bytearray, memoryview]

#: A call that waits looks after so many milliseconds whether a signal came (Ctrl-C), or a close.
_SLICE_MS = 100
_FOR_EVER = -1
#: What fits here is received by one call.
_BUFFER = 64 << 10


@dataclass(frozen=True)
class Peer:
    """Who is at the other end, and what the link carries."""

    #: The host's process, 0 if it is not visible in this pid namespace.
    host_pid: int
    #: This guest's place in the hub.
    index: int
    #: How often that place was given away.
    epoch: int
    #: The largest message that goes the fastest way, in bytes.
    inline_max: int
    #: The largest message, in bytes.
    max_message: int


class Guest:
    """A process that is attached to a host.

    Times are in seconds; ``None`` waits for as long as it takes. Every wait ends early when the
    host dies, and can be interrupted by a signal: what its handler raises, such as
    ``KeyboardInterrupt``, can cost the message that was being received. Any number of threads may share a guest: one
    sends and one receives at a time, the others wait for their turn.

    A guest is a context manager, and an iterator over what the host sends until it says goodbye.
    A child that was forked cannot use its parent's guests.
    """

    def __init__(self, handle: int) -> None:
        """Use :meth:`attach` or :meth:`attach_inherited`."""
        self._handle = handle
        self._pid = os.getpid()
        self._closed = False
        # Whoever uses the handle has one of these, and whoever frees it both.
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self._buffer = ctypes.create_string_buffer(_BUFFER)
        self._size = ctypes.c_size_t()
        # Also when this module's names are gone, at the interpreter's end.
        self._free = library.shm_guest_free
        descriptor, peer = ctypes.c_int(), PeerStruct()
        check(library.shm_guest_descriptor(handle, ctypes.byref(descriptor)))
        check(library.shm_guest_peer(handle, ctypes.byref(peer)))
        self._descriptor = descriptor.value
        #: Who is at the other end.
        self.peer: Peer = Peer(
            peer.host_pid, peer.index, peer.epoch, peer.inline_max, peer.max_message
        )

    @classmethod
    def attach(cls, path: Union[str, bytes, os.PathLike[str]], timeout: float = 5.0) -> Guest:
        """Attaches to the host at ``path``."""
        handle = ctypes.c_void_p()
        check(library.shm_guest_attach(os.fsencode(path), _ms(timeout), ctypes.byref(handle)))
        assert handle.value is not None
        return cls(handle.value)

    @classmethod
    def attach_inherited(cls, timeout: float = 5.0) -> Guest:
        """Attaches to the host that started this process. This works once."""
        handle = ctypes.c_void_p()
        check(library.shm_guest_attach_inherited(_ms(timeout), ctypes.byref(handle)))
        assert handle.value is not None
        return cls(handle.value)

    def send(self, message: Bytes, timeout: float | None = None) -> None:
        """Sends a message, waiting for room. When it returns, the host receives the message,
        whatever happens to this process next; when it raises, nothing was sent."""
        data = _bytes(message)
        with _Turn(self, self._sending, timeout) as turn:
            turn.wait(lambda ms: library.shm_guest_send(self._handle, data, len(data), ms))

    def try_send(self, message: Bytes) -> bool:
        """Sends a message if there is room now, and returns whether there was."""
        data = _bytes(message)
        with _Turn(self, self._sending, 0):
            status = library.shm_guest_try_send(self._handle, data, len(data))
            if status == Status.FULL:
                return False
            check(status)
            return True

    def receive(self, timeout: float | None = None) -> bytes:
        """The next message, waiting for one."""
        with _Turn(self, self._receiving, timeout) as turn:
            size, handle = self._size, self._handle
            status = turn.wait(
                lambda ms: library.shm_guest_receive(
                    handle, self._buffer, _BUFFER, ctypes.byref(size), ms
                ),
                Status.BUFFER_TOO_SMALL,
            )
            return self._received(status)

    def try_receive(self) -> bytes | None:
        """The next message if one is there."""
        with _Turn(self, self._receiving, 0):
            status = library.shm_guest_try_receive(
                self._handle, self._buffer, _BUFFER, ctypes.byref(self._size)
            )
            if status == Status.EMPTY:
                return None
            if status != Status.BUFFER_TOO_SMALL:
                check(status)
            return self._received(status)

    def _received(self, status: int) -> bytes:
        """What is in the buffer, or what was too large for it."""
        if status == Status.OK:
            return ctypes.string_at(self._buffer, self._size.value)
        large = ctypes.create_string_buffer(self._size.value)
        size = ctypes.byref(self._size)
        check(library.shm_guest_try_receive(self._handle, large, len(large), size))
        return large.raw

    def fileno(self) -> int:
        """The descriptor for ``selectors`` and event loops: it becomes readable as :meth:`arm`
        says. Do not read, write or close it."""
        self._check_usable()
        return self._descriptor

    def arm(self) -> bool:
        """Prepares for waiting on the descriptor: ``True`` if there is nothing to receive now and
        the descriptor becomes readable when there is; call :meth:`disarm` after that, before
        anything else is received. ``False`` if there is something to receive already."""
        with _Turn(self, self._receiving, 0):
            status = library.shm_guest_arm(self._handle)
            if status == Status.READY:
                return False
            check(status)
            return True

    def disarm(self) -> None:
        """Ends the waiting that :meth:`arm` prepared for."""
        with _Turn(self, self._receiving, 0):
            check(library.shm_guest_disarm(self._handle))

    @property
    def missed(self) -> int:
        """How many messages the host has dropped instead of sending them here."""
        count = ctypes.c_uint64()
        with _Turn(self, self._receiving, 0):
            check(library.shm_guest_missed(self._handle, ctypes.byref(count)))
        return count.value

    def detach(self, timeout: float | None = None) -> None:
        """Says goodbye, waits until the host has read everything that was sent, and closes the
        guest, which is closed also when this raises. Calls of other threads end with
        :class:`Detached`."""
        self._check_usable()
        self._closed = True
        with self._sending, self._receiving:
            try:
                check(library.shm_guest_detach(self._handle, _ms(timeout)))
            finally:
                self._release()

    def close(self) -> None:
        """Closes the guest without waiting: the host still receives what was sent. Calls of other
        threads end with :class:`Detached`."""
        self._closed = True
        if self._pid != os.getpid():
            # The locks may be held for ever by threads that only the parent has.
            self._release()
            return
        with self._sending, self._receiving:
            self._release()

    def _release(self) -> None:
        handle, self._handle = self._handle, 0
        if handle:
            self._free(handle)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                message = self.receive()
            except Departed:
                return
            yield message

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Not there if the attach failed.
        if getattr(self, "_handle", 0):
            self.close()

    def __repr__(self) -> str:
        if self._closed:
            return "<Guest, closed>"
        return f"<Guest, {self.peer}>"

    def _check_usable(self) -> None:
        if self._pid != os.getpid():
            raise Forked(
                "this guest is of the process that forked this one: attach anew here",
                Status.FORKED,
            )
        if self._closed:
            raise Detached("this guest is closed: attach anew", Status.DETACHED)


class _Turn:
    """A thread's turn to send or to receive."""

    def __init__(self, guest: Guest, lock: threading.Lock, timeout: float | None) -> None:
        self._guest, self._lock, self._timeout = guest, lock, timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    def __enter__(self) -> _Turn:
        self._guest._check_usable()
        if not self._lock.acquire(timeout=-1 if self._timeout is None else self._timeout):
            raise Busy("another thread is in such a call: wait for it", Status.BUSY)
        try:
            self._guest._check_usable()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, call: Callable[[int], int], also: int = Status.OK) -> int:
        """Repeats a call in slices, until it is done or the time is over."""
        while True:
            left = _SLICE_MS if self._end is None else _ms(self._end - time.monotonic())
            status = call(min(left, _SLICE_MS))
            if status in (Status.OK, also):
                return status
            if status != Status.TIMED_OUT or left <= _SLICE_MS and self._end is not None:
                check(status)
            self._guest._check_usable()


def _ms(seconds: float | None) -> int:
    return _FOR_EVER if seconds is None else max(0, math.ceil(seconds * 1000))


def _bytes(message: Bytes) -> bytes:
    if isinstance(message, bytes):
        return message
    if isinstance(message, (bytearray, memoryview)):
        return bytes(message)
    raise TypeError(f"a message is bytes, not {type(message).__name__}")
