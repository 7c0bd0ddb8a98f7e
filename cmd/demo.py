"""The demo of `cmd/run -demo`: a throwaway Synapse, two users, the proxy, and a first sync of each stream.

Started by `cmd/run` with the Python that Synapse is installed for. Everything lives in one temporary directory and
on free loopback ports, and is gone when the demo ends.
"""

import argparse
import hashlib
import hmac
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

SHARED_SECRET = secrets.token_hex(16)
# The machine's HTTP proxy, if it has one, does not know our loopback ports.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))
START_LIMIT = 120
STOP_LIMIT = 30
# Lines of a reply that are shown: the account data of a new user has hundreds, its push rules.
SHOWN_LINES = 120


class Failure(Exception):
    """The demo cannot go on; the text says why."""


def main():
    arguments = parse_arguments()
    # Ended by a signal, the demo still has its cleaning up to do.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    # Without a terminal, a shell starts us with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    directory = Path(tempfile.mkdtemp(prefix="syncv3-demo-"))
    # As root, the private Postgres runs as another user, who has to pass through here.
    directory.chmod(0o711)
    processes = []
    try:
        run(arguments, directory, processes)
    except KeyboardInterrupt:
        pass
    except Failure as failure:
        sys.exit(f"demo: {failure}")
    finally:
        clean_up(directory, processes)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="cmd/run -demo", description="Shows the proxy at work.")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("-once", "--once", action="store_true", help="end after the first syncs")
    return parser.parse_args()


def run(arguments, directory, processes):
    say("starting a throwaway Synapse")
    homeserver = start_synapse(directory, processes)
    for name in ("alice", "bob"):
        register(homeserver, name)

    say("starting the proxy in front of it, on a private Postgres")
    proxy = start_proxy(arguments.program, homeserver, directory, processes)

    say("alice and bob log in through the proxy, share a room, and bob has something to say")
    alice, bob = (User.log_in(proxy, name) for name in ("alice", "bob"))
    room_id = furnish(alice, bob)

    streams = {
        "room_list": {"p": {"limit": 10}},
        "room": {"room_id": room_id, "timeline_limit": 2},
        "room_members": {"room_id": room_id, "p": {"limit": 10, "sort": "by_name"}},
        "typing": {"room_id": room_id},
        "receipts": {"room_id": room_id},
        "invites": {},
        "account_data": {},
        "presence": {},
        "to_device": {"limit": 10},
        "e2ee": {},
    }
    curls = [show_first_sync(alice, stream, parameters) for stream, parameters in streams.items()]

    if arguments.once:
        return
    show_what_next(curls, bob, room_id, directory)
    watch(processes)


# What runs


def start_synapse(directory, processes):
    port = free_port()
    config = directory / "homeserver.yaml"
    # JSON is YAML, and needs no library.
    config.write_text(json.dumps(synapse_config(directory, port), indent=2))
    command = [sys.executable, "-m", "synapse.app.homeserver", "-c", str(config)]
    generated = subprocess.run([*command, "--generate-keys"], cwd=directory, capture_output=True, text=True)
    if generated.returncode != 0:
        raise Failure(f"Synapse does not accept its configuration: {generated.stderr.strip()}")
    url = f"http://127.0.0.1:{port}"
    start("synapse", command, directory, processes)
    wait_until_up("synapse", f"{url}/_matrix/client/versions", directory, processes)
    return url


def synapse_config(directory, port):
    return {
        "server_name": "demo.localhost",
        "report_stats": False,
        "suppress_key_server_warning": True,
        "trusted_key_servers": [],
        "federation_domain_whitelist": [],
        "signing_key_path": str(directory / "signing.key"),
        "media_store_path": str(directory / "media"),
        "registration_shared_secret": SHARED_SECRET,
        "macaroon_secret_key": secrets.token_hex(16),
        "form_secret": secrets.token_hex(16),
        "bcrypt_rounds": 4,
        "database": {"name": "sqlite3", "args": {"database": str(directory / "synapse.db")}},
        "listeners": [
            {
                "port": port,
                "bind_addresses": ["127.0.0.1"],
                "type": "http",
                "tls": False,
                "x_forwarded": True,
                "resources": [{"names": ["client"], "compress": False}],
            }
        ],
    }


def start_proxy(program, homeserver, directory, processes):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    data = directory / "data"
    command = [program, "-server", homeserver, "-port", f"127.0.0.1:{port}", "-data-dir", str(data)]
    # Settings meant for the operator's own proxy must not reach this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SYNCV3_")}
    start("proxy", command, directory, processes, environment)
    wait_until_up("proxy", f"{url}/_matrix/client/versions", directory, processes)
    return url


def start(name, command, directory, processes, environment=None):
    with open(directory / f"{name}.log", "wb") as log:
        # In a session of its own: Ctrl-C is for us, who stop the others in order.
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    processes.append((name, process))


