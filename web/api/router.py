"""The API, version 1: what it answers at which path, to whom."""

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel

from web.api import alerts, health, pictures, series, stations, stream
from web.composing import PREFIX
from web.documents import (
    AlertNow,
    AlertsExplained,
    AlertsPage,
    Explained,
    Health,
    LatestPage,
    LettersPage,
    NotablesList,
    PendingList,
    PicturesList,
    ProblemDocument,
    QualityPage,
    SeriesColumns,
    SiteDocument,
    StationFeature,
    StationNow,
    StationsPage,
)
from web.parts import Parts

#: Models that the document has beside those that answer.
DOCUMENTS: Final[tuple[type[BaseModel], ...]] = (
    AlertNow, AlertsExplained, AlertsPage, Explained, Health, LatestPage, LettersPage, NotablesList,
    PendingList, PicturesList, ProblemDocument, QualityPage, SeriesColumns, SiteDocument, StationFeature,
    StationNow, StationsPage,
)  # fmt: skip


def router(parts: Parts) -> APIRouter:
    """All paths of the API."""
    api = APIRouter(prefix=PREFIX)
    for subject in (stations, series, alerts, health, pictures, stream):
        subject.add(api, parts)
    return api
