"""A client on matrix-nio with encryption, driven from outside: one JSON command a line in, one JSON answer a line out.

It keeps its login, its keys and its sync token in STORE. Started again with the same STORE it goes on from there.

Usage: nio_encrypted.py HOMESERVER USER_ID PASSWORD DEVICE_ID STORE
"""

import asyncio
import json
import pathlib
import sys

from nio import (
    AsyncClient,
    AsyncClientConfig,
    JoinError,
    KeysUploadResponse,
    LoginResponse,
    MegolmEvent,
    RoomMessageText,
    RoomSendResponse,
    SyncError,
    ToDeviceEvent,
)


class Driven:
    """The client, what it has heard, and the commands that it takes."""

    def __init__(self, homeserver, user_id, device_id, store):
        # The default waits up to a minute between two tries.
        config = AsyncClientConfig(
            encryption_enabled=True, store_sync_tokens=True, backoff_factor=0.1, max_timeout_retry_wait_time=1
        )
        self.client = AsyncClient(homeserver, user_id, device_id, store_path=str(store), config=config)
        self.session = store / "session.json"
        self.errors = []
        self.messages = []
        self.undecryptable = []
        self.uploads = 0
        self.client.add_event_callback(self.on_message, RoomMessageText)
        self.client.add_event_callback(self.on_undecryptable, MegolmEvent)
        self.client.add_to_device_callback(self.on_to_device, ToDeviceEvent)
        self.client.add_response_callback(self.on_sync_error, SyncError)
        self.client.add_response_callback(self.on_upload, KeysUploadResponse)

    async def on_message(self, room, event):
        self.messages.append(
            {
                "room_id": room.room_id,
                "event_id": event.event_id,
                "sender": event.sender,
                "body": event.body,
                "was_encrypted": event.decrypted,
            }
        )

    async def on_undecryptable(self, room, event):
        self.undecryptable.append(event.event_id)

    async def on_to_device(self, event):
        if type(event).__name__ in ("OlmEvent", "UnknownToDeviceEvent"):
            self.errors.append(f"a to-device message that cannot be read: {event.source}")

    async def on_sync_error(self, response):
        self.errors.append(str(response))

    async def on_upload(self, _response):
        self.uploads += 1

    async def start(self, password):
        """Logs in, or takes up the login that is stored, and begins to sync."""
        if self.session.exists():
            self.client.restore_login(**json.loads(self.session.read_text()))
        else:
            login = await self.client.login(password, device_name="nio")
            if not isinstance(login, LoginResponse):
                raise SystemExit(f"login failed: {login}")
            session = {"user_id": login.user_id, "device_id": login.device_id, "access_token": login.access_token}
            self.session.write_text(json.dumps(session))
        since = self.client.loaded_sync_token
        # nio keeps no rooms in its store: with a token from there it needs their state again.
        self.syncing = asyncio.create_task(self.client.sync_forever(timeout=30_000, full_state=True))
        synced = asyncio.create_task(self.client.synced.wait())
        await asyncio.wait([synced, self.syncing], return_when=asyncio.FIRST_COMPLETED)
        if self.syncing.done():
            self.syncing.result()
        return {"since": since, "device_id": self.client.device_id}

    async def join(self, room_id):
        joined = await self.client.join(room_id)
        if isinstance(joined, JoinError):
            raise RuntimeError(str(joined))

    async def send(self, room_id, body):
        content = {"msgtype": "m.text", "body": body}
        sent = await self.client.room_send(room_id, "m.room.message", content, ignore_unverified_devices=True)
        if not isinstance(sent, RoomSendResponse):
            raise RuntimeError(str(sent))
        return sent.event_id

    async def room(self, room_id):
        """What is known of a room. `messages` are in the order in which they came."""
        room = self.client.rooms.get(room_id)
        return room and {
            "encrypted": room.encrypted,
            "members": sorted(room.users),
            "messages": [message for message in self.messages if message["room_id"] == room_id],
            "undecryptable": self.undecryptable,
        }

    async def devices(self, user_id):
        return sorted(self.client.device_store[user_id])

    async def state(self):
        """What is known beside the rooms."""
        if self.syncing.done():
            self.syncing.result()
        return {
            "errors": self.errors,
            "key_count": self.client.olm.uploaded_key_count,
            "uploads": self.uploads,
        }

    async def stop(self):
        self.syncing.cancel()
        await asyncio.gather(self.syncing, return_exceptions=True)
        await self.client.close()


async def main(homeserver, user_id, password, device_id, store):
    store = pathlib.Path(store)
    store.mkdir(parents=True, exist_ok=True)
    driven = Driven(homeserver, user_id, device_id, store)
    print(json.dumps({"ok": await driven.start(password)}), flush=True)
    commands = {name: getattr(driven, name) for name in ("join", "send", "room", "devices", "state")}
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        try:
            answer = {"ok": await commands[command.pop("do")](**command)}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)
    await driven.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
