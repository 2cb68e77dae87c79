"""The C interface, as ``ctypes`` sees it. Calls release the interpreter's lock."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import pathlib

from ._errors import Status, error_of


class PeerStruct(ctypes.Structure):
    """``shm_peer`` of ``shm.h``."""

    _fields_ = [
        ("host_pid", ctypes.c_uint32),
        ("index", ctypes.c_uint32),
        ("epoch", ctypes.c_uint32),
        ("inline_max", ctypes.c_uint64),
        ("max_message", ctypes.c_uint64),
    ]


def _find() -> str:
    """The library: as the environment says, as the wheel brought it, or the system's."""
    named = os.environ.get("SHM_TRANSPORT_LIBRARY")
    if named:
        return named
    for bundled in sorted(pathlib.Path(__file__).parent.glob("_native/*.so")):
        return str(bundled)
    installed = ctypes.util.find_library("shm_ffi")
    if installed:
        return installed
    raise ImportError(
        "libshm_ffi.so is not there: install the wheel, or build it with `cargo build --release "
        "-p shm-ffi` and put its path into SHM_TRANSPORT_LIBRARY"
    )


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(_find())
    guest, size, wait = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
    pointer = ctypes.POINTER
    for name, arguments in {
        "attach": [ctypes.c_char_p, wait, pointer(guest)],
        "attach_inherited": [wait, pointer(guest)],
        "send": [guest, ctypes.c_char_p, size, wait],
        "try_send": [guest, ctypes.c_char_p, size],
        "receive": [guest, ctypes.c_void_p, size, pointer(size), wait],
        "try_receive": [guest, ctypes.c_void_p, size, pointer(size)],
        "descriptor": [guest, pointer(ctypes.c_int)],
        "arm": [guest],
        "disarm": [guest],
        "peer": [guest, pointer(PeerStruct)],
        "missed": [guest, pointer(ctypes.c_uint64)],
        "detach": [guest, wait],
    }.items():
        function = getattr(library, f"shm_guest_{name}")
        function.argtypes, function.restype = arguments, ctypes.c_int32
    library.shm_guest_free.argtypes, library.shm_guest_free.restype = [guest], None
    for name in ("shm_last_error", "shm_version"):
        getattr(library, name).argtypes, getattr(library, name).restype = [], ctypes.c_char_p
    return library


library = _load()


def version() -> str:
    """The version of the library underneath."""
    text: bytes = library.shm_version()
    return text.decode()


def check(status: int) -> None:
    """Raises what a status says. To be called by the thread that made the call, right after."""
    if status != Status.OK:
        text: bytes = library.shm_last_error()
        raise error_of(status, text.decode(errors="replace"))
