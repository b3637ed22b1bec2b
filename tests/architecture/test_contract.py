"""The contract of /api/v1 is whole, and a change of it is a diff that somebody reads.

`python -m tests.architecture.test_contract` writes openapi.txt anew.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]  # only ever here
import pytest
from fastapi import FastAPI

from service.app import build
from service.catalog import load_tables
from service.core.settings import get_settings
from service.guardrails.actions import RULES, Rule
from service.guardrails.permissions import scope_of
from service.web.contract import JSON, KEY, operations
from tests.architecture.conftest import Route
from tests.support.servers import RunningServer

REVIEWED = Path(__file__).parent / "openapi.txt"
FEWEST = 18

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document(app: FastAPI) -> Document:
    made = app.openapi()
    assert len(list(operations(made))) >= FEWEST
    return made


def shape(schema: Document, schemas: Document, above: tuple[str, ...] = ()) -> str:
    """A schema in one line: {name: string, unit?: string}."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name if name in above else shape(schemas[name], schemas, (*above, name))
    if options := schema.get("anyOf"):
        return " | ".join(shape(one, schemas, above) for one in options)
    if "enum" in schema:
        return "/".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"[{shape(schema['items'], schemas, above)}]"
    if schema.get("type") == "object" and "properties" in schema:
        must = schema.get("required", ())
        fields = (
            f"{name}{'' if name in must else '?'}: {shape(part, schemas, above)}"
            for name, part in schema["properties"].items()
        )
        return f"{{{', '.join(fields)}}}"
    return str(schema.get("format") or schema.get("type", "any"))


def lines_of(document: Document) -> list[str]:
    """One line per operation: its name, parameters, body, answers and scope."""
    schemas = document["components"]["schemas"]
    found = []
    for method, path, operation in operations(document):
        given = [
            f"{one['in']}:{one['name']}{'' if one.get('required') else '?'}={shape(one['schema'], schemas)}"
            for one in operation.get("parameters", ())
        ]
        bodies = operation.get("requestBody", {}).get("content", {})
        given += [
            f"{'body' if kind == JSON else kind}={shape(body['schema'], schemas)}" for kind, body in bodies.items()
        ]
        answers = [
            f"{status}={shape(answer['content'][JSON]['schema'], schemas) if answer.get('content') else ''}"
            for status, answer in operation["responses"].items()
            if status < "300"
        ]
        refusals = ",".join(status for status in operation["responses"] if status >= "300")
        scope = operation["security"][0][KEY][0]
        found.append(
            f"{method} {path} {operation['operationId']} ({scope}) {' '.join([*given, '->', *answers])} !{refusals}"
        )
    return sorted(found)


def test_the_contract_equals_the_reviewed_file(document: Document) -> None:
    now, reviewed = lines_of(document), REVIEWED.read_text().splitlines()
    assert now == reviewed, (
        f"only in the code: {sorted(set(now) - set(reviewed))}; only in the file: {sorted(set(reviewed) - set(now))}. "
        "Customers' programs rely on these lines: within v1 add fields, never remove, rename or retype them. When it "
        "is right: `python -m tests.architecture.test_contract` and have the diff of openapi.txt reviewed"
    )


def gaps(document: Document) -> list[str]:
    """What an operation leaves unsaid."""
    found = []
    names = Counter(operation["operationId"] for _, _, operation in operations(document))
    for method, path, operation in operations(document):
        name = operation["operationId"]
        where = f"{method} {path}"
        if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name) or names[name] > 1:
            found.append(f"{where}: {name!r} is no name of its own for the handler")
        if not operation["description"].split("\n\nScope:")[0].strip(" .") or operation["description"].startswith(
            "Scope"
        ):
            found.append(f"{where}: give the handler a docstring; it is the description")
        if not operation.get("summary"):
            found.append(f"{where}: no summary")
        found += [f"{where}: no example" for content in contents(operation) if "example" not in content]
        found += [
            f"{where}: say what {one['name']} is: Query(description=...)"
            for one in operation.get("parameters", ())
            if one["in"] == "query" and not one.get("description")
        ]
    return found


def contents(operation: Document) -> Iterator[Document]:
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from part.get("content", {}).values()


