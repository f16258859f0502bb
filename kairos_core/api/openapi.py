"""openapi.json (OpenAPI 3.1), made from the route table and the types in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from kairos_core.api.operation import Call, Operation, json_response
from kairos_core.api.schema import ErrorShape
from kairos_core.version import __version__

_REF = "#/components/schemas/{model}"


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document of the operations."""
    schemas: dict[str, Any] = {}
    error = _schema(ErrorShape, schemas)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, schemas, error)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kairos", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(operation: Operation, schemas: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _name(operation),
        "summary": operation.summary,
        "parameters": _parameters(operation.path),
        "responses": {
            **_answer(operation, schemas),
            "default": {"description": "An error", "content": {"application/json": {"schema": error}}},
        },
    }
    if operation.takes_body:
        content = {"application/json": {"schema": _schema(operation.body, schemas)}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.needs_token:
        described["security"] = [{"token": []}, {}]  # none is needed over the unix socket
    return described


def _answer(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    if operation.answer is None and operation.media == "application/json":
        return {"204": {"description": "Done"}}
    schema = {"type": "string"} if operation.answer is None else _schema(operation.answer, schemas)
    return {"200": {"description": operation.summary, "content": {operation.media: {"schema": schema}}}}


def _parameters(path: str) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _schema(type_: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - 15 MB, for a document that is hardly ever asked for

    schema = TypeAdapter(type_).json_schema(ref_template=_REF, mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    return schema


def _name(operation: Operation) -> str:
    return operation.method.lower() + re.sub(r"\W+", "_", operation.path).rstrip("_")


def openapi_operation(operations: Sequence[Operation]) -> Operation:
    """Return the operation that serves the document of all these operations and of itself."""

    async def serve(_call: Call) -> Response:
        return json_response(describe([*operations, itself]))

    itself = Operation("GET", "/api/v1/openapi.json", serve, "This API as an OpenAPI document", dict[str, Any])
    return itself
