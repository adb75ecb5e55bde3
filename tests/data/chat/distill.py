#!/usr/bin/env python3
"""Distills recordings of the real gateway into the small files that the test `scenarios` replays.

    python3 tests/data/chat/distill.py RECORDINGS_DIRECTORY [SCENARIO…]

RECORDINGS_DIRECTORY holds one NAME.jsonl a scenario, a line a frame:
`{"t": ms, "c": client, "dir": "out" | "in" | "close", "f": frame}`. NAME.jsonl is written beside this script.

The first line of a distilled file is `{"clients", "sessions", "shapes"}`: who listens to all sessions from the
start (true), or to the messages of one (its key), the sessions' keys, and the key shapes; the other lines hold places in the latter two. A shape is the set
of paths of a payload, in one string; `=N +path -path` is shape N changed. The other lines are the frames in their order:

    {"c": client, "do": method, "n": number, "p": params}        a request
    {"c": client, "re": number, "l": label, "v": values, "k": shape, "run": …}   a response
    {"c": client, "ev": label, "s": session, "run": run, "k": shape}             an event
    {"sig": "SIGKILL" | "SIGTERM"}                                the process was sent a signal
    {"c": "0", …}                                                 done, and waited for, before the recording began

Runs are letters: A, B … in the order of their requests, F1, F2 … those that the gateway named. In params `<A>` is
such a key, `<3/entryId>` what response 3 held at that place, `<home>` a directory. Of the pieces of a streamed text
only the first of each model call is kept, of `sessions.changed` the first of each kind and run: the recorded gateway
repeats them.
What is done to a frame here, tests/it/scenarios/frames.rs does to the frames of the gateway under test.
"""
import json
import re
import sys
from pathlib import Path

SCENARIOS = """abort_queued abort_running agent_basic agent_idempotency agents bad_model cut delta_500x2ms err401 err500
err500_agent hang_agent_timeout hang_mid_timeout hang_timeout idempotency image noreply noreply_agent_nodeliver
queue_collect queue_followup queue_interrupt queue_steer reasoning restart_kill restart_post_term restart_term2
routing_tool_turn sess_create sess_fork sess_groups sess_list sess_reset_delete sess_send slash slash_stop_running
tool_agent_method tool_exec tool_read""".split()
# Of a model that fails again and again, this many attempts are kept: the waits between them grow to half a minute.
ATTEMPTS = 3
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
IGNORED = {"skills.changed", "tick", "update.available", "health", "heartbeat", "presence", "connect.challenge"}
# Of what comes as often as a tool has news, only the first is kept of each model call.
NEWS = {"agent item tool update", "agent tool update", "agent command_output delta", "session.tool update"}
ROW = {"key", "sessionId", "kind", "agentRuntime"}
VALUES = ["status", "stopReason", "summary", "reason", "timeoutPhase", "key", "sessionKey", "agentId", "runId", "abortedRunId"]

# What had been done before some recordings began.
BEFORE = {
    "restart_post_term": [
        ("do", "chat.send", 101, {"sessionKey": "agent:main:t7term", "message": "completed before MOCK{n=3}", "idempotencyKey": "<A>"}),
        ("ev", "chat final stop", "A"),
        ("do", "chat.send", 102, {"sessionKey": "agent:main:t7term", "message": "inflight MOCK{n=80;d=100}", "idempotencyKey": "<F1>"}),
        ("ev", "agent lifecycle model", "F1"),
        ("do", "chat.send", 103, {"sessionKey": "agent:main:t7term", "message": "queued MOCK{n=3}", "idempotencyKey": "<C>", "queueMode": "followup"}),
        ("re", 103),
        ("do", "agent", 104, {"sessionKey": "agent:main:t7termag", "message": "agent inflight MOCK{n=300;d=100}", "idempotencyKey": "<B>"}),
        ("ev", "chat delta", "B"),
        ("sig", "SIGTERM"),
    ],
    # Sessions were patched meanwhile.
    "sess_list": [("do", "sessions.patch", 101, {"key": "agent:main:t5a", "label": "Renamed", "category": "grp2"}), ("re", 101)],
    "sess_groups": [("do", "sessions.patch", 101, {"key": "agent:main:t5a", "label": "Renamed", "category": "grp2"}), ("re", 101)],
}


