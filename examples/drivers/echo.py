#!/usr/bin/env python3
"""A channel in one file: a chat over a Unix socket. The gateway runs it as `echo.py SOCKET`; talk with
`nc -U SOCKET`, where the first line is your name. It shows the whole driver protocol, see README.md."""
import json, pathlib, socket, sys, threading, time, uuid

one_line_at_a_time = threading.Lock()
people, texts = {}, {}


def say(kind, payload, id=None):
    frame = {"type": kind, "id": id or str(uuid.uuid4()), "timestamp": int(time.time() * 1000), "payload": payload}
    with one_line_at_a_time:
        print(json.dumps(frame), flush=True)


def hear_person(connection):
    with connection, connection.makefile(encoding="utf-8", errors="replace") as lines:
        name = lines.readline().strip() or "somebody"
        people[name] = connection
        for line in lines:  # A platform has ids of its messages: use them, so that none is taken twice.
            where = {"kind": "direct", "id": name}
            say("message_in", {"channel": where, "sender": {"id": name}, "content": line.rstrip("\n")})
        people.pop(name, None)


def hear_people(server):
    while True:
        threading.Thread(target=hear_person, args=[server.accept()[0]], daemon=True).start()


def beat(seconds):
    while True:
        time.sleep(seconds)
        say("heartbeat", {})


def send(id, to, text):
    try:
        people[to].sendall((text + "\n").encode())
        say("message_ack", {"id": id, "platform_id": str(uuid.uuid4())})
    except (KeyError, OSError):
        say("error", {"id": id, "code": "refused", "message": "nobody of that name is here"})


pathlib.Path(sys.argv[1]).unlink(missing_ok=True)
server = socket.create_server(sys.argv[1], family=socket.AF_UNIX)
say("connect", {"protocol": 1, "driver": "echo.py/1", "capabilities": {"text_limit": 4000, "unit": "chars"}})
for frame in map(json.loads, sys.stdin):
    kind, payload = frame["type"], frame["payload"]
    if kind == "connected":
        threading.Thread(target=hear_people, args=[server], daemon=True).start()
        threading.Thread(target=beat, args=[payload["heartbeat_ms"] / 1000], daemon=True).start()
        say("channel_status", {"state": "connected"})
    elif kind == "stream_block" and payload["block_type"] == "text":
        texts[payload["id"]] = texts.get(payload["id"], "") + payload["content"]
    elif kind == "stream_end":
        send(payload["id"], payload["channel"]["id"], texts.pop(payload["id"], ""))
    elif kind == "error":  # And message_ack: a platform is told now that its message was received.
        print("not taken:", payload["message"], file=sys.stderr)
