// A client on matrix-js-sdk, set up as Element sets it up, driven from outside: one JSON command a line in, one JSON
// answer a line out. It keeps everything in memory.
//
// Usage: node client.js HOMESERVER USER_ID PASSWORD DEVICE_ID

import readline from "node:readline";

// What the SDK logs belongs on stderr: stdout is for answers.
console.log = console.info = console.debug = console.trace = console.error;

const { ClientEvent, Direction, NotificationCountType, RoomEvent, SyncState, createClient } = await import("matrix-js-sdk");

const TIMELINE_LIMIT = 8;
const UNSTABLE_STATE_AFTER = "org.matrix.msc4222.state_after";

const [homeserver, userId, password, deviceId] = process.argv.slice(2);
const requests = [];
const syncStates = [];
const localEchoes = [];
const joinedRoomsInSync = { with_state_after: 0, without: 0 };
let client;

/** `fetch`, with notes of what was asked and, of syncs, of the form in which they were answered. */
async function notedFetch(resource, options) {
    const url = new URL(resource);
    const note = { method: options?.method ?? "GET", path: url.pathname + url.search };
    requests.push(note);
    const response = await fetch(resource, options);
    note.status = response.status;
    if (response.ok && url.pathname.endsWith("/sync")) {
        const reply = await response.clone().json();
        for (const room of Object.values(reply.rooms?.join ?? {})) {
            joinedRoomsInSync[UNSTABLE_STATE_AFTER in room ? "with_state_after" : "without"] += 1;
        }
    }
    return response;
}

async function start() {
    const nobody = createClient({ baseUrl: homeserver });
    const login = await nobody.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: userId },
        password,
        device_id: deviceId,
    });
    client = createClient({
        baseUrl: homeserver,
        userId: login.user_id,
        deviceId: login.device_id,
        accessToken: login.access_token,
        fetchFn: notedFetch,
        timelineSupport: true,
    });
    client.on(ClientEvent.Sync, (state) => syncStates.push(state));
    client.on(RoomEvent.LocalEchoUpdated, (event) => localEchoes.push({ id: event.getId(), status: event.status }));
    await client.initRustCrypto({ useIndexedDB: false });
    const prepared = new Promise((resolve) => {
        client.on(ClientEvent.Sync, (state) => state === SyncState.Prepared && resolve());
    });
    await client.startClient({ initialSyncLimit: TIMELINE_LIMIT, lazyLoadMembers: true, threadSupport: true });
    await prepared;
    return { user_id: client.getUserId(), device_id: client.getDeviceId() };
}

function theRoom(roomId) {
    const room = client.getRoom(roomId);
    if (!room) throw new Error(`the room ${roomId} is not known`);
    return room;
}

async function describeMessage(event) {
    await client.decryptEventIfNeeded(event);
    return {
        event_id: event.getId(),
        sender: event.getSender(),
        body: event.getContent().body,
        was_encrypted: event.isEncrypted(),
        unreadable: event.isDecryptionFailure(),
        redacted: event.isRedacted(),
        status: event.status,
        transaction_id: event.getUnsigned().transaction_id,
    };
}

/** A timeline and those before it that it is joined to, the earliest first: what a user scrolls through. */
function joinedTimelines(timeline) {
    const before = timeline.getNeighbouringTimeline(Direction.Backward);
    return [...(before ? joinedTimelines(before) : []), timeline];
}

function describeMessages(timeline) {
    const events = joinedTimelines(timeline).flatMap((part) => part.getEvents());
    return Promise.all(events.filter((event) => !event.isState()).map(describeMessage));
}

async function describeThread(room, thread) {
    return {
        root: thread.id,
        loaded: thread.initialEventsFetched,
        length: thread.length,
        last: thread.replyToEvent?.getId(),
        replies: (await describeMessages(thread.liveTimeline)).filter((reply) => reply.event_id !== thread.id),
        unread: room.getThreadUnreadNotificationCount(thread.id, NotificationCountType.Total),
        highlights: room.getThreadUnreadNotificationCount(thread.id, NotificationCountType.Highlight),
    };
}

