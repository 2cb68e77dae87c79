/* A guest in C11 that tests the interface from outside: guest PATH TEST. It exits with 0 if all
 * is as it should be, else says what is not. Its host sends everything back. */
#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm.h"

/* Long enough for a busy machine. */
#define WAIT 40000

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__,         \
                    #condition, shm_last_error());                                             \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

#define EXPECT(status, call)                                                                   \
    do {                                                                                       \
        shm_status actual = (call);                                                               \
        if (actual != (status)) {                                                                 \
            fprintf(stderr, "%s:%d: %s is %s: %s\n", __FILE__, __LINE__, #call,                 \
                    shm_status_name(actual), shm_last_error());                                   \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

#define OK(call) EXPECT(SHM_STATUS_OK, call)

static shm_guest *attach(const char *path) {
    shm_guest *guest = NULL;
    OK(shm_guest_attach(path, WAIT, &guest));
    CHECK(guest != NULL);
    return guest;
}

static void leave(shm_guest *guest) {
    OK(shm_guest_detach(guest, WAIT));
    shm_guest_free(guest);
}

/* Bytes that tell every message and every place in it from the others. */
static unsigned char *pattern(size_t number, size_t length) {
    unsigned char *bytes = malloc(length + 1);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)(number * 31 + i + i / 251);
    return bytes;
}

static void echo_once(shm_guest *guest, size_t number, size_t size) {
    unsigned char *sent = pattern(number, size), *received = malloc(size + 1);
    size_t length = 12345;
    CHECK(received != NULL);
    received[size] = 0xa5;
    OK(shm_guest_send(guest, sent, size, WAIT));
    OK(shm_guest_receive(guest, received, size, &length, WAIT));
    CHECK(length == size);
    CHECK(memcmp(sent, received, size) == 0);
    CHECK(received[size] == 0xa5);
    free(sent);
    free(received);
}

/* Sizes of every way: inline, through slots of each class, in memory of its own. */
static void test_echo(shm_guest *guest) {
    const size_t sizes[] = {0,         1,           7,          8,           9,       64,
                            4096,      8192,        8193,       16384,       16385,   65536,
                            (256 << 10) + 1, 1 << 20, (1 << 20) + 1, 5 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        echo_once(guest, i, sizes[i]);
    /* Many under way at once, in order: no more than the rings of both directions hold. */
    for (size_t i = 0; i < 200; i++) {
        unsigned char *sent = pattern(i, i);
        OK(shm_guest_send(guest, sent, i, WAIT));
        free(sent);
    }
    for (size_t i = 0; i < 200; i++) {
        unsigned char *sent = pattern(i, i), received[200];
        size_t length;
        OK(shm_guest_receive(guest, received, sizeof received, &length, WAIT));
        CHECK(length == i && memcmp(sent, received, i) == 0);
        free(sent);
    }
    uint64_t missed = 7;
    OK(shm_guest_missed(guest, &missed));
    CHECK(missed == 0);
}

static void test_peer(shm_guest *guest) {
    shm_peer peer;
    OK(shm_guest_peer(guest, &peer));
    CHECK(peer.host_pid == (uint32_t)getppid());
    CHECK(peer.epoch > 0);
    CHECK(peer.inline_max == 8192);
    CHECK(peer.max_message == 256 << 20);
    CHECK(strcmp(shm_status_name(SHM_STATUS_PEER_DEAD), "peer dead") == 0);
    CHECK(strcmp(shm_status_name(-7), "unknown") == 0);
    CHECK(strlen(shm_version()) >= 5);
}

static void test_small_buffer(shm_guest *guest) {
    const size_t sizes[] = {1, 100, 20000, 2 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i], length = 0;
        unsigned char *sent = pattern(i, size), *received = malloc(size);
        CHECK(received != NULL);
        OK(shm_guest_send(guest, sent, size, WAIT));
        OK(shm_guest_send(guest, "next", 4, WAIT));
        EXPECT(SHM_STATUS_BUFFER_TOO_SMALL,
               shm_guest_receive(guest, received, size - 1, &length, WAIT));
        CHECK(length == size);
        CHECK(strstr(shm_last_error(), "larger") != NULL);
        /* To ask for the size needs no buffer. */
        length = 0;
        EXPECT(SHM_STATUS_BUFFER_TOO_SMALL, shm_guest_try_receive(guest, NULL, 0, &length));
        CHECK(length == size);
        OK(shm_guest_try_receive(guest, received, size, &length));
        CHECK(length == size && memcmp(sent, received, size) == 0);
        char next[4];
        OK(shm_guest_receive(guest, next, 4, &length, WAIT));
        CHECK(length == 4 && memcmp(next, "next", 4) == 0);
        free(sent);
        free(received);
    }
}

/* Receives the next message as a program with a poll loop does. */
static shm_status poll_for(shm_guest *guest, void *buffer, size_t capacity, size_t *length) {
    int descriptor;
    OK(shm_guest_descriptor(guest, &descriptor));
    for (;;) {
        shm_status status = shm_guest_try_receive(guest, buffer, capacity, length);
        if (status != SHM_STATUS_EMPTY)
            return status;
        status = shm_guest_arm(guest);
        if (status == SHM_STATUS_OK) {
            struct pollfd wait = {.fd = descriptor, .events = POLLIN};
            CHECK(poll(&wait, 1, WAIT) == 1);
            OK(shm_guest_disarm(guest));
        } else {
            CHECK(status == SHM_STATUS_READY);
        }
    }
}

static void test_poll(shm_guest *guest) {
    unsigned char received[64];
    /* Nothing was sent, so nothing is to come: armed, the descriptor is quiet. */
    int descriptor;
    OK(shm_guest_descriptor(guest, &descriptor));
    EXPECT(SHM_STATUS_EMPTY, shm_guest_try_receive(guest, received, 64, &(size_t){0}));
    OK(shm_guest_arm(guest));
    struct pollfd wait = {.fd = descriptor, .events = POLLIN};
    CHECK(poll(&wait, 1, 20) == 0);
    OK(shm_guest_disarm(guest));
    for (size_t i = 0; i < 2000; i++) {
        unsigned char *sent = pattern(i, i % 64);
        size_t length;
        OK(shm_guest_send(guest, sent, i % 64, WAIT));
        OK(poll_for(guest, received, sizeof received, &length));
        CHECK(length == i % 64 && memcmp(sent, received, length) == 0);
        free(sent);
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void test_deadline(shm_guest *guest) {
    char buffer[64];
    size_t length = 77;
    double begin = now();
    EXPECT(SHM_STATUS_TIMED_OUT, shm_guest_receive(guest, buffer, sizeof buffer, &length, 30));
    CHECK(now() - begin >= 0.03);
    EXPECT(SHM_STATUS_TIMED_OUT, shm_guest_receive(guest, buffer, sizeof buffer, &length, 0));
    CHECK(length == 77);
    shm_peer peer;
    OK(shm_guest_peer(guest, &peer));
    kill((pid_t)peer.host_pid, SIGSTOP);
    /* What is sent stays in order, and what is refused is not sent. */
    uint32_t sent = 0, got = 0;
    shm_status status;
    while ((status = shm_guest_try_send(guest, &sent, sizeof sent)) == SHM_STATUS_OK)
        sent++;
    CHECK(status == SHM_STATUS_FULL);
    CHECK(sent > 1000);
    begin = now();
    EXPECT(SHM_STATUS_TIMED_OUT, shm_guest_send(guest, &sent, sizeof sent, 30));
    CHECK(now() - begin >= 0.03);
    kill((pid_t)peer.host_pid, SIGCONT);
    for (uint32_t i = 0; i < sent; i++) {
        OK(shm_guest_receive(guest, &got, sizeof got, &length, WAIT));
        CHECK(length == sizeof got && got == i);
    }
    EXPECT(SHM_STATUS_EMPTY, shm_guest_try_receive(guest, &got, sizeof got, &length));
}

/* Without a deadline, too, a wait ends when the host dies; what it had sent comes first. */
static void test_killed(shm_guest *guest, bool with_poll) {
    char buffer[64];
    size_t length = 0;
    OK(shm_guest_send(guest, "one", 3, WAIT));
    EXPECT(SHM_STATUS_BUFFER_TOO_SMALL, shm_guest_receive(guest, NULL, 0, &length, WAIT));
    shm_peer peer;
    OK(shm_guest_peer(guest, &peer));
    kill((pid_t)peer.host_pid, SIGKILL);
    if (with_poll) {
        OK(poll_for(guest, buffer, sizeof buffer, &length));
        CHECK(length == 3);
        EXPECT(SHM_STATUS_PEER_DEAD, poll_for(guest, buffer, sizeof buffer, &length));
    } else {
        OK(shm_guest_receive(guest, buffer, sizeof buffer, &length, -1));
        CHECK(length == 3);
        EXPECT(SHM_STATUS_PEER_DEAD,
               shm_guest_receive(guest, buffer, sizeof buffer, &length, -1));
    }
    CHECK(strstr(shm_last_error(), "dead") != NULL);
    EXPECT(SHM_STATUS_PEER_DEAD, shm_guest_send(guest, "two", 3, -1));
    EXPECT(SHM_STATUS_PEER_DEAD, shm_guest_try_send(guest, "two", 3));
    EXPECT(SHM_STATUS_READY, shm_guest_arm(guest));
    shm_guest_free(guest);
}

static void test_arguments(const char *path, shm_guest *guest) {
    shm_guest *other = (shm_guest *)path;
    size_t length = 5;
    char buffer[4];
    int descriptor;
    const shm_status invalid = SHM_STATUS_INVALID_ARGUMENT;
    EXPECT(invalid, shm_guest_attach(NULL, WAIT, &other));
    EXPECT(invalid, shm_guest_attach(path, WAIT, NULL));
    EXPECT(invalid, shm_guest_attach_inherited(WAIT, NULL));
    EXPECT(SHM_STATUS_NOT_SPAWNED, shm_guest_attach_inherited(WAIT, &other));
    CHECK(other == NULL);
    EXPECT(invalid, shm_guest_send(NULL, "x", 1, 0));
    EXPECT(invalid, shm_guest_send(guest, NULL, 1, 0));
    EXPECT(invalid, shm_guest_send(guest, "x", SIZE_MAX, 0));
    EXPECT(invalid, shm_guest_try_send(NULL, "x", 1));
    EXPECT(invalid, shm_guest_try_send(guest, NULL, 1));
    EXPECT(invalid, shm_guest_receive(NULL, buffer, 4, &length, 0));
    EXPECT(invalid, shm_guest_receive(guest, NULL, 4, &length, 0));
    EXPECT(invalid, shm_guest_receive(guest, buffer, 4, NULL, 0));
    EXPECT(invalid, shm_guest_receive(guest, buffer, SIZE_MAX, &length, 0));
    EXPECT(invalid, shm_guest_try_receive(NULL, buffer, 4, &length));
    EXPECT(invalid, shm_guest_try_receive(guest, buffer, 4, NULL));
    EXPECT(invalid, shm_guest_descriptor(NULL, &descriptor));
    EXPECT(invalid, shm_guest_descriptor(guest, NULL));
    EXPECT(invalid, shm_guest_arm(NULL));
    EXPECT(invalid, shm_guest_disarm(NULL));
    EXPECT(invalid, shm_guest_peer(NULL, &(shm_peer){0}));
    EXPECT(invalid, shm_guest_peer(guest, NULL));
    EXPECT(invalid, shm_guest_missed(NULL, &(uint64_t){0}));
    EXPECT(invalid, shm_guest_missed(guest, NULL));
    EXPECT(invalid, shm_guest_detach(NULL, 0));
    CHECK(strstr(shm_last_error(), "null") != NULL);
    shm_guest_free(NULL);
    CHECK(length == 5);

    EXPECT(SHM_STATUS_NO_HOST, shm_guest_attach("/nowhere/at/all", WAIT, &other));
    CHECK(strstr(shm_last_error(), "/nowhere/at/all") != NULL);
    EXPECT(SHM_STATUS_NOT_A_HUB, shm_guest_attach("/dev/null", WAIT, &other));
    char longer[300];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    EXPECT(SHM_STATUS_BAD_PATH, shm_guest_attach(longer, WAIT, &other));
    EXPECT(SHM_STATUS_BAD_PATH, shm_guest_attach("", WAIT, &other));
    char *large = calloc(1, (256 << 20) + 1);
    CHECK(large != NULL);
    EXPECT(SHM_STATUS_TOO_LARGE, shm_guest_send(guest, large, (256 << 20) + 1, WAIT));
    free(large);
    /* Nothing of all this did the link any harm. */
    echo_once(guest, 3, 100);
    /* A handle that was detached says so to everybody. */
    OK(shm_guest_detach(guest, WAIT));
    EXPECT(SHM_STATUS_DETACHED, shm_guest_send(guest, "x", 1, WAIT));
    EXPECT(SHM_STATUS_DETACHED, shm_guest_receive(guest, buffer, 4, &length, WAIT));
    EXPECT(SHM_STATUS_DETACHED, shm_guest_arm(guest));
    EXPECT(SHM_STATUS_DETACHED, shm_guest_descriptor(guest, &descriptor));
    EXPECT(SHM_STATUS_DETACHED, shm_guest_detach(guest, WAIT));
    OK(shm_guest_peer(guest, &(shm_peer){0}));
    shm_guest_free(guest);
}

#define MESSAGES 20000

static void *send_all(void *guest) {
    for (uint32_t i = 0; i < MESSAGES; i++)
        OK(shm_guest_send(guest, &i, sizeof i, WAIT));
    return NULL;
}

static void *receive_all(void *guest) {
    uint32_t got = 0;
    size_t length;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        OK(shm_guest_receive(guest, &got, sizeof got, &length, WAIT));
        CHECK(length == sizeof got && got == i);
    }
    return NULL;
}

static void *receive_for_ever(void *guest) {
    char buffer[4];
    size_t length;
    shm_status status;
    /* The other thread, which looks whether this one is there, may have its turn just now. */
    do
        status = shm_guest_receive(guest, buffer, sizeof buffer, &length, -1);
    while (status == SHM_STATUS_BUSY);
    CHECK(status == SHM_STATUS_OK);
    CHECK(length == 4 && memcmp(buffer, "last", 4) == 0);
    return NULL;
}

/* One thread sends while another receives; a third is told that it is one too many. */
static void test_threads(shm_guest *guest) {
    pthread_t sender, receiver;
    CHECK(pthread_create(&receiver, NULL, receive_all, guest) == 0);
    CHECK(pthread_create(&sender, NULL, send_all, guest) == 0);
    CHECK(pthread_join(sender, NULL) == 0);
    CHECK(pthread_join(receiver, NULL) == 0);

    CHECK(pthread_create(&receiver, NULL, receive_for_ever, guest) == 0);
    size_t length;
    shm_status status;
    while ((status = shm_guest_try_receive(guest, NULL, 0, &length)) == SHM_STATUS_EMPTY)
        ;
    CHECK(status == SHM_STATUS_BUSY);
    EXPECT(SHM_STATUS_BUSY, shm_guest_arm(guest));
    EXPECT(SHM_STATUS_BUSY, shm_guest_missed(guest, &(uint64_t){0}));
    EXPECT(SHM_STATUS_BUSY, shm_guest_detach(guest, WAIT));
    OK(shm_guest_descriptor(guest, &(int){0}));
    OK(shm_guest_send(guest, "last", 4, WAIT));
    CHECK(pthread_join(receiver, NULL) == 0);
}

/* A child that was forked is told that the handle is not its own, and harms nobody. */
static void test_fork(shm_guest *guest) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char buffer[4];
        size_t length;
        EXPECT(SHM_STATUS_FORKED, shm_guest_send(guest, "x", 1, WAIT));
        EXPECT(SHM_STATUS_FORKED, shm_guest_receive(guest, buffer, 4, &length, WAIT));
        EXPECT(SHM_STATUS_FORKED, shm_guest_arm(guest));
        EXPECT(SHM_STATUS_FORKED, shm_guest_detach(guest, WAIT));
        shm_guest_free(guest);
        exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    echo_once(guest, 1, 1000);
    echo_once(guest, 2, 2 << 20);
}

static void test_inherited(void) {
    shm_guest *guest = NULL, *again;
    OK(shm_guest_attach_inherited(WAIT, &guest));
    EXPECT(SHM_STATUS_NOT_SPAWNED, shm_guest_attach_inherited(WAIT, &again));
    test_peer(guest);
    echo_once(guest, 1, 1);
    leave(guest);
}

int main(int count, char **arguments) {
    if (count != 3)
        return 2;
    const char *path = arguments[1], *test = arguments[2];
    if (strcmp(test, "inherited") == 0) {
        test_inherited();
        return 0;
    }
    shm_guest *guest = attach(path);
    if (strcmp(test, "arguments") == 0) {
        test_arguments(path, guest);
        return 0;
    }
    if (strcmp(test, "killed") == 0 || strcmp(test, "killed, by poll") == 0) {
        test_killed(guest, strcmp(test, "killed") != 0);
        return 0;
    }
    if (strcmp(test, "echo") == 0)
        test_echo(guest);
    else if (strcmp(test, "small buffer") == 0)
        test_small_buffer(guest);
    else if (strcmp(test, "poll") == 0)
        test_poll(guest);
    else if (strcmp(test, "deadline") == 0)
        test_deadline(guest);
    else if (strcmp(test, "threads") == 0)
        test_threads(guest);
    else if (strcmp(test, "fork") == 0)
        test_fork(guest);
    else
        return 2;
    leave(guest);
    return 0;
}
