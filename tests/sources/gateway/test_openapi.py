"""The OpenAPI document: checked in, and true of what the gateway answers."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from schemas.reading import READING_EXAMPLE
from sources.gateway.answers import TakenAnswer, TurnedAway
from sources.gateway.openapi import document

CHECKED_IN = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_document_is_checked_in() -> None:
    assert json.loads(CHECKED_IN.read_text()) == document(), (
        "docs/openapi.json is stale: python -m sources.gateway.openapi > docs/openapi.json"
    )


def test_every_reference_leads_somewhere_and_examples_fit() -> None:
    made = document()
    text = json.dumps(made)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(made["components"]["schemas"])

    def validator(name: str) -> Draft202012Validator:
        return Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": made["components"]}
        )

    validator("Reading").validate(json.loads(READING_EXAMPLE))
    validator("TakenAnswer").validate(json.loads(TakenAnswer(published=1, values=2).model_dump_json()))
    validator("TurnedAway").validate({"error": "no_key", "why": "none"})
    assert not validator("TurnedAway").is_valid({"error": "nonsense", "why": "none"})
    assert TurnedAway(error="no_key", why="none").error == "no_key"
