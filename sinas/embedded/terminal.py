"""`sinas chat`: an agent in the terminal, over the same HTTP API as everybody else."""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

import httpx

from sinas.auth.superadmin import superadmin_email
from sinas.auth.tokens import AccessClaims, TokenSigner
from sinas.embedded.accounts import find_user
from sinas.embedded.datadir import connect
from sinas.errors import InvalidInputError, UpstreamError
from sinas.kit.json_types import JsonObject
from sinas.settings import client_address, load_settings

# Longer than a turn may be silent: the stream pings every few seconds.
_TIMEOUT = httpx.Timeout(10.0, read=120.0)
_TOKEN_LIFETIME = timedelta(hours=12)
_LONGEST_SHOWN = 300


class Terminal:
    """One conversation.

    Args:
        client: Knows the API's address and our credentials.
        answers: Where the agent's text goes.
        notes: Where tool calls and errors go.
    """

    def __init__(self, client: httpx.Client, answers: TextIO, notes: TextIO) -> None:
        """Talk over `client`."""
        self._client = client
        self._answers = answers
        self._notes = notes
        self._chat_id = ""
        self._open_line = False

    def start(self, agent: str) -> None:
        """Begin a chat with `namespace/name`.

        Raises:
            InvalidInputError: The name has no slash.
            UpstreamError: The API refuses.
        """
        namespace, slash, name = agent.partition("/")
        if not slash or not namespace or not name:
            raise InvalidInputError(f"{agent!r} is no agent; name it as namespace/name.")
        answer = self._client.post(f"/agents/{namespace}/{name}/chats", json={})
        self._chat_id = str(_checked(answer).json()["id"])

    def turn(self, message: str) -> bool:
        """Send a message and show the answer as it comes. Ctrl-C ends the turn.

        Returns:
            Whether the turn ended without an error.
        """
        path = f"/chats/{self._chat_id}/messages/stream"
        approvals: list[JsonObject] = []
        with self._client.stream("POST", path, json={"content": message}) as answer:
            good = self._show(answer, approvals)
        for approval in approvals:
            good = self._decide(approval) and good
        self._end_line()
        return good

    def _decide(self, approval: JsonObject) -> bool:
        name = f"{approval.get('function_namespace')}/{approval.get('function_name')}"
        arguments = json.dumps(approval.get("arguments"))
        self._note(f"? {name} {_cut(arguments)} needs your approval [y/N]")
        yes = sys.stdin.readline().strip().lower() in {"y", "yes"}
        path = f"/chats/{self._chat_id}/approve-tool/{approval['tool_call_id']}"
        decided = _checked(self._client.post(path, json={"approved": yes})).json()
        if decided.get("resume") == "waiting":
            return True
        path = f"/chats/{self._chat_id}/stream/{decided['channel_id']}"
        more: list[JsonObject] = []
        with self._client.stream("GET", path) as answer:
            good = self._show(answer, more)
        for approval_ in more:
            good = self._decide(approval_) and good
        return good

    def _show(self, answer: httpx.Response, approvals: list[JsonObject]) -> bool:
        if answer.status_code != 200:
            answer.read()
        _checked(answer)
        for event, data in _events(answer.iter_lines()):
            match event:
                case "message" if data.get("content"):
                    self._answers.write(str(data["content"]))
                    self._answers.flush()
                    self._open_line = True
                case "tool_start":
                    self._note(f"> {data.get('name')} {_cut(str(data.get('arguments')))}")
                case "tool_end":
                    self._note(f"< {data.get('name')} {_cut(str(data.get('result')))}")
                case "approval_required":
                    approvals.append(data)
                case "error":
                    self._note(f"! {data.get('error')}")
                    return False
                case "done":
                    return True
                case _:
                    continue
        self._note("! the stream ended without an end of the turn")
        return False

    def _note(self, text: str) -> None:
        self._end_line()
        self._notes.write(f"{text}\n")
        self._notes.flush()

    def _end_line(self) -> None:
        if self._open_line:
            self._answers.write("\n")
            self._answers.flush()
            self._open_line = False


def run_chat(agent: str, message: str, data_dir: Path) -> int:
    """Talk to an agent: one message, or until the end of input.

    Returns:
        Exit code: 0, or 1 where a single message's turn ended with an error.
    """
    url, credentials = _address(data_dir)
    headers = {"Authorization": f"Bearer {credentials}"}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT) as client:
            terminal = Terminal(client, sys.stdout, sys.stderr)
            terminal.start(agent)
            if message:
                return 0 if terminal.turn(message) else 1
            _converse(terminal, agent)
    except httpx.HTTPError as error:
        raise UpstreamError(f"The API at {url} does not answer ({error}).") from error
    except KeyboardInterrupt:
        return 130
    return 0


def _converse(terminal: Terminal, agent: str) -> None:
    sys.stderr.write(f"Talking to {agent}. Ctrl-C stops an answer, Ctrl-D ends.\n")
    while True:
        sys.stderr.write("you> ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            sys.stderr.write("\n")
            return
        if not line.strip():
            continue
        try:
            terminal.turn(line.strip())
        except KeyboardInterrupt:
            # Leaving the response closed the connection, and with it the turn.
            sys.stderr.write("\nstopped\n")
        except UpstreamError as error:
            sys.stderr.write(f"! {error}\n")


def _address(data_dir: Path) -> tuple[str, str]:
    url, key = client_address()
    if key:
        return url or "http://127.0.0.1:8000", key
    runtime = connect(data_dir)
    settings = load_settings()
    email = superadmin_email(settings)
    signer = TokenSigner(settings.auth.secret_key.get_secret_value())
    user_id = find_user(email)
    token = signer.mint(AccessClaims(user_id=user_id, email=email), _TOKEN_LIFETIME)
    return url or (runtime["api_url"] if runtime else settings.core.api_url), token


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        detail: Any = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:_LONGEST_SHOWN]
    raise UpstreamError(f"The API answered {answer.status_code}: {detail}")


def _events(lines: Iterator[str]) -> Iterator[tuple[str, JsonObject]]:
    """Server-sent events with JSON data; those without data, such as pings, are left out."""
    event, data = "message", ""
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            event = value if name == "event" else event
            data = f"{data}{value}" if name == "data" else data
            continue
        if data:
            loaded = json.loads(data)
            yield event, loaded if isinstance(loaded, dict) else {"content": loaded}
        event, data = "message", ""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
