"""NGSI-LD and NGSIv2: AirQualityObserved entities (Smart Data Models), in notifications or as they are."""

import re
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray
from sources.adapters.core.words import is_not_carried, parameter_of

_ZONE: Final = re.compile(r"(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})$")


def _read(payload: Node, tray: Tray) -> None:
    for entity in (payload["data"] or payload).one_or_each():
        urn = entity["id"].text()
        device = tray.device(urn.removeprefix("urn:ngsi-ld:").partition(":")[2] or urn)
        where = (entity["location"]["value"] or entity["location"])["coordinates"]
        east, north = [*where.each(), Node.root(None), Node.root(None)][:2]
        tray.fact(device, "name", _value(entity["name"] or entity["stationName"]))
        tray.place(device, north, east)
        observed = _value(entity["dateObserved"] or entity["dateObservedTo"])
        text = observed.peek()
        # Older brokers give an interval, which the values stand for.
        begin, slash, end = f"{text}".rpartition("/")
        common = tray.moment_of(device, end, observed) if text else None
        # What the beginning does not say of its zone, the end says.
        zone = "" if _ZONE.search(begin) else "".join(_ZONE.findall(end))
        since = tray.moment_of(device, begin + zone, observed) if common and slash else None
        period_s = (common - since).total_seconds() if common and since else None
        if text is not None:
            observed.drop()
        for name, attribute in entity.items():
            if parameter_of(name) is None and not is_not_carried(name):
                continue
            value, version_2 = _value(attribute), attribute["metadata"]["unitCode"]["value"]
            unit = (attribute["unitCode"] or version_2).text()
            if name == "relativeHumidity" and not unit:
                unit, number = "%", value.peek()
                if isinstance(number, int | float) and 0 <= number <= 1:  # of the model, a fraction
                    value.put(number * 100)
            at = tray.moment(device, attribute["observedAt"]) if attribute["observedAt"] else common
            kind = attribute["kind"]["value"].peek()
            if kind == "imputed":
                tray.leave("no_reading", attribute, "imputed, not measured")
            elif at is None:
                tray.refused_draft(device).named(name, value, unit)
            else:
                whole = period_s if at == common else None
                tray.draft(device, at=at, period_s=whole).named(name, value, unit)


def _value(attribute: Node) -> Node:
    """The value of an attribute: normalised (`value`), with a JSON-LD type (`@value`), or as it is."""
    inner = attribute["value"] or attribute
    return inner["@value"] or inner


ADAPTER: Final = Adapter(
    name="ngsi-ld",
    title="NGSI-LD notifications (AirQualityObserved)",
    versions="NGSI-LD 1.3 to 1.8 and NGSIv2, normalised and simplified. relativeHumidity is a fraction of"
    " one; gases without a unitCode are refused",
    arrives="notification of a subscription (POST)",
    read=_read,
    others={
        "*_Level": "index", "*.type": "form", "type": "form", "id": "ids", "subscriptionId": "ids",
        "notifiedAt": "of the notification", "*@context": "form", "*address": "position",
        "*location": "position", "*source": "provider", "*dataProvider": "provider",
        "*areaServed": "position", "*airQualityIndex": "index", "*airQualityLevel": "index",
        "*reliability": "quality", "*typeofLocation": "position", "*refDevice": "ids",
        "*refPointOfInterest": "ids", "*metadata": "further", "*qualityFlag": "quality",
        "*interval": "quality", "*kind": "quality", "*dateObserved*": "time", "*windSpeed": "wind",
        "*windDirection": "wind", "*createdAt": "history", "*modifiedAt": "history", "*stationCode": "ids",
        "*stationName": "name", "*observedAt": "time", "*unitCode": "unit", "*name": "name",
    },
    correction="the publisher's",
    many=True,
    archive=True,
)  # fmt: skip
