"""Alert events as Common Alerting Protocol 1.2 messages (OASIS CAP-v1.2-os).

``open`` is an Alert, ``update`` an Update, ``clear`` an Update that says AllClear, ``retract`` a Cancel.
Every message after the first refers to the first one, whose identifier and time follow from the alert's id.
"""

from typing import Final
from xml.etree import ElementTree

from alerting.rules import KINDS, Rule
from alerting.words import subject
from schemas.alert import Alert
from schemas.station import Station

NAMESPACE: Final = "urn:oasis:names:tc:emergency:cap:1.2"
_MESSAGE: Final = {"open": "Alert", "update": "Update", "clear": "Update", "retract": "Cancel"}
#: "Likely" is more probable than this (CAP 1.2, 3.2.2).
_LIKELY: Final = 0.5
_SEVERITY: Final = {
    "info": "Minor", "minor": "Minor", "moderate": "Moderate", "severe": "Severe", "extreme": "Extreme",
}  # fmt: skip


def render(
    alert: Alert, rule: Rule, station: Station | None = None, *, sender: str, status: str = "Actual"
) -> str:
    """The CAP message of one event, XML 1.0 in UTF-8.

    `sender` is unique and names who answers for the alert, without spaces, commas, < or & (an address or
    domain). `status` is CAP's (Actual, Exercise, System, Test, Draft). ValueError for an unusable sender.
    """
    if not sender or any(char in " ,<&" for char in sender):
        raise ValueError(f"CAP sender {sender!r} must not be empty or contain spaces, commas, < or &")
    root = ElementTree.Element("alert", {"xmlns": NAMESPACE})

    def put(parent: ElementTree.Element, name: str, text: str) -> None:
        ElementTree.SubElement(parent, name).text = text

    put(root, "identifier", f"{alert.id}/{alert.sequence}")
    put(root, "sender", sender)
    # Late data may mend an alert by an earlier window than opened it; no message is sent before its first.
    opened = alert.opened
    put(root, "sent", _time(max(alert.at, opened).isoformat(timespec="seconds")))
    put(root, "status", status)
    put(root, "msgType", _MESSAGE[alert.event])
    put(root, "source", "skyfuse")
    put(root, "scope", "Public")
    if alert.sequence:
        first = _time(opened.isoformat(timespec="seconds"))
        put(root, "references", f"{sender},{alert.id}/0,{first}")
    over = alert.event in ("clear", "retract")
    info = ElementTree.SubElement(root, "info")
    put(info, "language", "en")
    for category in ("Env", "Health") if KINDS[rule.what].of_air else ("Infra",):
        put(info, "category", category)
    put(info, "event", subject(rule))
    put(info, "responseType", "AllClear" if over else "Monitor")
    put(info, "urgency", "Past" if over else "Future" if rule.foretells else "Immediate")
    put(info, "severity", _SEVERITY[alert.severity])
    put(info, "certainty", _certainty(alert, rule))
    put(info, "onset", _time(alert.since.isoformat(timespec="seconds")))
    put(info, "senderName", "skyfuse")
    place = (station.name if station else "") or alert.station
    put(info, "headline", f"{place}: {subject(rule)}, {'over' if over else alert.severity}")
    put(info, "description", alert.reason)
    web = next((link for link in alert.links.values() if link.startswith(("http://", "https://"))), None)
    if web is not None:
        put(info, "web", web)
    numbers = alert.values | {f"membership:{name}": share for name, share in alert.membership.items()}
    for name, number in ({"station": alert.station, "rule": alert.rule} | numbers).items():
        parameter = ElementTree.SubElement(info, "parameter")
        put(parameter, "valueName", name)
        put(parameter, "value", number if isinstance(number, str) else f"{number:.6g}")
    area = ElementTree.SubElement(info, "area")
    put(area, "areaDesc", ", ".join(filter(None, (place, station.city if station else ""))))
    if station is not None and station.latitude is not None and station.longitude is not None:
        put(area, "circle", f"{station.latitude:g},{station.longitude:g} 0")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _certainty(alert: Alert, rule: Rule) -> str:
    if rule.foretells:
        return "Likely" if rule.probability > _LIKELY else "Possible"
    return "Likely" if {"low", "high"} & alert.values.keys() else "Observed"


def _time(text: str) -> str:
    """CAP knows no Z, and writes UTC as an offset that is not a place's own: -00:00."""
    return text.replace("+00:00", "-00:00")
