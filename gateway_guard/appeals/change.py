"""Several writes to the shared state in one step: all of them, or none because something is not as its reader has seen it."""

from __future__ import annotations

from typing import Any

import msgspec

# What the keys mean. A server that says more than this was written by a newer guard, which may mean something else by them.
VERSION = 1
ABOUT, ACTS = "about", "acts"
# KEYS: the counters, the acts, and whatever is named. ARGV: our version; what is expected: (key, field, value) each; what is done: (words, command, key,
# the rest) each; acts. Answers 1 when it is done, 0 when something is not as expected, a negative number for the newer version that was found.
COMMIT = """
local place = 0
local function word() place = place + 1; return ARGV[place] end
local function number() return tonumber(word()) end
local ours, found = number(), tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if found > ours then return -found end
for _ = 1, number() do
  local key = KEYS[number()]
  local field = word()
  if (redis.call('HGET', key, field) or '') ~= word() then return 0 end
end
redis.call('HSET', KEYS[1], 'version', ours)
for _ = 1, number() do
  local rest, command, key, words = number(), word(), KEYS[number()], {}
  for index = 1, rest do words[index] = word() end
  redis.call(command, key, unpack(words))
end
for _ = 1, number() do
  local act = redis.call('HINCRBY', KEYS[1], 'acts', 1)
  redis.call('ZADD', KEYS[2], act, act .. '\\n' .. word())
end
return 1
"""


class Change:
    """What is to be done in one step. Keys are named without their prefix."""

    def __init__(self) -> None:
        self.keys = [ABOUT, ACTS]
        self._expected: list[list[Any]] = []
        self._done: list[list[Any]] = []
        self._acts: list[bytes] = []

    def expect(self, key: str, field: str | int, value: str | bytes) -> Change:
        """Do nothing unless the hash's field is this; empty: unless there is none."""
        self._expected.append([self._place(key), field, value])
        return self

    def do(self, command: str, key: str, *rest: str | bytes | float) -> Change:
        """Carry out a command."""
        self._done.append([len(rest), command, self._place(key), *rest])
        return self

    def act(self, at: float, kind: str, **body: Any) -> Change:
        """Tell the audit log."""
        self._acts.append(msgspec.json.encode([at, kind, msgspec.json.encode(body).decode()]))
        return self

    def words(self) -> list[Any]:
        """The script's arguments."""
        return [VERSION, *_counted(self._expected), *_counted(self._done), len(self._acts), *self._acts]

    def _place(self, key: str) -> int:
        if key not in self.keys:
            self.keys.append(key)
        return self.keys.index(key) + 1


def _counted(rows: list[list[Any]]) -> list[Any]:
    return [len(rows), *(word for row in rows for word in row)]