def test_every_operation_explains_itself(document: Document) -> None:
    assert gaps(document) == []


def bare_texts(document: Document) -> list[str]:
    """Texts that no reader could guess: an example made up for them would be `text`."""
    return [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, part in schema.get("properties", {}).items()
        for option in part.get("anyOf", [part])
        if option.get("type") == "string" and not {"format", "enum", "description", "default"} & set(option)
        if not part.get("examples") and not option.get("examples") and not schema.get("examples")
    ]


def test_every_text_has_an_example(document: Document) -> None:
    found = bare_texts(document)
    assert not found, f"{found}: Field(examples=[...]), as a customer would see it"


def test_every_example_fits_its_schema(document: Document) -> None:
    seen = 0
    for method, path, operation in operations(document):
        given = [(one["schema"], one["example"]) for one in operation.get("parameters", ())]
        given += [(content["schema"], content["example"]) for content in contents(operation)]
        for schema, value in given:
            whole = {**schema, "components": document["components"]}
            complaints = [one.message for one in jsonschema.Draft202012Validator(whole).iter_errors(value)]
            assert not complaints, f"{method} {path}: {complaints}"
            seen += 1
    assert seen >= 50
    for name, answer in document["components"]["responses"].items():
        [content] = answer["content"].values()
        whole = {**content["schema"], "components": document["components"]}
        jsonschema.validate(content["example"], whole)
        assert name == f"Problem{content['example']['status']}"


def test_every_reference_leads_somewhere(document: Document) -> None:
    named = set(re.findall(r"'\$ref': '#/components/(\w+)/([^']+)'", repr(document)))
    assert len(named) >= 40
    assert [f"{part}/{name}" for part, name in named if name not in document["components"][part]] == []


def rules_called(route: Route) -> list[Rule]:
    """The actions and queries that the handler names."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(route.endpoint)))
    called = [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("actions", "queries")
    ]
    module = inspect.getmodule(route.endpoint)
    verbs = [getattr(getattr(module, name.partition(".")[0]), name.partition(".")[2]) for name in called]
    return [verb.rule for verb in verbs]


def test_each_operation_names_the_scope_that_its_rule_asks_for(routes: list[Route], document: Document) -> None:
    seen = 0
    for route in (route for route in routes if route.is_api):
        asked = {scope_of(rule.name, writes=rule.writes) for rule in rules_called(route)}
        said = set(document["paths"][route.path][route.method.lower()]["security"][0][KEY])
        assert asked == said, f"{route} needs {asked} and says {said}: name the action after its feature"
        seen += 1
    assert seen >= FEWEST
    assert len(RULES) > seen


def test_each_rule_bites(document: Document) -> None:
    broken = deepcopy(document)
    path = broken["paths"]["/api/v1/indicators/{indicator_id}"]
    path["get"]["operationId"] = "list_indicators"
    path["patch"]["description"] = "Scope: `indicators:write`."
    del path["patch"]["requestBody"]["content"][JSON]["example"]
    path["delete"]["summary"] = ""
    told = " ".join(gaps(broken))
    for words in ("no name of its own", "docstring", "no example", "no summary"):
        assert words in told
    broken["components"]["schemas"]["IndicatorRead"]["properties"]["colour"] = {"type": "string"}
    assert bare_texts(broken) == ["IndicatorRead.colour"]
    with pytest.raises(AssertionError, match="colour"):
        test_the_contract_equals_the_reviewed_file(broken)
    path["patch"]["requestBody"]["content"][JSON]["example"] = {"name": 7}
    with pytest.raises(AssertionError, match="PATCH"):
        test_every_example_fits_its_schema(broken)


async def test_customers_get_the_contract_in_production_too(server: RunningServer) -> None:
    """It is served whatever the environment: a map of the public roads, which the pages are not part of."""
    async with httpx.AsyncClient(base_url=server.url) as anybody:
        answer = await anybody.get("/openapi.json")
        assert answer.status_code == 200
        paths = answer.json()["paths"]
        assert [path for path in paths if not path.startswith("/api/v1/")] == []
        again = await anybody.get("/openapi.json", headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304


if __name__ == "__main__":
    load_tables()
    REVIEWED.write_text("".join(f"{line}\n" for line in lines_of(build(get_settings()).openapi())))
