/* The C interface of shm-transport: attach to a host as a guest.
 *
 * Link with -lshm_ffi. Every function may be called from any thread, with the rules for two
 * threads and one handle that `shm_guest` states. No function unwinds, calls back, changes a
 * signal's handling or raises SIGPIPE. All functions but the last few return a `shm_status`;
 * `shm_last_error` has the sentence that belongs to it.
 *
 * Waits are in milliseconds: 0 does not wait, a negative number waits for as long as it takes.
 * A wait ends early when the host dies.
 */

#ifndef SHM_H
#define SHM_H

/* Made from src/ by cbindgen: see cbindgen.toml. A test keeps it current. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/*
 What a call came to. The numbers stay.
 */
enum shm_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     It is done.
     */
    SHM_STATUS_OK = 0,
    /*
     There is something to receive now: do not wait for the descriptor.
     */
    SHM_STATUS_READY = 1,
    /*
     Nothing to receive now.
     */
    SHM_STATUS_EMPTY = 2,
    /*
     No room to send now.
     */
    SHM_STATUS_FULL = 3,
    /*
     The time is over. Nothing was sent, received or attached.
     */
    SHM_STATUS_TIMED_OUT = 4,
    /*
     The next message is larger than the buffer. It is still there, and its size is reported.
     */
    SHM_STATUS_BUFFER_TOO_SMALL = 5,
    /*
     The message is larger than the link's largest.
     */
    SHM_STATUS_TOO_LARGE = 6,
    /*
     Another thread is in such a call with the same handle, or died in one.
     */
    SHM_STATUS_BUSY = 7,
    /*
     This handle was detached: all that is left is to free it.
     */
    SHM_STATUS_DETACHED = 8,
    /*
     The handle was made by the process that this one was forked from, and only that one can
     use it. Free it or leave it.
     */
    SHM_STATUS_FORKED = 9,
    /*
     A null pointer, a path that is not one, a length that cannot be.
     */
    SHM_STATUS_INVALID_ARGUMENT = 10,
    /*
     A defect of this library. The handle stays busy; free it.
     */
    SHM_STATUS_PANICKED = 11,
    /*
     Something newer than this interface; the message says what.
     */
    SHM_STATUS_OTHER = 12,
    /*
     The host said goodbye, and all that it had sent was received.
     */
    SHM_STATUS_DEPARTED = 20,
    /*
     The host is dead, and all that it had sent was received.
     */
    SHM_STATUS_PEER_DEAD = 21,
    /*
     The host threw this guest out.
     */
    SHM_STATUS_EVICTED = 22,
    /*
     The host broke the protocol.
     */
    SHM_STATUS_CORRUPT = 23,
    /*
     Nothing stands at the path.
     */
    SHM_STATUS_NO_HOST = 30,
    /*
     A socket stands there and nobody listens: its host is dead.
     */
    SHM_STATUS_HOST_DEAD = 31,
    /*
     Whatever stands there is not a hub.
     */
    SHM_STATUS_NOT_A_HUB = 32,
    /*
     The path cannot be used.
     */
    SHM_STATUS_BAD_PATH = 33,
    /*
     Host and guest run as different users.
     */
    SHM_STATUS_NOT_PERMITTED = 34,
    /*
     The host speaks another version of the protocol.
     */
    SHM_STATUS_VERSION = 35,
    /*
     All the host's places for guests are taken.
     */
    SHM_STATUS_HUB_FULL = 36,
    /*
     The place that was kept for this guest is not any more.
     */
    SHM_STATUS_STALE_TICKET = 37,
    /*
     The host is leaving or died during the attach.
     */
    SHM_STATUS_HOST_GONE = 38,
    /*
     This process was not started by a host, or has attached already.
     */
    SHM_STATUS_NOT_SPAWNED = 39,
    /*
     What the host handed over is not what it said.
     */
    SHM_STATUS_BAD_HOST = 40,
    /*
     No memory is left.
     */
    SHM_STATUS_OUT_OF_MEMORY = 50,
    /*
     The file system in memory is full.
     */
    SHM_STATUS_OUT_OF_SPACE = 51,
    /*
     No descriptor is left.
     */
    SHM_STATUS_OUT_OF_DESCRIPTORS = 52,
    /*
     The operating system refused something else.
     */
    SHM_STATUS_OS = 53,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum shm_status shm_status;
#else
typedef int32_t shm_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 A guest that is attached to a host: an opaque handle.

 Any thread may use it. One thread may send while another one receives; what belongs to
 receiving is `shm_guest_receive`, `shm_guest_try_receive`, `shm_guest_arm`,
 `shm_guest_disarm` and `shm_guest_missed`. A call that meets another of its own kind, and a
 detach that meets any, returns `SHM_STATUS_BUSY` at once and changes nothing.
 `shm_guest_free` is the exception: the caller makes sure that no other call is under way and
 none follows.

 A child that was forked cannot use the handle of its parent (`SHM_STATUS_FORKED`).
 */
typedef struct shm_guest shm_guest;

/*
 Who is at the other end of a link, and what the link carries.
 */
typedef struct shm_peer {
    /*
     The host's process, 0 if it is not visible in this pid namespace.
     */
    uint32_t host_pid;
    /*
     This guest's place in the hub, and how often it was given away: the host knows the guest
     by these two.
     */
    uint32_t index;
    /*
     See `index`.
     */
    uint32_t epoch;
    /*
     The largest message that goes the fastest way, in bytes.
     */
    uint64_t inline_max;
    /*
     The largest message, in bytes.
     */
    uint64_t max_message;
} shm_peer;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 The sentence for the last call on this thread that did not return `SHM_STATUS_OK`: what went
 wrong and what to do next. Empty if there was none; never null. It is valid until the next
 call of this library on this thread.
 */