def wait_until_up(name, url, directory, processes):
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if processes[-1][1].poll() is not None:
            break
        try:
            with HTTP.open(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    log = (directory / f"{name}.log").read_text(errors="replace")
    raise Failure(f"{name} does not start. The end of its log:\n{log[-2000:]}")


def watch(processes):
    while True:
        for name, process in processes:
            if process.poll() is not None:
                raise Failure(f"{name} has ended with status {process.returncode}")
        time.sleep(1)


def clean_up(directory, processes):
    # A second signal would leave processes behind.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for _, process in reversed(processes):
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    shutil.rmtree(directory, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Who takes part


class User:
    """A user who speaks with one server."""

    def __init__(self, server, user_id, token, device_id):
        self.server, self.user_id, self.token, self.device_id = server, user_id, token, device_id

    @classmethod
    def log_in(cls, server, name):
        reply = request(
            "POST",
            f"{server}/_matrix/client/v3/login",
            {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": name},
                "password": password_of(name),
                "device_id": name.upper(),
            },
        )
        return cls(server, reply["user_id"], reply["access_token"], reply["device_id"])

    def ask(self, method, path, body):
        return request(method, f"{self.server}/_matrix/client/v3{path}", body, self.token)


def register(homeserver, name):
    url = f"{homeserver}/_synapse/admin/v1/register"
    nonce = request("GET", url)["nonce"]
    signed = "\0".join([nonce, name, password_of(name), "notadmin"]).encode()
    mac = hmac.new(SHARED_SECRET.encode(), signed, hashlib.sha1).hexdigest()
    body = {"nonce": nonce, "username": name, "password": password_of(name), "admin": False, "mac": mac}
    request("POST", url, body)


def password_of(name):
    return f"{name}-{SHARED_SECRET}"


def furnish(alice, bob):
    """A shared room with some messages, which bob has read and types in; an invite and a to-device message of his."""
    room = {"name": "The demo", "preset": "private_chat", "invite": [bob.user_id]}
    room_id = alice.ask("POST", "/createRoom", room)["room_id"]
    path = f"/rooms/{quoted(room_id)}"
    bob.ask("POST", f"{path}/join", {})
    for number, (user, text) in enumerate([(alice, "Hello Bob"), (bob, "Hello Alice"), (alice, "How fast!")]):
        sent = user.ask("PUT", f"{path}/send/m.room.message/demo{number}", {"msgtype": "m.text", "body": text})
    bob.ask("POST", f"{path}/receipt/m.read/{quoted(sent['event_id'])}", {})
    bob.ask("POST", "/createRoom", {"name": "The next demo", "preset": "private_chat", "invite": [alice.user_id]})
    greeting = {"messages": {alice.user_id: {alice.device_id: {"body": "for this device alone"}}}}
    bob.ask("PUT", "/sendToDevice/org.example.greeting/demo", greeting)
    bob.ask("PUT", f"{path}/typing/{quoted(bob.user_id)}", {"typing": True, "timeout": 60_000})
    return room_id


# What is shown


def show_first_sync(user, stream, parameters):
    """Makes a session with one stream, prints request and reply, and gives back the curl for what comes next."""
    path = "/_matrix/client/v3/sync"
    body = {stream: parameters}
    print(f"\n── first sync of `{stream}` " + "─" * (60 - len(stream)))
    print(f"POST {path}\n{pretty(body)}")
    reply = request("POST", f"{user.server}{path}", body, user.token)
    lines = pretty(reply).splitlines()
    print("\n200 OK", *lines[:SHOWN_LINES], sep="\n", flush=True)
    if len(lines) > SHOWN_LINES:
        print(f"… and {len(lines) - SHOWN_LINES} lines more", flush=True)
    if stream not in reply:
        raise Failure(f"the reply lacks the stream `{stream}`")
    query = urllib.parse.urlencode({"since": reply["next"], "timeout": 30_000})
    return stream, curl("POST", f"{user.server}{path}?{query}", {}, user.token)


def show_what_next(curls, bob, room_id, directory):
    print(f"\n── what next {'─' * 63}")
    print("Everything goes on running. The next sync of each session, which waits for news for up to 30 seconds:")
    for stream, command in curls:
        print(f"\n# {stream}\n{command}")
    path = f"/rooms/{quoted(room_id)}/typing/{quoted(bob.user_id)}"
    print("\nTo make news in another terminal: bob stops typing.\n")
    print(curl("PUT", f"{bob.server}/_matrix/client/v3{path}", {"typing": False}, bob.token))
    print(f"\nLogs are in {directory}. Ctrl-C ends it all and removes it.", flush=True)


def say(text):
    print(f"demo: {text}", file=sys.stderr, flush=True)


def pretty(value):
    return json.dumps(value, indent=2, ensure_ascii=False)


def curl(method, url, body, token):
    parts = ["curl", "-sS", "-X", method, "-H", f"Authorization: Bearer {token}"]
    parts += ["-H", "Content-Type: application/json", "-d", json.dumps(body), url]
    return shlex.join(parts)


def quoted(identifier):
    return urllib.parse.quote(identifier, safe="")


def request(method, url, body=None, token=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    message = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with HTTP.open(message, timeout=60) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        raise Failure(f"{method} {url} was answered {error.code}: {text}") from error
    except OSError as error:
        raise Failure(f"{method} {url} failed: {error}") from error


if __name__ == "__main__":
    main()
