"""From an empty InfluxDB 2 to buckets and least-privilege tokens, safe to run again.

A new server is set up first (`/api/v2/setup`): organisation, first user, operator token. The operator token
and the password are chosen here and are on this disk before the request that makes them valid, so nothing
that cuts a run short can lock anybody out.

Tokens are written to files and never shown: InfluxDB 2.9 keeps only their hashes, so what is lost cannot be
read back, only replaced. A token is left alone if its file is there and the server accepts what is in it.

Several set-ups may share a server: other buckets, or the same bucket from another folder or machine. A token
is withdrawn only by the set-up that made it, and when its successor is on the disk: its description names
the bucket and the set-up, whose name and bucket the folder keeps in `setup.json`. Earlier versions named
neither: such a token is taken for this set-up's own if it is for exactly these buckets and our file has a
token that is accepted; it is never withdrawn.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import urllib3
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.authorization import Authorization
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.onboarding_request import OnboardingRequest
from influxdb_client.domain.permission import Permission
from influxdb_client.domain.permission_resource import PermissionResource
from influxdb_client.service.setup_service import SetupService

from cli.errors import InfluxInitError
from cli.shared.own_secrets import Secret, write_file
from schemas.secret import SecretError, tidy_password, tidy_token
from settings.token_file import read_token
from sinks.errors import SinkSettingError
from sinks.influx import server_of, tls_advice

ADMIN_TOKEN: Final = "SKYFUSE_INFLUX_ADMIN_TOKEN"
ADMIN_PASSWORD: Final = "SKYFUSE_INFLUX_ADMIN_PASSWORD"

_DAY_S: Final = 86_400
_TIMEOUT_MS: Final = 10_000


class Bucket(NamedTuple):
    """A bucket, and for how long it keeps points (days; 0 keeps them for ever)."""

    suffix: str
    days: int


#: Windows, hours, days.
BUCKETS: Final = (Bucket("", 90), Bucket("_hourly", 5 * 366), Bucket("_daily", 0))


class Token(NamedTuple):
    """A token: its file, what its description begins with, and what it may do with every bucket."""

    file: str
    description: str
    actions: tuple[str, ...]


WRITE: Final = Token("write.token", "skyfuse: write", ("write",))
READ: Final = Token("read.token", "skyfuse: read (Grafana)", ("read",))


class Setup(NamedTuple):
    """Whose tokens they are: a set-up's name, and the bucket that it is for."""

    name: str
    bucket: str

    @classmethod
    def of(cls, folder: Path, bucket: str) -> "Setup":
        """The folder's own, made at its first use. Raises InfluxInitError for that of another bucket."""
        file = folder / "setup.json"
        if not file.exists():
            made = cls(secrets.token_hex(4), bucket)
            write_file(file, json.dumps(made._asdict()) + "\n")
            return made
        try:
            found = cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InfluxInitError(f"{file} cannot be read ({error}): delete it") from error
        if found.bucket != bucket:
            raise InfluxInitError(
                f"{folder} has the tokens of bucket {found.bucket}: name another folder for those of {bucket}"
                " (--tokens), and the operator's token by --admin-token-file"
            )
        return found

    def description(self, token: Token) -> str:
        """What a token is called on the server."""
        return f"{token.description}, bucket {self.bucket}, set-up {self.name}"


class Admin(NamedTuple):
    """Who may do everything on the server."""

    user: str
    password: Secret
    token: Secret


def admin_of(
    environment: Mapping[str, str], folder: Path, user: str, token: Path | None, password: Path | None
) -> Admin:
    """The operator: secrets from the environment, else from the files named, else from files in `folder`."""
    return Admin(
        user,
        Secret(
            "password",
            ADMIN_PASSWORD,
            environment.get(ADMIN_PASSWORD),
            password or folder / "admin.password",
            tidy_password,
        ),
        Secret(
            "operator token",
            ADMIN_TOKEN,
            environment.get(ADMIN_TOKEN),
            token or folder / "operator.token",
            tidy_token,
        ),
    )


def initialise(
    url: str,
    org: str,
    bucket: str,
    admin: Admin,
    folder: Path,
    days: int | None = None,
    write_file: Path | None = None,
) -> list[str]:
    """Make what is missing; what was done, in words. Raises InfluxInitError.

    `write_file`: where the token that may write belongs, if not into `folder`.
    """
    done: list[str] = []
    try:
        server_of(url)
    except SinkSettingError as error:
        raise InfluxInitError(str(error)) from None
    buckets = [
        Bucket(bucket + one.suffix, one.days if days is None or one.suffix else days) for one in BUCKETS
    ]
    with _explained(url):
        _set_up(url, org, buckets[0], admin, done)
    token = admin.token.find()
    if token is None:
        raise InfluxInitError(
            f"{url} has been set up before, and its operator token is not known here: put it into"
            f" {admin.token.file} or into {ADMIN_TOKEN} (if it is lost, make one at the server:"
            " influxd recovery auth create-operator)"
        )
    with _explained(url, admin.token, token), _client(url, token) as client:
        owner = _organisation(client, url, org, admin.token)
        setup = Setup.of(folder, bucket)
        ids = [_bucket(client, owner, one.suffix, one.days, done) for one in buckets]
        for wanted, file in ((WRITE, write_file or folder / WRITE.file), (READ, folder / READ.file)):
            _token(_Server(client, url, owner.id), wanted, setup, ids, file, done)
    return done


def _client(url: str, token: str) -> Any:
    return InfluxDBClient(url=url, token=token, timeout=_TIMEOUT_MS)


