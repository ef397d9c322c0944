"""`uqueue learn scenarios`: look for scenarios, see their history, go back in it."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from typing import Annotated, Any

import typer

from uqueue.cli.failures import UsageProblem
from uqueue.cli.learn_tables import history_table, scenarios_table, show_scenario
from uqueue.cli.output import print_json, say, stdout
from uqueue.client import Client

HELP = "The scenarios that samples are made from."
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ScenarioId = Annotated[str, typer.Argument(metavar="ID", help="The scenario.")]


def search(
    query: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Words to look for; all scenarios unless given.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="Of this category.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="With this tag; may be repeated, then with all.")] = None,
    filters: Annotated[
        str | None, typer.Option(metavar="JSON", help="Further filters of the repository, as a JSON object.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where another search ended.")] = None,
    json: AsJson = False,
) -> None:
    """Look for scenarios by words, category, tags and parameters."""
    given = _object(filters) if filters is not None else {}
    given |= {"category": category} if category is not None else {}
    given |= {"tags": tag} if tag else {}
    with Client() as client:
        found = client.learning.search_scenarios(query, filters=given, limit=limit, cursor=cursor)
    if json:
        print_json(found.model_dump(mode="json"))
    elif not found.scenarios:
        say("No scenario matches.")
    else:
        stdout().print(scenarios_table(found))
        if not found.ranked_all:
            say("More match than are ranked: the best of the latest matches come first, then the latest of the others.")
        if found.next_cursor:
            say(f"There are more: --cursor {found.next_cursor}")


def show(
    scenario_id: ScenarioId,
    version: Annotated[int | None, typer.Option(min=1, help="As it was at this version.")] = None,
    json: AsJson = False,
) -> None:
    """Show a scenario."""
    with Client() as client:
        found = client.learning.scenario(scenario_id, version=version)
    if json:
        print_json(found.to_record())
    else:
        show_scenario(found)


def history(scenario_id: ScenarioId, json: AsJson = False) -> None:
    """Show every version of a scenario, the latest first."""
    with Client() as client:
        found = client.learning.scenario_history(scenario_id)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        stdout().print(history_table(found))


def restore(
    scenario_id: ScenarioId,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="The version to go back to.")],
    json: AsJson = False,
) -> None:
    """Make a new version of a scenario with the content of an old one."""
    with Client() as client:
        found = client.learning.restore_scenario(scenario_id, version)
    if json:
        print_json(found.to_record())
    else:
        say(f"{scenario_id} has version {found.version} now, with the content of version {version}.")


def archive(scenario_id: ScenarioId) -> None:
    """Take a scenario out of use; its history stays."""
    with Client() as client:
        client.learning.archive_scenario(scenario_id)
    say(f"{scenario_id} is archived. `uqueue learn scenarios restore` brings a version back.")


COMMANDS: dict[str, Callable[..., None]] = {
    "search": search,
    "show": show,
    "history": history,
    "restore": restore,
    "archive": archive,
}


def _object(text: str) -> dict[str, Any]:
    try:
        found = json_module.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageProblem(f"--filters: it is not JSON ({str(error)[:200]})") from None
    if not isinstance(found, dict):
        raise UsageProblem('--filters: expected a JSON object such as {"difficulty": "HIGH"}')
    return found
