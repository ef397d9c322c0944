"""Commands about dead letters: list, show, replay, drop. What a letter holds never reaches the terminal unescaped."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from uqueue.cli.failures import FAILED, UsageProblem
from uqueue.cli.output import complain, print_json, print_pairs, say, stdout, table
from uqueue.client import Client
from uqueue.dead import DeadLetters
from uqueue_config.errors import LetterError
from uqueue_config.ledger import Letter

HELP = "Messages that no worker could answer: look at them, replay or drop them."
SHOWN_LINES, SHOWN_COLUMNS, SHOWN_BYTES = 60, 160, 2000
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Numbers = Annotated[
    list[int] | None, typer.Argument(metavar="NUMBER", help="Numbers of dead letters, as `list` shows them.")
]


def list_letters(
    first: Annotated[int, typer.Option(min=0, help="Leave out so many of the newest.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=1000, help="Show at most so many.")] = 50,
    json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    with Client() as client:
        page = client.dead_letters.list(first, count)
    if json:
        print_json({"total": page.total, "letters": [letter_facts(letter) for letter in page.letters]})
    elif page.letters:
        lines = [[escaped(str(cell)) for cell in letter_facts(one).values()] for one in page.letters]
        stdout().print(table(["number", "queue", "reason", "job", "buried at", "bytes"], lines))
        say(f"{len(page.letters)} of {page.total}; `uqueue dead show NUMBER` shows one.")
    else:
        say("There are no dead letters." if not page.total else f"There are {page.total} dead letters.")


def show(
    letter: Annotated[str, typer.Argument(metavar="NUMBER_OR_JOB", help="A dead letter's number, or its job's id.")],
    json: AsJson = False,
) -> None:
    """Show one dead letter with its reason and message."""
    with Client() as client:
        found = client.dead_letters.get(letter)
    if json:
        print_json({**letter_facts(found), **_whole_message(found)})
        return
    print_pairs((name, None if value is None else escaped(str(value))) for name, value in letter_facts(found).items())
    text, rest = readable(found.message or b"")
    sys.stdout.write(f"\n{text}\n")
    sys.stdout.flush()
    if rest:
        say(f"{rest}; --json holds the message as it was kept.")


def replay(
    numbers: Numbers = None,
    all: Annotated[bool, typer.Option("--all", help="Replay all that there are now.")] = False,
    json: AsJson = False,
) -> None:
    """Publish messages again; a job that was given up is open again, its attempts counted anew."""
    replayed, refused = [], {}
    with Client() as client:
        letters = client.dead_letters
        for number in _chosen(letters, numbers, all):
            try:
                letters.replay(number)
                replayed.append(number)
            except LetterError as error:
                refused[number] = error.message
    if json:
        print_json({"replayed": replayed, "refused": refused})
    for reason in refused.values():
        complain(reason)
    say(f"{len(replayed)} replayed")
    if refused:
        raise typer.Exit(FAILED)


def drop(
    numbers: Numbers = None,
    all: Annotated[bool, typer.Option("--all", help="Drop all that there are now.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Forget dead letters for good."""
    with Client() as client:
        letters = client.dead_letters
        chosen = _chosen(letters, numbers, all)
        if not all:
            for number in chosen:
                letters.get(number)
        if chosen and not yes and not _confirmed(len(chosen)):
            say("Nothing was dropped.")
            raise typer.Exit(FAILED)
        dropped = letters.drop(chosen)
    if json:
        print_json({"dropped": dropped})
    say(f"{dropped} dropped")


COMMANDS: dict[str, Callable[..., None]] = {"list": list_letters, "show": show, "replay": replay, "drop": drop}


def letter_facts(letter: Letter) -> dict[str, Any]:
    """Return what is known of a letter, but for its message, as JSON."""
    return {
        "number": letter.number,
        "queue": letter.queue,
        "reason": letter.reason,
        "job_id": letter.job_id,
        "buried_at": letter.buried_at.isoformat(timespec="seconds"),
        "size_bytes": letter.size_bytes,
    }


def escaped(text: str) -> str:
    """Return a text in which whatever could move a cursor, or hide something, is written as an escape."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def readable(message: bytes) -> tuple[str, str]:
    """Return the beginning of a message for people, and a sentence about the rest if there is any."""
    with contextlib.suppress(ValueError, RecursionError):
        lines = json.dumps(_with_open_body(json.loads(message)), indent=2).splitlines()
        shown = [line if len(line) <= SHOWN_COLUMNS else f"{line[:SHOWN_COLUMNS]}..." for line in lines[:SHOWN_LINES]]
        is_whole = shown == lines
        return "\n".join(shown), "" if is_whole else f"The message has {len(lines)} lines, shortened here"
    text = escaped(message[:SHOWN_BYTES].decode(errors="backslashreplace"))
    return text, f"{len(message)} bytes, the first {SHOWN_BYTES} shown" if len(message) > SHOWN_BYTES else ""


def _with_open_body(message: Any) -> Any:
    """Show Celery's body, which is JSON inside JSON, as what it is."""
    if isinstance(message, dict) and isinstance(message.get("body"), str):
        with contextlib.suppress(ValueError, RecursionError):
            return {**message, "body": json.loads(message["body"])}
    return message


def _whole_message(letter: Letter) -> dict[str, str]:
    message = letter.message or b""
    try:
        return {"message": message.decode()}
    except UnicodeDecodeError:
        return {"message_base64": base64.b64encode(message).decode("ascii")}


def _chosen(letters: DeadLetters, numbers: list[int] | None, all: bool) -> list[int]:
    if bool(numbers) == all:
        raise UsageProblem("Name the numbers of dead letters, or give --all; `uqueue dead list` shows them.")
    return list(letters.numbers()) if all else sorted(set(numbers or ()))


def _confirmed(count: int) -> bool:
    try:
        return typer.confirm(f"Forget {count} dead letter{'s' if count > 1 else ''} for good?", err=True)
    except typer.Abort:
        raise UsageProblem("This cannot be undone; add --yes to do it without being asked.") from None