def _set_up(url: str, org: str, first: Bucket, admin: Admin, done: list[str]) -> None:
    """Organisation, first user, first bucket and operator token, if the server has none."""
    with _client(url, "") as client:
        service = SetupService(client.api_client)  # type: ignore[no-untyped-call]
        try:
            allowed = service.get_setup().allowed  # type: ignore[no-untyped-call]
        except InfluxDBError as error:
            if _status(error) != 404:
                raise
            allowed = False  # a server that others run, as InfluxDB Cloud
        if not allowed:
            return
        password = admin.password.find_or_make(done)
        token = admin.token.find_or_make(done)
        service.post_setup(  # type: ignore[no-untyped-call]
            OnboardingRequest(  # type: ignore[no-untyped-call]
                username=admin.user,
                password=password,
                org=org,
                bucket=first.suffix,
                retention_period_seconds=first.days * _DAY_S,
                token=token,
            )
        )
        done.append(
            f"set up the new server: organisation {org}, user {admin.user}, bucket {first.suffix}, kept"
            f" {first.days} days"
        )


def _organisation(client: Any, url: str, org: str, operator: Secret) -> Any:
    try:
        found = client.organizations_api().find_organizations(org=org)
    except InfluxDBError as error:
        if _status(error) != 404:
            raise
        raise InfluxInitError(f"{url} has no organisation {org}: set influx.org to one it has") from error
    if not found:  # a list of what the token may see
        raise InfluxInitError(
            f"{url} does not show organisation {org} to the operator token: {_narrow(operator)}"
        )
    return found[0]


def _narrow(operator: Secret) -> str:
    return (
        f"the one of {ADMIN_TOKEN} or {operator.file} is valid there, but may not make buckets and tokens."
        " It has to be an operator's or an all-access token of that organisation, not one that may only read"
        " or write"
    )


def _bucket(client: Any, owner: Any, name: str, days: int, done: list[str]) -> str:
    buckets = client.buckets_api()
    try:
        # By organisation and name: asked by name alone a server may answer with its system buckets.
        listed = buckets.find_buckets(org_id=owner.id, name=name).buckets
    except InfluxDBError as error:
        if _status(error) != 404:
            raise
        listed = []
    found = next((one for one in listed if one.name == name), None)
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


class _Server(NamedTuple):
    """A server as its operator sees it, and the organisation that is set up there."""

    client: Any
    url: str
    org_id: str


def _token(
    server: _Server,
    token: Token,
    setup: Setup,
    buckets: Sequence[str],
    file: Path,
    done: list[str],
) -> None:
    authorizations, org_id = server.client.authorizations_api(), server.org_id
    listed = authorizations.find_authorizations(org_id=org_id)
    description = setup.description(token)
    ours = [one for one in listed if one.description == description]
    wanted = {(action, bucket) for action in token.actions for bucket in buckets}
    # What earlier versions made has no name of a bucket: its rights tell.
    earlier = [one for one in listed if one.description == token.description and _allowed(one) == wanted]
    right = len(ours) == 1 and _allowed(ours[0]) == wanted
    if (right or (not ours and earlier)) and _accepts(server.url, org_id, file):
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
            org_id=org_id, permissions=permissions, description=description
        )
    )
    write_file(file, made.token)
    done.append(f"wrote {file}: {' and '.join(token.actions)} on {len(buckets)} buckets")
    for one in ours:
        authorizations.delete_authorization(one)
        done.append(f"withdrew a token without a file or with other rights ({description})")
    if earlier and not ours:
        done.append(
            f'left a token of an earlier version as it is ("{token.description}"): if no other set-up'
            " uses it, delete it in InfluxDB"
        )


def _allowed(authorization: Any) -> set[tuple[str, str | None]]:
    return {(permission.action, permission.resource.id) for permission in authorization.permissions}


def _accepts(url: str, org_id: str, file: Path) -> bool:
    """Whether the server knows the token in `file`; a run that was cut short may have left an old one."""
    try:
        return _knows(url, read_token(file), org_id)
    except SecretError:
        return False  # missing or damaged: it is replaced


def _knows(url: str, token: str, org_id: str | None = None) -> bool:
    """Whether a token is valid at the server, whatever it may do there."""
    with _client(url, token) as client:
        try:
            # Every token may ask; it is told of those buckets that it may read.
            client.buckets_api().find_buckets(**({} if org_id is None else {"org_id": org_id}), limit=1)
        except InfluxDBError as error:
            if _status(error) in (401, 403):
                return False
            raise
    return True


def _status(error: InfluxDBError) -> int | None:
    return getattr(error, "status", None)


@contextmanager
def _explained(url: str, operator: Secret | None = None, token: str = "") -> Iterator[None]:
    try:
        yield
    except InfluxDBError as error:
        status = _status(error)
        if not status:  # its client hides a failed handshake so
            reason = str(getattr(error, "reason", error)).replace("\n", " ")
            raise InfluxInitError(f"{url} cannot be set up: {reason}{tls_advice(reason)}") from error
        words = str(error.message).strip()
        advice = ""
        if status in (401, 403) and operator is not None:
            if _knows_now(url, token):
                advice = f": {_narrow(operator)}"
            else:
                advice = (
                    f": the operator token (of {ADMIN_TOKEN} or {operator.file}) is not valid there. If that"
                    " server died while it was first set up, empty its data folder and run this again"
                )
        elif status == 400 and "https" in words.lower():
            advice = ": influx.url has to begin with https://"
        raise InfluxInitError(f"{url} answers {status} {words}{advice}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise InfluxInitError(f"{url} cannot be set up: {error}{tls_advice(str(error))}") from error


def _knows_now(url: str, token: str) -> bool:
    try:
        return _knows(url, token)
    except (InfluxDBError, urllib3.exceptions.HTTPError, OSError):
        return False