const char *shm_last_error(void);

/*
 Attaches to the host at `path`, waiting for its answer, and puts the new handle into `guest`.

 A host of another user is refused, unless it is root's.

 # Safety

 `path` points to a string that ends with a zero byte, `guest` to memory for a pointer.
 */
shm_status shm_guest_attach(const char *path, int64_t timeout_ms, struct shm_guest **guest);

/*
 Attaches to the host that started this process and gave it a socket, and puts the new handle
 into `guest`. This works once.

 # Safety

 `guest` points to memory for a pointer.
 */
shm_status shm_guest_attach_inherited(int64_t timeout_ms, struct shm_guest **guest);

/*
 Sends a message of `length` bytes, waiting for room. When it returns `SHM_STATUS_OK`, the
 host receives the message, whatever happens to this process next; otherwise nothing was
 sent.

 # Safety

 `guest` is a handle that was not freed. `message` points to `length` bytes; it may be null if
 there are none.
 */
shm_status shm_guest_send(const struct shm_guest *guest,
                          const void *message,
                          size_t length,
                          int64_t timeout_ms);

/*
 Sends a message if there is room now, else returns `SHM_STATUS_FULL`.

 The descriptor does not tell when there is room.

 # Safety

 As for `shm_guest_send`.
 */
shm_status shm_guest_try_send(const struct shm_guest *guest,
                              const void *message,
                              size_t length);

/*
 Copies the next message into `buffer` and its size in bytes into `length`, waiting for one.

 If it is larger than `capacity`, the call returns `SHM_STATUS_BUFFER_TOO_SMALL`, `length` has
 the size that is needed, and the message is still there. Only a message without bytes fits a
 buffer without bytes. With any other status `length` stays as it is.

 # Safety

 `guest` is a handle that was not freed. `buffer` points to `capacity` bytes that nobody else
 uses meanwhile; it may be null if there are none. `length` points to memory for a size.
 */
shm_status shm_guest_receive(const struct shm_guest *guest,
                             void *buffer,
                             size_t capacity,
                             size_t *length,
                             int64_t timeout_ms);

/*
 Copies the next message into `buffer` if one is there, else returns `SHM_STATUS_EMPTY`.
 Otherwise as `shm_guest_receive`.

 # Safety

 As for `shm_guest_receive`.
 */
shm_status shm_guest_try_receive(const struct shm_guest *guest,
                                 void *buffer,
                                 size_t capacity,
                                 size_t *length);

/*
 Puts the descriptor for poll(2), select(2) and epoll(7) into `descriptor`. It is the
 library's: do not read, write or close it. It is valid until the handle is detached or freed.

 It says nothing by itself; see `shm_guest_arm`.

 # Safety

 `guest` is a handle that was not freed, `descriptor` points to memory for an `int`.
 */
shm_status shm_guest_descriptor(const struct shm_guest *guest, int *descriptor);

/*
 Prepares for waiting with poll(2): `SHM_STATUS_OK` says that there is nothing to receive now
 and that the descriptor becomes readable (`POLLIN`) when there is, or when the link ends.
 `SHM_STATUS_READY` says that there is something to receive already, which the descriptor may
 never tell: receive it.

 A loop receives until `SHM_STATUS_EMPTY`, arms, polls if that returned `SHM_STATUS_OK`,
 disarms, and begins again. The descriptor may become readable for nothing. Between an arm and
 its disarm, receive nothing.

 # Safety

 `guest` is a handle that was not freed.
 */
shm_status shm_guest_arm(const struct shm_guest *guest);

/*
 Ends the waiting that `shm_guest_arm` prepared for, and makes the descriptor quiet again.

 # Safety

 `guest` is a handle that was not freed.
 */
shm_status shm_guest_disarm(const struct shm_guest *guest);

/*
 Says who is at the other end, and what the link carries.

 # Safety

 `guest` is a handle that was not freed, `peer` points to memory for a `shm_peer`.
 */
shm_status shm_guest_peer(const struct shm_guest *guest, struct shm_peer *peer);

/*
 Says how many messages the host has dropped for want of room instead of sending them here.
 After a message was received, all that were dropped before it are counted.

 # Safety

 `guest` is a handle that was not freed, `count` points to memory for a number.
 */
shm_status shm_guest_missed(const struct shm_guest *guest, uint64_t *count);

/*
 Says goodbye, waits until the host has read everything that was sent, and closes the link.
 The link is closed with any status but `SHM_STATUS_BUSY`, `SHM_STATUS_FORKED` and
 `SHM_STATUS_INVALID_ARGUMENT`; the handle is still to be freed.

 # Safety

 `guest` is a handle that was not freed.
 */
shm_status shm_guest_detach(const struct shm_guest *guest, int64_t timeout_ms);

/*
 Frees a handle; null is left alone. A link that was not detached is closed: the host still
 receives what was sent, and learns of the end.

 # Safety

 `guest` is null or a handle that was not freed, no other call with it is under way, and none
 follows.
 */
void shm_guest_free(struct shm_guest *guest);

/*
 The name of a status in words, for logs; never null, and valid for ever.
 */
const char *shm_status_name(int32_t status);

/*
 The version of this library, such as "0.1.0"; valid for ever.
 */
const char *shm_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SHM_H */
