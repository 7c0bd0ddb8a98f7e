"""A small client of sync v3, to be read beside docs/v3-api.md: it keeps a list of rooms, and the rooms themselves."""

import argparse
import http.client
import json
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from dataclasses import asdict, dataclass, field

# What a session asks for unless told otherwise: the list, the rooms on it, and all the rest of the account.
EVERYTHING = {
    "room_list": {"p": {"limit": 20}, "state_events": [["m.room.topic", ""], ["m.room.encryption", ""]]},
    "room": {"room_id": "room_list", "timeline_limit": 20},
    "receipts": {"room_id": "room_list"},
    **{"invites": {}, "account_data": {}, "to_device": {}, "presence": {}, "e2ee": {}},
}

# What is left of the content of a redacted event; of types that are not here, nothing.
KEPT_BY_REDACTION = {
    "m.room.member": "membership join_authorised_via_users_server",
    "m.room.join_rules": "join_rule allow",
    "m.room.history_visibility": "history_visibility",
    "m.room.power_levels": "ban events events_default invite kick redact state_default users users_default",
}


class Refused(Exception):
    """The server will not do what it was asked. Its answer is the argument."""


@dataclass
class Part:
    """State and timeline of a room, as one stream tells them. The timeline never has holes."""

    state: dict = field(default_factory=dict)  # Type, then state key, then the event: as of the timeline's end.
    timeline: list = field(default_factory=list)  # Oldest first.
    prev_batch: str | None = None  # For `/messages`, from the start of the timeline backwards.

    def take(self, state, timeline, limited, prev_batch):
        """Goes on with `state`, in the order in which it came about, and with `timeline`."""
        if limited or not self.timeline:
            # Events are missing between what we have and these. `/messages` has them, back from `prev_batch`.
            self.timeline, self.prev_batch = [], prev_batch or self.prev_batch
        self.timeline += timeline
        for event in state:
            self.state.setdefault(event["type"], {})[event["state_key"]] = event
        for event in timeline:
            if event["type"] == "m.room.redaction":
                self.redact(event.get("redacts") or event["content"].get("redacts"))

    def redact(self, event_id):
        for event in self.timeline + [event for events in self.state.values() for event in events.values()]:
            if event["event_id"] == event_id:
                kept = KEPT_BY_REDACTION.get(event["type"], "").split()
                event["content"] = {key: value for key, value in event["content"].items() if key in kept}


@dataclass
class Room:
    """What is known of a room: how the list shows it, what is inside, and what belongs to both."""

    listed: bool = False
    entry: dict = field(default_factory=dict)  # name, avatar_url, heroes, timestamp, counts, is_dm, tags
    outside: Part = field(default_factory=Part)  # From `room_list`.
    inside: Part = field(default_factory=Part)  # From `room`.
    unread: dict = field(default_factory=dict)  # unread_notifications, unread_thread_notifications
    summary: dict = field(default_factory=dict)
    account_data: dict = field(default_factory=dict)  # Type, then the content.
    receipts: dict = field(default_factory=dict)  # User, then type of receipt, then thread, then the event's ID.
    typing: list = field(default_factory=list)

    def take_entry(self, news):
        """Takes an entry of `room_list.rooms`: what it does not name is as it was."""
        if news.get("initial"):
            self.entry, self.outside = {}, Part()
        if "name" in news:  # These come with it, and a room that has a name of its own has no heroes.
            self.entry |= {"avatar_url": None, "heroes": []}
        parts = ("room_id", "initial", "state_events", "timeline", "limited", "prev_batch")
        self.entry |= {key: value for key, value in news.items() if key not in parts}
        # The list tells state as of the end of the timeline, so what the timeline sets is in it already.
        state, timeline = news.get("state_events", []), news.get("timeline", [])
        self.outside.take(state, timeline, news.get("limited"), news.get("prev_batch"))

    def take_inside(self, news):
        """Takes a room of `room.rooms`."""
        if news.get("initial"):
            self.inside = Part()
        told = news.get("timeline", {})
        timeline = told.get("events", [])
        # State is as of the start of the timeline, whose own state events then change it.
        state = news.get("state", {}).get("events", []) + [event for event in timeline if "state_key" in event]
        self.inside.take(state, timeline, told.get("limited"), told.get("prev_batch"))
        # Counts come whole each time: a thread that is not named has nothing unread any more.
        self.unread = {key: value for key, value in news.items() if key.startswith("unread_")}
        self.summary |= news.get("summary", {})
        self.take_account_data(news.get("account_data", {}).get("events", []))
        self.take_ephemeral(news.get("ephemeral", {}).get("events", []))

    def take_account_data(self, events):
        self.account_data |= {event["type"]: event["content"] for event in events}

    def take_ephemeral(self, events):
        for event in events:
            if event["type"] == "m.typing":
                self.typing = event["content"]["user_ids"]
                continue
            for event_id, types in event["content"].items():
                for receipt_type, users in types.items():
                    for user_id, receipt in users.items():
                        threads = self.receipts.setdefault(user_id, {}).setdefault(receipt_type, {})
                        threads[receipt.get("thread_id", "")] = event_id