def before(name):
    """The lines of client 0."""
    for kind, *rest in BEFORE.get(name, []):
        if kind == "do":
            method, number, params = rest
            yield {"c": "0", "do": method, "n": number, "p": params}
        elif kind == "ev":
            yield {"c": "0", "ev": rest[0], "run": rest[1], "k": 0}
        elif kind == "re":
            yield {"c": "0", "re": rest[0], "l": "res", "k": 0}
        else:
            yield {"sig": rest[0]}


def paths(value, at="", out=None):
    """The paths of a value; what is inside a session row is its own shape."""
    out = set() if out is None else out
    if isinstance(value, dict):
        for key, inner in value.items():
            path = f"{at}.{key}" if at else key
            out.add(path)
            if not (isinstance(inner, dict) and ROW <= inner.keys()):
                paths(inner, path, out)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict) and ROW <= inner.keys():
                out.add(f"{at}[]row")
            else:
                paths(inner, f"{at}[]", out)
    return out


def rows(value):
    """The session rows inside a value, in order."""
    if isinstance(value, dict):
        if ROW <= value.keys():
            return [value]
        return [row for inner in value.values() for row in rows(inner)]
    if isinstance(value, list):
        return [row for inner in value for row in rows(inner)]
    return []


def without_nulls(line):
    return {key: value for key, value in line.items() if value is not None}


def first_word(message):
    content = message.get("content")
    if isinstance(content, list):
        content = next((c.get("text", c.get("type")) for c in content), "")
    return ((content or "").split() or [""])[0][:16]


