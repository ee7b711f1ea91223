"""`skyfuse influx init`: buckets with retention and least-privilege tokens, safe to run again.

Tokens are written to files and never shown: InfluxDB 2.9 keeps only their hashes, so what is lost cannot be
read back, only replaced. A token whose file is there and that the server still knows is left alone.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
import urllib3
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.authorization import Authorization
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.permission import Permission
from influxdb_client.domain.permission_resource import PermissionResource
from rich.console import Console
from rich.markup import escape

from infra.errors import InfluxInitError
from infra.settings import Settings

app = typer.Typer(help="The InfluxDB that skyfuse writes to.", no_args_is_help=True)

_DAY_S: Final = 86_400


class Bucket(NamedTuple):
    """A bucket, and for how long it keeps points (days; 0 keeps them for ever)."""

    suffix: str
    days: int


#: Windows, hours, days.
BUCKETS: Final = (Bucket("", 90), Bucket("_hourly", 5 * 366), Bucket("_daily", 0))


class Token(NamedTuple):
    """A token: its file, its description on the server, and what it may do with every bucket."""

    file: str
    description: str
    actions: tuple[str, ...]


TOKENS: Final = (
    Token("write.token", "skyfuse: write", ("write",)),
    Token("read.token", "skyfuse: read (Grafana)", ("read",)),
)


def initialise(
    url: str, org: str, bucket: str, admin_token: str, folder: Path, days: int | None = None
) -> list[str]:
    """Make what is missing; what was done, in words. Raises InfluxInitError."""
    done: list[str] = []
    with _explained(url), InfluxDBClient(url=url, token=admin_token, org=org, timeout=10_000) as client:
        organisations = client.organizations_api().find_organizations(org=org)
        if not organisations:
            raise InfluxInitError(f"{url} has no organisation {org}: set influx.org to one it has")
        owner = organisations[0]
        ids = [
            _bucket(
                client, owner, bucket + one.suffix, one.days if days is None or one.suffix else days, done
            )
            for one in BUCKETS
        ]
        folder.mkdir(parents=True, exist_ok=True)
        for token in TOKENS:
            _token(client, owner.id, token, ids, folder / token.file, done)
    return done


def _bucket(client: Any, owner: Any, name: str, days: int, done: list[str]) -> str:
    buckets = client.buckets_api()
    found = buckets.find_bucket_by_name(name)
    keep = f"{days} days" if days else "for ever"
    seconds = days * _DAY_S
    if found is None:
        rules = BucketRetentionRules(  # type: ignore[no-untyped-call]
            type="expire", every_seconds=seconds
        )
        found = buckets.create_bucket(bucket_name=name, retention_rules=[rules], org=owner)
        done.append(f"made bucket {name}, kept {keep}")
    elif [rule.every_seconds for rule in found.retention_rules if rule.every_seconds] != [seconds] * bool(
        days
    ):
        done.append(f"bucket {name} is there, but not kept {keep}: left as it is (see influx bucket update)")
    return str(found.id)


def _token(
    client: Any, org_id: str, token: Token, buckets: Sequence[str], file: Path, done: list[str]
) -> None:
    authorizations = client.authorizations_api()
    ours = [
        one
        for one in authorizations.find_authorizations(org_id=org_id)
        if one.description == token.description
    ]
    wanted = {(action, bucket) for action in token.actions for bucket in buckets}
    for one in list(ours):
        allowed = {(permission.action, permission.resource.id) for permission in one.permissions}
        if allowed != wanted or not file.is_file() or len(ours) > 1:
            authorizations.delete_authorization(one)
            ours.remove(one)
            done.append(f"withdrew a token without a file or with other rights ({token.description})")
    if ours:
        return
    permissions = [
        Permission(  # type: ignore[no-untyped-call]
            action=action,
            resource=PermissionResource(  # type: ignore[no-untyped-call]
                type="buckets", id=bucket, org_id=org_id
            ),
        )
        for action, bucket in sorted(wanted)
    ]
    made = authorizations.create_authorization(
        authorization=Authorization(  # type: ignore[no-untyped-call]
            org_id=org_id, permissions=permissions, description=token.description
        )
    )
    # Readable by its owner only, from its first byte on.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(made.token)
    done.append(f"wrote {file}: {' and '.join(token.actions)} on {len(buckets)} buckets")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except InfluxDBError as error:
        status = getattr(error, "status", None)
        advice = ": the admin token is not valid there" if status in (401, 403) else ""
        raise InfluxInitError(f"{url} answers {status or ''} {error.message}{advice}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise InfluxInitError(f"{url} cannot be set up: {error}") from error


@app.command("init")
def init_command(
    tokens: Annotated[Path, typer.Option(help="Folder for write.token and read.token.")],
    admin_token: Annotated[
        str, typer.Option(envvar="SKYFUSE_INFLUX_ADMIN_TOKEN", help="A token that may do everything.")
    ],
    days: Annotated[
        int | None, typer.Option(min=1, help="Keep windows for so many days (90 if not given).")
    ] = None,
) -> None:
    """Make the buckets and tokens that skyfuse and Grafana need; run it again as often as you like."""
    influx = Settings().influx
    if influx.url is None:
        raise InfluxInitError("influx.url is not set: name the InfluxDB 2, such as http://influx:8086")
    done = initialise(influx.url, influx.org, influx.bucket, admin_token, tokens, days)
    console = Console(highlight=False)
    for line in done or ["everything is as it should be"]:
        console.print(escape(line))
