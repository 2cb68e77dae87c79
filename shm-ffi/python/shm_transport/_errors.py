"""The statuses of the C interface, and an exception for each."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """``shm_status`` of ``shm.h``. A test compares the two."""

    OK = 0
    READY = 1
    EMPTY = 2
    FULL = 3
    TIMED_OUT = 4
    BUFFER_TOO_SMALL = 5
    TOO_LARGE = 6
    BUSY = 7
    DETACHED = 8
    FORKED = 9
    INVALID_ARGUMENT = 10
    PANICKED = 11
    OTHER = 12
    DEPARTED = 20
    PEER_DEAD = 21
    EVICTED = 22
    CORRUPT = 23
    NO_HOST = 30
    HOST_DEAD = 31
    NOT_A_HUB = 32
    BAD_PATH = 33
    NOT_PERMITTED = 34
    VERSION = 35
    HUB_FULL = 36
    STALE_TICKET = 37
    HOST_GONE = 38
    NOT_SPAWNED = 39
    BAD_HOST = 40
    OUT_OF_MEMORY = 50
    OUT_OF_SPACE = 51
    OUT_OF_DESCRIPTORS = 52
    OS = 53


class ShmError(Exception):
    """Any failure of this library. Its text says what went wrong and what to do next."""

    def __init__(self, message: str, status: int = Status.OTHER) -> None:
        super().__init__(message)
        #: The number that the C interface returned.
        self.status: int = status


class TimedOut(ShmError, TimeoutError):
    """The time is over. Nothing was sent, received or attached."""


class TooLarge(ShmError, ValueError):
    """The message is larger than the link's largest."""


class Busy(ShmError):
    """Another thread is in such a call."""


class Detached(ShmError):
    """The guest was detached or closed."""


class Forked(ShmError):
    """The guest is of the process that forked this one: attach anew here."""


class InvalidArgument(ShmError, ValueError):
    """An argument that cannot be."""


class Panicked(ShmError):
    """A defect of the library."""


class LinkEnded(ShmError, ConnectionError):
    """The link is over. All that the host had sent was received, unless it evicted this guest or
    broke the protocol."""


class Departed(LinkEnded):
    """The host said goodbye."""


class PeerDead(LinkEnded):
    """The host is dead."""


class Evicted(LinkEnded):
    """The host threw this guest out."""


class Corrupt(LinkEnded):
    """The host broke the protocol."""


class AttachError(ShmError, ConnectionError):
    """The guest did not attach."""


class NoHost(AttachError):
    """Nothing stands at the path."""


class HostDead(AttachError):
    """A socket stands there and nobody listens."""


class NotAHub(AttachError):
    """Whatever stands there is not a hub."""


class BadPath(AttachError):
    """The path cannot be used."""


class NotPermitted(AttachError):
    """Host and guest run as different users."""


class Version(AttachError):
    """The host speaks another version of the protocol."""


class HubFull(AttachError):
    """All the host's places for guests are taken."""


class StaleTicket(AttachError):
    """The place that was kept for this guest is not any more."""


class HostGone(AttachError):
    """The host is leaving or died during the attach."""


class NotSpawned(AttachError):
    """This process was not started by a host, or has attached already."""


class BadHost(AttachError):
    """What the host handed over is not what it said."""


class SystemFailure(ShmError):
    """The operating system refused something."""


class OutOfMemory(SystemFailure, MemoryError):
    """No memory is left."""


class OutOfSpace(SystemFailure):
    """The file system in memory is full."""


class OutOfDescriptors(SystemFailure):
    """No descriptor is left."""


_CLASSES: dict[int, type[ShmError]] = {
    Status.TIMED_OUT: TimedOut,
    Status.TOO_LARGE: TooLarge,
    Status.BUSY: Busy,
    Status.DETACHED: Detached,
    Status.FORKED: Forked,
    Status.INVALID_ARGUMENT: InvalidArgument,
    Status.PANICKED: Panicked,
    Status.DEPARTED: Departed,
    Status.PEER_DEAD: PeerDead,
    Status.EVICTED: Evicted,
    Status.CORRUPT: Corrupt,
    Status.NO_HOST: NoHost,
    Status.HOST_DEAD: HostDead,
    Status.NOT_A_HUB: NotAHub,
    Status.BAD_PATH: BadPath,
    Status.NOT_PERMITTED: NotPermitted,
    Status.VERSION: Version,
    Status.HUB_FULL: HubFull,
    Status.STALE_TICKET: StaleTicket,
    Status.HOST_GONE: HostGone,
    Status.NOT_SPAWNED: NotSpawned,
    Status.BAD_HOST: BadHost,
    Status.OUT_OF_MEMORY: OutOfMemory,
    Status.OUT_OF_SPACE: OutOfSpace,
    Status.OUT_OF_DESCRIPTORS: OutOfDescriptors,
    Status.OS: SystemFailure,
}


def error_of(status: int, message: str) -> ShmError:
    """The exception for a status."""
    return _CLASSES.get(status, ShmError)(message, status)
