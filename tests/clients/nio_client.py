"""A small bot on matrix-nio: logs in, syncs, accepts an invite, says hello, waits for an answer, and reports as JSON.

Usage: nio_client.py HOMESERVER USER_ID PASSWORD KNOWN_ROOM INVITED_ROOM
"""

import asyncio
import json
import sys

from nio import AsyncClient, JoinError, LoginError, RoomMessageText, RoomSendError, SyncError, SyncResponse

PATIENCE_SECONDS = 60


async def main(homeserver, user_id, password, known_room, invited_room):
    client = AsyncClient(homeserver, user_id)
    errors = []
    received = []
    answered = asyncio.Event()

    async def on_message(room, event):
        received.append(event.body)
        if room.room_id == invited_room and event.sender != user_id:
            answered.set()

    async def on_sync_error(response):
        errors.append(str(response))

    client.add_event_callback(on_message, RoomMessageText)
    client.add_response_callback(on_sync_error, SyncError)

    login = await client.login(password, device_name="nio")
    if isinstance(login, LoginError):
        raise SystemExit(f"login failed: {login}")

    first = await client.sync(timeout=0)
    if not isinstance(first, SyncResponse):
        raise SystemExit(f"the first sync failed: {first}")

    joined = await client.join(invited_room)
    if isinstance(joined, JoinError):
        raise SystemExit(f"joining failed: {joined}")

    syncing = asyncio.create_task(client.sync_forever(timeout=10_000))
    sent = await client.room_send(invited_room, "m.room.message", {"msgtype": "m.text", "body": "hello from nio"})
    if isinstance(sent, RoomSendError):
        raise SystemExit(f"sending failed: {sent}")
    await asyncio.wait_for(answered.wait(), PATIENCE_SECONDS)
    syncing.cancel()

    room = client.rooms[known_room]
    report = {
        "user_id": client.user_id,
        "errors": errors,
        "joined_at_first": sorted(first.rooms.join),
        "invited_at_first": sorted(first.rooms.invite),
        "room_name": room.name,
        "members": sorted(room.users),
        "received": received,
    }
    await client.close()
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