class Distiller:
    def __init__(self, frames):
        self.frames = frames
        self.runs = {}
        self.fresh = 0
        self.shapes = []
        self.sessions = []
        self.lines = []
        self.responses = {}
        self.retries = {}
        self.streams = {}
        for frame in frames:
            key = frame["dir"] == "out" and (frame["f"].get("params") or {}).get("idempotencyKey")
            if key and key not in self.runs:
                n = len(self.runs)
                self.runs[key] = chr(65 + n) if n < 26 else "A" + chr(65 + n - 26)

    def run(self, run_id):
        if not isinstance(run_id, str):
            return None
        if run_id not in self.runs:
            if not UUID.search(run_id):
                return run_id
            self.fresh += 1
            self.runs[run_id] = f"F{self.fresh}"
        return self.runs[run_id]

    def symbolic(self, text):
        return UUID.sub(lambda m: self.runs.get(m[0], "*"), text) if isinstance(text, str) else text

    def session(self, key):
        key = self.symbolic(key)
        if key and key not in self.sessions:
            self.sessions.append(key)
        return self.sessions.index(key) if key else None

    def shape(self, value):
        found = paths(value)
        if found in self.shapes:
            return self.shapes.index(found)
        self.shapes.append(found)
        return len(self.shapes) - 1

    def shape_text(self, n):
        best = " ".join(sorted(self.shapes[n]))
        for other in range(n):
            more = " ".join("+" + p for p in sorted(self.shapes[n] - self.shapes[other]))
            less = " ".join("-" + p for p in sorted(self.shapes[other] - self.shapes[n]))
            text = " ".join(t for t in (f"={other}", more, less) if t)
            best = min(best, text, key=len)
        return best

    def values(self, payload):
        out = {}
        for key, value in payload.items():
            if isinstance(value, bool) or key in VALUES:
                named = self.run(value) if key in ("runId", "abortedRunId") else None
                out[key] = named or self.symbolic(value)
        if isinstance(payload.get("runIds"), list):
            out["runIds"] = [self.run(r) for r in payload["runIds"]]
        if isinstance(payload.get("messages"), list):
            out["messages"] = [f"{m.get('role')} {first_word(m)}" for m in payload["messages"]]
        pending = payload.get("pendingInputs")
        if isinstance(pending, dict):
            out["pendingInputs"] = [f"{i.get('state')} {self.run(i.get('runId'))}" for i in pending["items"]]
        if isinstance(payload.get("inFlightRun"), dict):
            out["inFlightRun"] = self.run(payload["inFlightRun"].get("runId"))
        if isinstance(payload.get("terminalReply"), dict):
            out["terminalReply"] = payload["terminalReply"].get("disposition")
        return out

    def event(self, name, payload):
        """Label and run of an event."""
        run = self.run(payload.get("runId"))
        label = name
        if name == "chat":
            label += f" {payload.get('state')}"
            label += f" {payload['phase']}" if payload.get("phase") else ""
            label += f" {payload['stopReason']}" if payload.get("stopReason") else ""
            label += " replace" if payload.get("replace") else ""
            label += " seq1" if payload.get("seq") == 1 and payload.get("state") != "status" else ""
        elif name == "agent":
            data = payload.get("data") or {}
            label += f" {payload.get('stream')}"
            label += f" {data['kind']}" if data.get("kind") else ""
            label += f" {data['phase']}" if data.get("phase") else ""
            if data.get("phase") == "model" and data.get("provider") is None:
                label += " none"
            if payload.get("stream") == "lifecycle" and data.get("phase") in ("finishing", "end", "error"):
                label += f" {data['stopReason']}" if data.get("stopReason") else ""
                label += " aborted" if data.get("aborted") else ""
        elif name == "session.message":
            message = payload.get("message") or {}
            key = message.get("idempotencyKey") or ""
            label += f" {message.get('role')} {first_word(message)}"
            if not run:
                owner = self.runs.get(key.split(":")[0])
                run = owner
        elif name == "session.tool":
            label += f" {payload['data']['phase']}"
        elif name == "sessions.changed":
            label += f" {payload['reason']}" if payload.get("reason") else f" phase {payload.get('phase')}"
        return label, run

    def repeats(self, client, session, run, label):
        """Whether an event of this kind is kept already."""
        seen = self.streams.setdefault((client, session, run), set())
        if label.startswith("agent lifecycle model") and not label.endswith("none"):
            seen -= {"agent assistant", "agent thinking", "chat delta"} | NEWS
            return False
        if label in {"agent assistant", "agent thinking", "chat delta"} | NEWS or label.startswith("sessions.changed"):
            if label in seen:
                return True
            seen.add(label)
        return False

    def is_of_others(self, payload):
        """Whether a list has changed that only the sessions played beside this scenario are in."""
        causes = {"groups": ("sessions.groups", '"category"'), "delete": ("sessions.delete",)}.get(payload.get("reason"))
        asked = [json.dumps(frame["f"]) for frame in self.frames if frame["dir"] == "out"]
        is_mine = any(cause in frame for cause in causes or () for frame in asked)
        return causes is not None and "sessionKey" not in payload and not is_mine

    def tires(self, client, run, label):
        """Whether the model has failed often enough in this run to know how that is told."""
        retries = self.retries.setdefault((client, run), 0)
        if label == "agent run_status retrying":
            self.retries[(client, run)] += 1
        return run is not None and retries >= ATTEMPTS

    def pointer(self, uuid):
        for number, payload in self.responses.items():
            stack = [("", payload)]
            while stack:
                at, value = stack.pop()
                if value == uuid:
                    return f"<{number}{at}>"
                if isinstance(value, dict):
                    stack += [(f"{at}/{k}", v) for k, v in value.items()]
                elif isinstance(value, list):
                    stack += [(f"{at}/{i}", v) for i, v in enumerate(value)]
        return None

    def params(self, value):
        if isinstance(value, dict):
            return {k: self.params(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.params(v) for v in value]
        if isinstance(value, str):
            value = re.sub(r"^/home/[^/]+", "<home>", value)
            return UUID.sub(lambda m: f"<{self.runs[m[0]]}>" if m[0] in self.runs else m[0],
                            self.pointer(value) if UUID.search(value) and value not in self.runs and self.pointer(value)
                            else value)
        return value

    def owns(self):
        """The sessions this scenario speaks of; others were played beside it."""
        mine = set()
        for frame in self.frames:
            body = frame["f"]
            if frame["dir"] == "out":
                text = json.dumps(body.get("params") or {})
                mine |= set(re.findall(r'"(?:session)?[kK]ey": "([^"]+)"', text))
                if body["method"] == "agent" and "sessionKey" not in body["params"]:
                    mine.add(f"agent:main:explicit:{body['params'].get('idempotencyKey')}")
            elif body.get("type") == "res" and isinstance(body.get("payload"), dict):
                mine |= {body["payload"].get("key"), body["payload"].get("sessionKey")}
        return {k if k.startswith("agent:") else f"agent:main:{k}" for k in mine if k}

    def distill(self):
        numbers, methods, keys, mine = {}, {}, {}, self.owns()
        asked, follows, listeners = set(), set(), {}
        for frame in self.frames:
            client, body = frame["c"], frame["f"]
            if frame["dir"] == "close":
                if isinstance(body, dict) and body.get("note") == "signal":
                    self.lines.append({"sig": body["x"]})
                continue
            if frame["dir"] == "out":
                listeners.setdefault(client, False)
                number = len(numbers) + 1
                numbers[(client, body["id"])] = number
                methods[number] = body["method"]
                params = body.get("params") or {}
                keys[number] = params.get("idempotencyKey") or params.get("runId")
                if body["method"] == "sessions.subscribe":
                    asked.add(client)
                if body["method"] == "sessions.messages.subscribe":
                    follows.add(client)
                self.lines.append({"c": client, "do": body["method"], "n": number, "p": self.params(params)})
            elif body.get("type") == "res":
                self.response(client, body, numbers, methods, keys)
            elif body.get("type") == "event" and body["event"] not in IGNORED:
                payload = body.get("payload") or {}
                session = payload.get("sessionKey")
                if payload.get("reason") == "cron-bindings-loaded":
                    continue
                if session and session not in mine or self.is_of_others(payload):
                    continue
                label, run = self.event(body["event"], payload)
                listeners.setdefault(client, False)
                if body["event"] == "sessions.changed" and payload.get("phase") != "message" and client not in asked:
                    listeners[client] = True
                if body["event"] == "session.message" and not listeners[client] and client not in asked | follows:
                    listeners[client] = session
                if self.repeats(client, session, run, label) or self.tires(client, run, label):
                    continue
                line = {"c": client, "ev": label, "s": self.session(session), "run": run, "k": self.shape(payload)}
                self.lines.append(without_nulls(line | self.rows(payload)))
        shapes = [self.shape_text(n) for n in range(len(self.shapes))]
        return [{"clients": listeners, "sessions": self.sessions, "shapes": shapes}] + self.lines

    def rows(self, payload):
        found = sorted({self.shape(row) for row in rows(payload)})
        return {"rows": found} if found else {}

    def response(self, client, body, numbers, methods, keys):
        number = numbers.get((client, body["id"]))
        if number is None:
            return
        payload, error = body.get("payload"), body.get("error") or {}
        payload = payload if isinstance(payload, dict) else {}
        self.responses[number] = payload
        ids = payload.get("runIds") or [None]
        run = self.run(keys[number] or payload.get("runId") or ids[-1] or payload.get("abortedRunId"))
        said = "ok" if body["ok"] else error.get("code")
        label = f"res {methods[number]} {payload.get('status') or said}"
        values = {"ok": body["ok"]} | self.values(payload)
        if error:
            values["error"] = json.loads(self.symbolic(json.dumps({k: error[k] for k in ("code", "message", "details") if k in error})))
        line = {"c": client, "re": number, "l": label, "run": run, "v": values, "k": self.shape(payload)}
        self.lines.append(without_nulls(line | self.rows(payload)))


def main():
    source, here = Path(sys.argv[1]), Path(__file__).parent
    for name in sys.argv[2:] or SCENARIOS:
        frames = [json.loads(line) for line in (source / f"{name}.jsonl").open()]
        head, *lines = Distiller(frames).distill()
        earlier = list(before(name))
        if earlier:
            head["clients"]["0"] = False
        lines = [head, *earlier, *lines]
        text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
        (here / f"{name}.jsonl").write_text(text)


main()
