"""`datas3t server`, `datas3t up` and `datas3t keygen`: run a server."""

from datetime import timedelta
from itertools import chain
from pathlib import Path

import click

from datas3t.cli import output
from datas3t.cli.options import DURATION, LIST, SIZE, WORKERS, database, encryption_key, secret, server_url
from datas3t.cli.paths import FOLDER, SETTING


@click.command()
@database
@click.option(
    "--addr", envvar="ADDR", show_envvar=True, default=":8765", show_default=True, help="The address to listen on."
)
@click.option(
    "--cache-dir",
    envvar="CACHE_DIR",
    show_envvar=True,
    type=FOLDER,
    help="The folder that caches indices.  [default: the user's cache folder]",
)
@click.option(
    "--max-cache-size",
    envvar="MAX_CACHE_SIZE",
    show_envvar=True,
    default="1GB",
    show_default=True,
    type=SIZE,
    help="The maximum size of that cache.",
)
@encryption_key
@click.option(
    "--url-lifetime",
    envvar="URL_LIFETIME",
    show_envvar=True,
    default="24h",
    show_default=True,
    type=DURATION,
    help="How long presigned URLs are valid, at most 7d.",
)
@click.option(
    "--grpc-addr",
    envvar="GRPC_ADDR",
    show_envvar=True,
    metavar="ADDR",
    help="A second address that serves only gRPC, without the relay of --addr.",
)
@click.option(
    "--workers",
    envvar="WORKERS",
    show_envvar=True,
    metavar="N|auto",
    default="1",
    show_default=True,
    type=WORKERS,
    help="How many processes share the port; `auto` is one a core.",
)
@click.option(
    "--log-level",
    envvar="LOG_LEVEL",
    show_envvar=True,
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="The lowest level that is logged, to standard error.",
)
@server_url(hidden=True)
@click.option(
    "--log-format",
    envvar="LOG_FORMAT",
    show_envvar=True,
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
    help="How log entries are written: as lines of text, or as a JSON object each.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    envvar="CORS_ORIGIN",
    show_envvar=True,
    metavar="ORIGIN",
    multiple=True,
    type=LIST,
    help="An origin whose web pages may send requests, such as https://app.example.com. May be repeated.",
)
@click.option(
    "--allowed-hosts",
    envvar="ALLOWED_HOSTS",
    show_envvar=True,
    metavar="NAME",
    multiple=True,
    type=LIST,
    help="A name of this server that web pages may use, besides those of loopback. May be repeated.",
)
@click.option(
    "--allow-endpoints",
    envvar="ALLOW_ENDPOINTS",
    show_envvar=True,
    metavar="GLOB",
    multiple=True,
    type=LIST,
    help="An endpoint that bucket configurations may name, with * for any characters. May be repeated.  [default: any]",
)
@click.option(
    "--tls-cert",
    envvar="TLS_CERT",
    show_envvar=True,
    metavar="FILE",
    type=SETTING,
    help="The certificate, with those between it and its CA, as PEM. With it the server speaks TLS.",
)
@click.option("--tls-key", envvar="TLS_KEY", show_envvar=True, metavar="FILE", type=SETTING, help="Its private key.")
@click.option(
    "--tls-client-ca",
    envvar="TLS_CLIENT_CA",
    show_envvar=True,
    metavar="FILE",
    type=SETTING,
    help="The CA of clients' certificates. With it no other client can connect.",
)
@click.option(
    "--auth",
    envvar="AUTH",
    show_envvar=True,
    default="off",
    show_default=True,
    type=click.Choice(["off", "tokens"]),
    help="Whether callers need a token.",
)
@click.option(
    "--admin-token",
    envvar="ADMIN_TOKEN",
    show_envvar=True,
    metavar="TEXT",
    help="A token of an admin that is not stored, 32 characters or more. Other users can see a command's options.",
)
@click.option(
    "--admin-token-file", envvar="ADMIN_TOKEN_FILE", show_envvar=True, metavar="FILE", type=SETTING, help="Its file."
)
@click.option(
    "--metrics-auth", envvar="METRICS_AUTH", show_envvar=True, is_flag=True, help="/metrics needs a token as well."
)
@click.option(
    "--oidc-issuer", envvar="OIDC_ISSUER", show_envvar=True, metavar="URL", help="An OIDC provider whose tokens count."
)
@click.option(
    "--oidc-audience", envvar="OIDC_AUDIENCE", show_envvar=True, metavar="TEXT", help="The audience of its tokens."
)
@click.option(
    "--oidc-role-claim",
    envvar="OIDC_ROLE_CLAIM",
    show_envvar=True,
    default="datas3t_role",
    show_default=True,
    metavar="CLAIM",
    help="The claim with the role.",
)
@click.option(
    "--oidc-pattern-claim",
    envvar="OIDC_PATTERN_CLAIM",
    show_envvar=True,
    metavar="CLAIM",
    help="The claim with the globs on names.",
)
@click.option(
    "--audit-log",
    envvar="AUDIT_LOG",
    show_envvar=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file for calls that change something or are refused.",
)
def server(
    db_url: str | None,
    db_url_file: Path | None,
    addr: str,
    cache_dir: Path | None,
    max_cache_size: int,
    encryption_key: str | None,
    encryption_key_file: Path | None,
    url_lifetime: float,
    grpc_addr: str | None,
    workers: int,
    log_level: str,
    log_format: str,
    cors_origins: tuple[tuple[str, ...], ...],
    allowed_hosts: tuple[tuple[str, ...], ...],
    allow_endpoints: tuple[tuple[str, ...], ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    auth: str,
    admin_token: str | None,
    admin_token_file: Path | None,
    metrics_auth: bool,
    audit_log: Path | None,
    oidc_issuer: str | None,
    oidc_audience: str | None,
    oidc_role_claim: str,
    oidc_pattern_claim: str | None,
) -> int:
    """Run the server: gRPC, REST and metrics on one address.

    Every setting with an environment variable can be given there instead. On SIGTERM the server finishes running calls
    and exits.

    \b
      export DB_URL=postgres://user:password@localhost:5432/datas3t
      export ENCRYPTION_KEY=$(datas3t keygen)
      datas3t server
    """
    db_url, encryption_key = _secrets(db_url, db_url_file, encryption_key, encryption_key_file)
    admin_token = secret(admin_token, admin_token_file, "ADMIN_TOKEN")
    import platformdirs

    from datas3t.server.settings import AccessSettings, Address, OidcSettings, Settings, SettingsError, TlsFiles

    try:
        oidc = None
        if oidc_issuer:
            oidc = OidcSettings(oidc_issuer, oidc_audience or "", oidc_role_claim, oidc_pattern_claim or "")
        settings = Settings(
            db_url=db_url,
            encryption_key=encryption_key,
            cache_dir=cache_dir or Path(platformdirs.user_cache_dir("datas3t", appauthor=False)) / "server",
            addr=Address.parse(addr),
            grpc_addr=Address.parse(grpc_addr) if grpc_addr else None,
            max_cache_size=max_cache_size,
            url_lifetime=timedelta(seconds=url_lifetime),
            log_level=log_level,
            log_format=log_format,
            cors_origins=tuple(chain.from_iterable(cors_origins)),
            allowed_hosts=tuple(chain.from_iterable(allowed_hosts)),
            workers=workers,
            allow_endpoints=tuple(chain.from_iterable(allow_endpoints)),
            tls=TlsFiles.of(tls_cert, tls_key, tls_client_ca),
            access=AccessSettings(
                asks=auth == "tokens",
                admin_token=admin_token or "",
                metrics_asks=metrics_auth,
                audit_log=audit_log,
                oidc=oidc,
            ),
        )
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    if settings.workers > 1:
        from datas3t.server.app.parent import run
    else:
        from datas3t.server.app.process import run  # takes 0.5 s, so import it only after usage errors

    return run(settings)


def _secrets(
    db_url: str | None, db_url_file: Path | None, encryption_key: str | None, encryption_key_file: Path | None
) -> tuple[str, str]:
    """Return the database's URL and the encryption key, which must be given."""
    db_url = secret(db_url, db_url_file, "DB_URL")
    if not db_url:
        raise click.UsageError(
            "the database is not set; set --db-url or DB_URL to postgres://user:password@host:port/name"
        )
    encryption_key = secret(encryption_key, encryption_key_file, "ENCRYPTION_KEY")
    if not encryption_key:
        raise click.UsageError(
            "the encryption key is not set; set --encryption-key or ENCRYPTION_KEY to a key from `datas3t keygen`"
        )
    return db_url, encryption_key


@click.command()
@database
@encryption_key
@server_url(hidden=True)
def rekey(
    db_url: str | None, db_url_file: Path | None, encryption_key: str | None, encryption_key_file: Path | None
) -> int:
    """Encrypt the stored credentials of all buckets with the first of the encryption keys.

    It may run while servers do, be ended at any time, and be run again. To replace a key, give all servers the new one
    after the old one, then before it, run this, and then take the old one away.

    \b
      ENCRYPTION_KEY=$NEW,$OLD datas3t rekey
    """
    db_url, encryption_key = _secrets(db_url, db_url_file, encryption_key, encryption_key_file)
    from datas3t.server.app import keyring
    from datas3t.server.errors import Failure
    from datas3t.server.settings import SettingsError

    try:
        done = keyring.rekey(db_url, encryption_key)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    except Failure as error:
        raise click.ClickException(error.message) from None
    output.result(
        f"Encrypted the credentials of {done.written} of {output.counted(done.total, 'bucket configuration')}."
    )
    if done.unreadable:
        raise click.ClickException(keyring.unreadable_message(done.unreadable))
    return output.DONE


@click.command()
@click.option("--data-dir", type=FOLDER, help="The folder that stores everything.  [default: the user's data folder]")
@click.option(
    "--addr", default="127.0.0.1:8765", show_default=True, metavar="HOST:PORT", help="The address to listen on."
)
@click.option(
    "--auth",
    default="off",
    show_default=True,
    type=click.Choice(["off", "tokens"]),
    help="Whether callers need a token. That of an admin is then in DIR/stack.json.",
)
@server_url(hidden=True)
def up(data_dir: Path | None, addr: str, auth: str) -> int:
    """Start everything on this machine: PostgreSQL, an S3 server and the datas3t server.

    The bucket configuration `local` exists from the start. Data is stored in the data folder and survives restarts.
    Ctrl-C or SIGTERM stops everything. DIR/stack.json has the addresses and keys, for scripts.

    \b
      datas3t up
      datas3t up --data-dir ./data --addr 127.0.0.1:0
    """
    from datas3t.embedded.stack import up as run

    return run(data_dir, addr, asks=auth == "tokens")


@click.command()
@server_url(hidden=True)
def keygen() -> None:
    """Print a new encryption key: 32 random bytes in base64.

    \b
      export ENCRYPTION_KEY=$(datas3t keygen)
    """
    import base64
    import secrets

    output.result(base64.b64encode(secrets.token_bytes(32)).decode())
