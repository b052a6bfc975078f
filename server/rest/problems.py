"""Errors as RFC 9457 problem details, from the one catalogue."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from contract.errors import ErrorCode, Problem, TuttiError
from contract.task import TaskFormError

MEDIA_TYPE = "application/problem+json"


class Fault(BaseModel):
    """One fault of a request: where, what, and how to cure it."""

    path: str
    message: str
    cure: str


class ProblemDetails(BaseModel):
    """RFC 9457 problem details, with the code of the catalogue, its cure, and every fault where there are several."""

    type: str = Field(examples=["/errors#budget-exceeded"])
    title: str
    status: int
    detail: str
    code: str | None = Field(None, description="The error's code, the same in gRPC and on the command line.")
    cure: str | None = None
    problems: list[Fault] = Field(default_factory=list[Fault])


def describes(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with `codes`, for OpenAPI.

    >>> sorted(describes(ErrorCode.NOT_FOUND, ErrorCode.RUN_STATE))
    [404, 409]
    """
    by_status: dict[int, list[ErrorCode]] = {}
    for code in codes:
        by_status.setdefault(code.value.http_status, []).append(code)
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    return {
        status: {
            "description": "; ".join(f"{code.slug}: {code.value.title}" for code in several),
            "content": {MEDIA_TYPE: {"schema": schema, "examples": {code.slug: {"value": _example(code)} for code in several}}},
        }
        for status, several in by_status.items()
    }


def response(
    code: ErrorCode, detail: str, problems: tuple[Problem, ...] = (), headers: dict[str, str] | None = None
) -> JSONResponse:
    """The answer that tells a client of an error."""
    kind = code.value
    body = ProblemDetails(
        type=f"/errors#{code.slug}",
        title=kind.title,
        status=kind.http_status,
        detail=detail,
        code=code.slug,
        cure=kind.cure,
        problems=[Fault(path=fault.path, message=fault.message, cure=fault.cure) for fault in problems],
    )
    every = dict(headers or {})
    if code is ErrorCode.UNAUTHENTICATED:
        every["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body.model_dump(), kind.http_status, headers=every, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Turns every error of `app` into problem details. What is no error of the catalogue is our own fault and tells nothing."""
    app.add_exception_handler(TuttiError, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, TuttiError):
        raise error
    headers = {"Retry-After": "1"} if error.code is ErrorCode.RATE_LIMITED else None
    return response(error.code, error.detail, error.problems if isinstance(error, TaskFormError) else (), headers)


async def _malformed(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = tuple(
        Problem(".".join(str(part) for part in fault["loc"]), str(fault["msg"])[:400], "Give a value that the message allows.")
        for fault in error.errors()
    )
    return response(ErrorCode.ARGUMENT_INVALID, "; ".join(f"{fault.path}: {fault.message}" for fault in faults)[:1000], faults)


async def _plain(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == ErrorCode.NOT_FOUND.value.http_status:
        return response(ErrorCode.NOT_FOUND, "there is nothing at this address; /openapi.json lists what there is")
    if error.status_code == 400:
        return response(ErrorCode.ARGUMENT_INVALID, str(error.detail))
    body = ProblemDetails(
        type="about:blank", code=None, title=str(error.detail), status=error.status_code, detail=str(error.detail)
    )
    return JSONResponse(body.model_dump(), error.status_code, headers=dict(error.headers or {}), media_type=MEDIA_TYPE)


async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    return response(ErrorCode.INTERNAL, "the request could not be answered")


def _example(code: ErrorCode) -> dict[str, Any]:
    kind = code.value
    return {
        "type": f"/errors#{code.slug}", "title": kind.title, "status": kind.http_status, "detail": kind.title, "code": code.slug,
        "cure": kind.cure, "problems": [],
    }  # fmt: skip
