"""The peer of the HTTP API: one FastAPI route that checks a body, does one INSERT and commits, on the same libraries.

Run by `uvicorn benchmarks.bare_api:app`; the database is named by BENCH_DATABASE_URL.
"""

import os
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from sqlalchemy import Column, DateTime, Engine, MetaData, Table, Text, Uuid, create_engine, func, insert
from sqlalchemy.dialects.postgresql import JSONB

_POOL: Final = 5
orders: Final = Table(
    "orders",
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("body", JSONB, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


class Given(BaseModel):
    value: int


class Made(BaseModel):
    id: UUID
    created_at: datetime


def make_app(database_url: str) -> FastAPI:
    engine: Engine = create_engine(database_url, pool_size=_POOL)
    orders.metadata.create_all(engine)
    app = FastAPI()

    @app.post("/orders", status_code=201)
    def order(given: Given, key: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> Made:
        row: dict[str, Any] = {"id": uuid4(), "body": given.model_dump(), "asked_by": key.credentials[:8]}
        with engine.begin() as connection:
            made = connection.execute(insert(orders).values(row).returning(orders.c.created_at)).scalar_one()
        return Made(id=row["id"], created_at=made)

    return app


if "BENCH_DATABASE_URL" in os.environ:
    app = make_app(os.environ["BENCH_DATABASE_URL"])