/** What a user would see of the room. */
async function describeRoom(room) {
    const stateContent = (type) => room.currentState.getStateEvents(type, "")?.getContent();
    const members = room.getMembers();
    const last = room.getLastLiveEvent();
    return {
        room_id: room.roomId,
        name: room.name,
        membership: room.getMyMembership(),
        topic: stateContent("m.room.topic")?.topic,
        joined_count: room.getJoinedMemberCount(),
        invited_count: room.getInvitedMemberCount(),
        members: Object.fromEntries(members.map((member) => [member.userId, member.membership])),
        names: Object.fromEntries(members.map((member) => [member.userId, member.name])),
        typing: members.filter((member) => member.typing).map((member) => member.userId),
        messages: await describeMessages(room.getLiveTimeline()),
        threads: await Promise.all(room.getThreads().map((thread) => describeThread(room, thread))),
        unread: room.getRoomUnreadNotificationCount(NotificationCountType.Total),
        highlights: room.getRoomUnreadNotificationCount(NotificationCountType.Highlight),
        tags: Object.keys(room.tags),
        last_read_by: last ? room.getUsersReadUpTo(last) : [],
        at_the_start: joinedTimelines(room.getLiveTimeline())[0].getPaginationToken(Direction.Backward) === null,
    };
}

const commands = {
    rooms: () => Promise.all(client.getRooms().map(describeRoom)),

    room: async ({ room_id }) => {
        const room = client.getRoom(room_id);
        return room && describeRoom(room);
    },

    state: ({ room_id, type, state_key }) => theRoom(room_id).currentState.getStateEvents(type, state_key)?.getContent(),

    /** Loads the members that lazy loading has left out. */
    load_members: async ({ room_id }) => {
        await theRoom(room_id).loadMembersIfNeeded();
        return describeRoom(theRoom(room_id));
    },

    page_back: async ({ room_id, limit }) => {
        const [earliest] = joinedTimelines(theRoom(room_id).getLiveTimeline());
        await client.paginateEventTimeline(earliest, { backwards: true, limit });
        return describeRoom(theRoom(room_id));
    },

    /** The list of threads, as the thread panel asks for it. */
    load_threads: async ({ room_id }) => {
        await theRoom(room_id).createThreadsTimelineSets();
        await theRoom(room_id).fetchRoomThreads();
        return describeRoom(theRoom(room_id));
    },

    page_thread: async ({ room_id, root, limit }) => {
        const thread = theRoom(room_id).getThread(root);
        await client.paginateEventTimeline(thread.liveTimeline, { backwards: true, limit });
        return describeThread(theRoom(room_id), thread);
    },

    send: async ({ room_id, body }) => (await client.sendTextMessage(room_id, body)).event_id,
    send_in_thread: async ({ room_id, root, body }) => (await client.sendTextMessage(room_id, root, body)).event_id,
    join: async ({ room_id }) => void (await client.joinRoom(room_id)),
    leave: async ({ room_id }) => void (await client.leave(room_id)),
    tag: async ({ room_id, tag }) => void (await client.setRoomTag(room_id, tag, { order: 0.5 })),
    set_account_data: async ({ type, content }) => void (await client.setAccountData(type, content)),
    account_data: ({ type }) => client.getAccountData(type)?.getContent(),
    load_left_rooms: async () => (await client.syncLeftRooms()).map((room) => room.roomId),

    /** Reads up to an event of the main timeline or of a thread. */
    read: async ({ room_id, event_id }) => {
        await client.sendReadReceipt(theRoom(room_id).findEventById(event_id));
    },

    devices: async ({ user_id }) => {
        const devices = await client.getCrypto().getUserDeviceInfo([user_id]);
        return [...(devices.get(user_id)?.keys() ?? [])];
    },

    /** What happened beside the rooms. `like` picks requests by a part of their path. */
    log: ({ like }) => ({
        requests: requests.filter(({ path }) => path.includes(like)),
        sync_states: syncStates,
        local_echoes: localEchoes,
        joined_rooms_in_sync: joinedRoomsInSync,
    }),
};

function answer(object) {
    process.stdout.write(JSON.stringify(object) + "\n");
}

answer({ ok: await start() });
for await (const line of readline.createInterface({ input: process.stdin })) {
    const { do: name, ...parameters } = JSON.parse(line);
    try {
        answer({ ok: (await commands[name](parameters)) ?? null });
    } catch (error) {
        answer({ error: String(error.stack ?? error) });
    }
}
client.stopClient();
process.exit(0);
