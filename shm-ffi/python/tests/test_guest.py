"""The package against a Rust host in another process. ``cargo test -p shm-ffi --test python`` runs
this; by hand set SHM_ECHO_HOST and SHM_TRANSPORT_LIBRARY to what ``cargo build -p shm-ffi`` made."""

from __future__ import annotations

import os
import pathlib
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import shm_transport
from shm_transport import Guest, Status, _errors

HOST = os.environ["SHM_ECHO_HOST"]
HERE = pathlib.Path(__file__).parent
#: Long enough for a busy machine.
WAIT = 40.0


class EchoHost(unittest.TestCase):
    """A host that sends everything back, for each test."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "hub")
        self.host = subprocess.Popen(
            [HOST, self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.addCleanup(self.end)
        assert self.host.stdout is not None
        self.assertEqual(self.host.stdout.readline(), b"ready\n")

    def end(self) -> None:
        self.host.kill()
        self.host.communicate()

    def attach(self) -> Guest:
        guest = Guest.attach(self.path, timeout=WAIT)
        self.addCleanup(guest.close)
        return guest


class Messages(EchoHost):
    def test_messages_of_every_size_come_back_whole_and_as_bytes(self) -> None:
        guest = self.attach()
        for size in (0, 1, 8, 8192, 8193, 16384, 65536, 65537, 1 << 20, 5 << 20):
            message = bytes((size + place) % 251 for place in range(min(size, 1000))) + bytes(
                max(0, size - 1000)
            )
            guest.send(message, WAIT)
            answer = guest.receive(WAIT)
            self.assertIs(type(answer), bytes)
            self.assertEqual(answer, message)

    def test_whatever_holds_bytes_is_sent_and_what_does_not_is_refused(self) -> None:
        guest = self.attach()
        for message in (b"a\0b", bytearray(b"a\0b"), memoryview(b"xa\0bx")[1:4]):
            guest.send(message, WAIT)
            self.assertEqual(guest.receive(WAIT), b"a\0b")
        for wrong in ("text", 5, None, [1]):
            with self.assertRaises(TypeError):
                guest.send(wrong)  # type: ignore[arg-type]

    def test_a_try_does_not_wait(self) -> None:
        guest = self.attach()
        self.assertIsNone(guest.try_receive())
        self.assertTrue(guest.try_send(b"x"))
        self.assertEqual(guest.receive(WAIT), b"x")
        self.assertEqual(guest.missed, 0)

    def test_a_wait_ends_at_its_deadline_and_what_it_refused_was_not_sent(self) -> None:
        guest = self.attach()
        for wait in (0, 0.02, 0.25):
            begin = time.monotonic()
            with self.assertRaises(TimeoutError) as raised:
                guest.receive(wait)
            self.assertGreaterEqual(time.monotonic() - begin, wait)
            self.assertEqual(raised.exception.status, Status.TIMED_OUT)  # type: ignore[attr-defined]
        self.host.send_signal(signal.SIGSTOP)
        sent = 0
        while guest.try_send(sent.to_bytes(4, "little")):
            sent += 1
        with self.assertRaises(shm_transport.TimedOut):
            guest.send(b"too much", 0.02)
        self.host.send_signal(signal.SIGCONT)
        for number in range(sent):
            self.assertEqual(guest.receive(WAIT), number.to_bytes(4, "little"))
        self.assertIsNone(guest.try_receive())

    def test_a_message_that_is_too_large_says_so(self) -> None:
        guest = self.attach()
        with self.assertRaises(ValueError) as raised:
            guest.send(bytes(guest.peer.max_message + 1))
        self.assertIn("max_message", str(raised.exception))

    def test_a_selector_wakes_up_for_messages_only(self) -> None:
        guest = self.attach()
        with selectors.DefaultSelector() as selector:
            selector.register(guest, selectors.EVENT_READ)
            self.assertTrue(guest.arm())
            self.assertEqual(selector.select(0.01), [])
            guest.disarm()
            for number in range(200):
                guest.send(b"%d" % number, WAIT)
                while (answer := guest.try_receive()) is None:
                    if guest.arm():
                        self.assertTrue(selector.select(WAIT))
                        guest.disarm()
                self.assertEqual(answer, b"%d" % number)

    def test_the_example_of_an_event_loop_runs(self) -> None:
        example = HERE.parent / "examples" / "ask.py"
        output = subprocess.check_output([sys.executable, example, self.path], timeout=2 * WAIT)
        self.assertIn(b"100 answers", output)


class Ends(EchoHost):
    def test_a_killed_host_ends_a_wait_after_what_it_had_sent(self) -> None:
        guest = self.attach()
        guest.send(b"last", WAIT)
        while guest.arm():
            guest.disarm()
        self.host.kill()
        self.assertEqual(guest.receive(), b"last")
        with self.assertRaises(shm_transport.PeerDead) as raised:
            guest.receive()
        self.assertIsInstance(raised.exception, ConnectionError)
        self.assertIn("attach", str(raised.exception))
        with self.assertRaises(shm_transport.LinkEnded):
            guest.send(b"more")

    def test_an_iteration_ends_with_an_error_when_the_host_is_dead(self) -> None:
        guest = self.attach()
        guest.send(b"one", WAIT)
        received = []
        with self.assertRaises(shm_transport.PeerDead):
            for message in guest:
                received.append(message)
                self.host.kill()
        self.assertEqual(received, [b"one"])

    def test_an_iteration_is_over_when_the_host_leaves(self) -> None:
        guest = self.attach()
        guest.send(b"one", WAIT)
        messages = iter(guest)
        self.assertEqual(next(messages), b"one")
        assert self.host.stdin is not None
        self.host.stdin.close()
        self.assertEqual(list(messages), [])
        self.host.wait(WAIT)
        self.host.stdin = None

    def test_a_context_closes_its_guest_and_what_was_sent_arrives(self) -> None:
        with Guest.attach(self.path, timeout=WAIT) as guest:
            guest.send(b"x")
        self.assertEqual(repr(guest), "<Guest, closed>")
        for use in (guest.receive, guest.try_receive, guest.fileno, guest.arm, guest.detach):
            with self.assertRaises(shm_transport.Detached):
                use()
        guest.close()

    def test_a_detach_waits_until_the_host_has_read_everything(self) -> None:
        guest = self.attach()
        self.assertEqual(guest.peer.host_pid, self.host.pid)
        self.assertIn("host_pid", repr(guest))
        guest.send(b"x")
        guest.detach(WAIT)
        with self.assertRaises(shm_transport.Detached):
            guest.send(b"y")

    def test_a_host_that_does_not_read_does_not_hold_up_a_detach(self) -> None:
        guest = self.attach()
        self.host.send_signal(signal.SIGSTOP)
        guest.send(b"x")
        with self.assertRaises(shm_transport.TimedOut):
            guest.detach(0.01)
        self.assertEqual(repr(guest), "<Guest, closed>")


class Processes(EchoHost):
    def test_threads_share_a_guest(self) -> None:
        guest = self.attach()
        received: list[bytes] = []

        def receive() -> None:
            for _ in range(500):
                received.append(guest.receive(WAIT))

        def send() -> None:
            for _ in range(250):
                guest.send(b"x" * 100, WAIT)

        threads = [threading.Thread(target=work) for work in (receive, receive, *[send] * 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        self.assertEqual(received, [b"x" * 100] * 1000)

    def test_a_close_ends_the_wait_of_another_thread(self) -> None:
        guest = self.attach()
        errors: list[BaseException] = []

        def receive() -> None:
            try:
                guest.receive()
            except shm_transport.ShmError as error:
                errors.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        while not guest._receiving.locked():
            time.sleep(0.001)
        with self.assertRaises(shm_transport.Busy):
            guest.try_receive()
        guest.close()
        thread.join(WAIT)
        self.assertEqual([type(error) for error in errors], [shm_transport.Detached])

    def test_a_signal_interrupts_a_wait_without_a_deadline(self) -> None:
        guest = self.attach()

        def raise_it(*_: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, raise_it)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with self.assertRaises(KeyboardInterrupt):
            guest.receive()
        guest.send(b"still there", WAIT)
        self.assertEqual(guest.receive(WAIT), b"still there")

    def test_a_forked_child_is_refused_and_attaches_anew(self) -> None:
        guest = self.attach()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for use in (guest.receive, guest.try_receive, guest.fileno, guest.detach):
                    with self.assertRaises(shm_transport.Forked):
                        use()
                guest.close()
                with Guest.attach(self.path, timeout=WAIT) as own:
                    own.send(b"from the child", WAIT)
                    self.assertEqual(own.receive(WAIT), b"from the child")
                code = 0
            finally:
                os._exit(code)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        guest.send(b"from the parent", WAIT)
        self.assertEqual(guest.receive(WAIT), b"from the parent")

    def test_a_guest_that_its_host_started_attaches_over_the_inherited_socket(self) -> None:
        program = (
            "from shm_transport import Guest\n"
            "with Guest.attach_inherited(30) as guest:\n"
            "    guest.send(b'here', 30)\n"
            "    assert guest.receive(30) == b'here'\n"
        )
        command = [HOST, self.path + "2", sys.executable, "-c", program]
        subprocess.run(command, check=True, timeout=2 * WAIT)


class Attaching(unittest.TestCase):
    def test_what_is_wrong_with_an_attach_has_a_class_and_words(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            nobody = pathlib.Path(directory) / "nobody"
            with self.assertRaises(shm_transport.NoHost) as raised:
                Guest.attach(nobody)
            self.assertIn(str(nobody), str(raised.exception))
            self.assertIsInstance(raised.exception, shm_transport.AttachError)
            nobody.write_text("a file")
            with self.assertRaises(shm_transport.NotAHub):
                Guest.attach(str(nobody))
        with self.assertRaises(shm_transport.BadPath):
            Guest.attach("x" * 300)
        with self.assertRaises(shm_transport.NotSpawned):
            Guest.attach_inherited()


class Interface(unittest.TestCase):
    def test_statuses_are_those_of_the_header(self) -> None:
        header = (HERE.parents[1] / "include" / "shm.h").read_text()
        found = re.findall(r"^\s+SHM_STATUS_(\w+) = (\d+),$", header, re.MULTILINE)
        self.assertGreater(len(found), 30)
        self.assertEqual(
            {name: int(value) for name, value in found},
            {status.name: status.value for status in Status},
        )

    def test_every_failure_has_an_exception_that_is_exported(self) -> None:
        no_failure = {Status.OK, Status.READY, Status.EMPTY, Status.FULL}
        no_failure |= {Status.BUFFER_TOO_SMALL, Status.OTHER}
        self.assertEqual(set(_errors._CLASSES), set(Status) - no_failure)
        for kind in _errors._CLASSES.values():
            self.assertIn(kind.__name__, shm_transport.__all__)
        self.assertIs(type(_errors.error_of(999, "new")), shm_transport.ShmError)

    def test_it_knows_its_version(self) -> None:
        self.assertRegex(shm_transport.version(), r"^\d+\.\d+\.\d+$")


if __name__ == "__main__":
    unittest.main()
