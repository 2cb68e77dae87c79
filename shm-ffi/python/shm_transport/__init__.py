"""Messages through shared memory: a process attaches to a host of ``shm-transport`` as a guest.

>>> from shm_transport import Guest
>>> with Guest.attach("/run/user/1000/my-hub", timeout=5) as guest:  # doctest: +SKIP
...     guest.send(b"are you there?", timeout=5)
...     print(guest.receive(timeout=5))

Everything that comes in is copied into ``bytes``: nothing in Python ever looks into memory that
another process can write.
"""

from ._errors import (
    AttachError,
    BadHost,
    BadPath,
    Busy,
    Corrupt,
    Departed,
    Detached,
    Evicted,
    Forked,
    HostDead,
    HostGone,
    HubFull,
    InvalidArgument,
    LinkEnded,
    NoHost,
    NotAHub,
    NotPermitted,
    NotSpawned,
    OutOfDescriptors,
    OutOfMemory,
    OutOfSpace,
    Panicked,
    PeerDead,
    ShmError,
    StaleTicket,
    Status,
    SystemFailure,
    TimedOut,
    TooLarge,
    Version,
)
from ._guest import Guest, Peer
from ._library import version

__all__ = [
    "AttachError",
    "BadHost",
    "BadPath",
    "Busy",
    "Corrupt",
    "Departed",
    "Detached",
    "Evicted",
    "Forked",
    "Guest",
    "HostDead",
    "HostGone",
    "HubFull",
    "InvalidArgument",
    "LinkEnded",
    "NoHost",
    "NotAHub",
    "NotPermitted",
    "NotSpawned",
    "OutOfDescriptors",
    "OutOfMemory",
    "OutOfSpace",
    "Panicked",
    "Peer",
    "PeerDead",
    "ShmError",
    "StaleTicket",
    "Status",
    "SystemFailure",
    "TimedOut",
    "TooLarge",
    "Version",
    "version",
]
