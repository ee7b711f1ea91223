"""The API, version 1: what it answers at which path, to whom."""

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel

from schemas.station import Station
from web.api import alerts, health, notes, pictures, records, series, stations, stream
from web.composing import PREFIX
from web.documents import (
    AlertNow,
    AlertsExplained,
    AlertsPage,
    Explained,
    ForecastAnswer,
    Health,
    LatestPage,
    LettersPage,
    ListeningAnswer,
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
from web.managing import Adopted, NewNote, Note, NotesList, RecordsPage, WaitingList
from web.parts import Parts

#: Models that the document has beside those that answer.
DOCUMENTS: Final[tuple[type[BaseModel], ...]] = (
    Adopted, AlertNow, AlertsExplained, AlertsPage, Explained, ForecastAnswer, Health, LatestPage,
    LettersPage, ListeningAnswer, NewNote, NotablesList, Note, NotesList, PendingList, PicturesList,
    ProblemDocument, QualityPage, RecordsPage, SeriesColumns, SiteDocument, Station, StationFeature,
    StationNow, StationsPage, WaitingList,
)  # fmt: skip


def router(parts: Parts) -> APIRouter:
    """All paths of the API."""
    api = APIRouter(prefix=PREFIX)
    for subject in (stations, series, alerts, health, pictures, records, notes, stream):
        subject.add(api, parts)
    return api