class Client:
    """One session, and what it has told. With `store`, a file, it goes on where the last process ended."""

    def __init__(self, url, token, wanted=None, store=None):
        self.url, self.token, self.store = url, token, store and pathlib.Path(store)
        self.wanted = wanted or EVERYTHING  # All parameters, for a session that begins.
        self.to_device = []  # In earnest, they go to the encryption at once.
        self.forget()
        if self.store and self.store.exists():
            known = json.loads(self.store.read_text())
            for room_id, room in known.pop("rooms").items():
                parts = {"outside": Part(**room["outside"]), "inside": Part(**room["inside"])}
                self.rooms[room_id] = Room(**room | parts)
            vars(self).update(known)

    def forget(self):
        """Begins anew: the next request makes a session."""
        self.next = None  # The token of the session as it stands after the last reply.
        self.changes = {}  # What the session has not been told yet of the parameters.
        self.next_page = None  # The token of the next page of the list, while there is one.
        self.rooms, self.count = defaultdict(Room), 0  # `count` is how long the list is on the server.
        self.invites, self.account_data, self.presence = {}, {}, {}
        self.e2ee, self.devices_changed = {}, []

    def sync(self, change={}, timeout=0):
        """Asks for news, with `change` to the parameters, until there is a reply; takes it in, and returns it."""
        self.changes, self.wanted, reply = self.changes | change, merged(self.wanted, change), None
        if {"p", "filters", "spaces"} & change.get("room_list", {}).keys():
            self.next_page = None  # It was the next page of another list; or it is the page that we ask for.
        while reply is None:
            try:
                # A new session is told everything, an old one what changes. If the reply is lost, we ask the same
                # again: the parameters that the server goes by are those of `next`.
                reply = self.ask(self.changes if self.next else self.wanted, timeout)
            except Refused as refused:
                errcode = refused.args[0]["errcode"]
                if errcode == "M_UNKNOWN_SYNC_SESSION":
                    self.forget()
                elif errcode == "M_FORBIDDEN" and self.wanted.get("typing"):
                    return self.open("room_list")  # We are not in the room any more that was opened.
                else:
                    raise
            except (OSError, http.client.HTTPException):  # Nobody listens, the reply is lost, or it was a 5xx.
                time.sleep(0.5)
        self.changes = {}
        self.apply(reply)
        self.save()
        return reply

    def page(self):
        """Reads the next page of the list, if there is one. Its rooms are followed from then on."""
        return self.sync({"room_list": {"p": {"since": self.next_page}}}) if self.next_page else None

    def open(self, room_id):
        """Looks into one room only; or, with "room_list", into all that are on the list."""
        return self.sync(following(room_id))

    def ask(self, body, timeout=0):
        """One request. A reply that nobody applies is a reply that was lost."""
        query = {"timeout": timeout} | ({"since": self.next} if self.next else {})
        request = urllib.request.Request(
            f"{self.url}/_matrix/client/v3/sync?{urllib.parse.urlencode(query)}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout / 1000 + 60) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            raise Refused(json.load(error)) if error.code < 500 else error

    def apply(self, reply):
        """Takes a reply in, and with it the token for the next request."""
        news = {stream: reply.get(stream, {}) for stream in EVERYTHING | {"typing": {}}}
        self.apply_list(news["room_list"])
        for room_id, room in news["room"].get("rooms", {}).items():
            self.rooms[room_id].take_inside(room)
        self.invites |= news["invites"].get("rooms", {})
        for room_id in news["invites"].get("left", []):
            self.invites.pop(room_id, None)
        self.account_data |= {event["type"]: event["content"] for event in news["account_data"].get("events", [])}
        for room_id, events in news["account_data"].get("rooms", {}).items():
            self.rooms[room_id].take_account_data(events)
        for room_id, events in news["receipts"].get("rooms", {}).items():
            self.rooms[room_id].take_ephemeral(events)
        for event in news["typing"].get("events", []):
            self.rooms[event["room_id"]].take_ephemeral([event])
        self.to_device += news["to_device"].get("events", [])
        self.presence |= {event["sender"]: event["content"] for event in news["presence"].get("events", [])}
        self.e2ee |= news["e2ee"]
        self.devices_changed += news["e2ee"].get("device_lists", {}).get("changed", [])
        self.next = reply["next"]

    def apply_list(self, news):
        self.count = news.get("count", self.count)
        self.next_page = news.get("p", {}).get("next", self.next_page)
        for entry in news.get("rooms", []):
            self.rooms[entry["room_id"]].take_entry(entry)
            self.rooms[entry["room_id"]].listed = True
        for entry in news.get("notifications", []):  # Rooms that the list does not reach to yet. We know them now.
            self.rooms[entry["room_id"]].take_entry(entry)
        for room_id in news.get("removed", []):  # Last: a room that is left comes once more in `rooms`.
            self.rooms[room_id].listed = False

    def save(self):
        if self.store:
            beside = self.store.with_suffix(".new")
            beside.write_text(json.dumps(self.show()))
            beside.replace(self.store)  # Whatever happens, the file and the `next` in it belong together.

    def list(self):
        """The rooms on the list as the server sorts them: the latest first, and where that is equal by room ID."""
        listed = [room_id for room_id, room in self.rooms.items() if room.listed]
        return sorted(listed, key=lambda room_id: (-self.rooms[room_id].entry["timestamp"], room_id))

    def room(self, room_id):
        return asdict(self.rooms[room_id])

    def show(self):
        """Everything that is known; also what is stored."""
        known = vars(self) | {"rooms": {room_id: self.room(room_id) for room_id in self.rooms}}
        return {name: value for name, value in known.items() if name not in ("url", "token", "store")}


def merged(parameters, change):
    """All parameters after a change, as the server merges them: `null` drops a stream, a page is asked for once."""
    result = {stream: keys for stream, keys in parameters.items() if stream not in change}
    for stream, keys in change.items():
        if keys is not None:
            result[stream] = parameters.get(stream, {}) | keys
            p = parameters.get(stream, {}).get("p", {}) | keys.get("p", {})
            result[stream] |= {"p": {key: value for key, value in p.items() if key != "since"}} if p else {}
    return result


def following(room_id):
    """The change of parameters that looks into a room, or into all on the list."""
    room = {"room_id": room_id}
    return {"room": room, "receipts": room, "typing": None if room_id == "room_list" else room}


def describe(client):
    """The list for people, one room a line."""
    for room in map(client.rooms.get, client.list()):
        last = [event["content"].get("body", event["type"]) for event in room.outside.timeline[-1:]]
        print(f"{room.entry['notification_count'] or '':4} {room.entry['name']:30.30} ", *last)
    print(f"{len(client.list())} of {client.count} rooms, {len(client.invites)} invites", flush=True)


def drive(client):
    """Calls what it is told on standard input, one JSON object a line as in {"do": "sync"}. This is for tests."""
    print(json.dumps({"ok": "ready"}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(client, command.pop("do"))(**command)
        except Refused as refused:
            answer = refused.args[0]
        print(json.dumps({"ok": answer}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="where the server is, as in http://localhost:8008")
    parser.add_argument("--token", required=True, help="an access token")
    parser.add_argument("--store", help="a file that keeps what is known for the next time")
    parser.add_argument("--first", type=int, metavar="N", help="follow the first N rooms of the list only")
    parser.add_argument("--json", action="store_true", help="print each reply as it is")
    parser.add_argument("--drive", action="store_true", help="read commands from standard input")
    options = parser.parse_args()
    wanted = merged(EVERYTHING, {"room_list": {"p": {"limit": options.first or 20}}})
    client = Client(options.url, options.token, wanted, options.store)
    while not options.drive:
        more = client.next_page and not options.first
        reply = client.page() if more else client.sync(timeout=30_000)
        print(json.dumps(reply), flush=True) if options.json else describe(client)
    drive(client)


if __name__ == "__main__":
    main()
