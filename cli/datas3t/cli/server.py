"""`datas3t server` and `datas3t keygen`."""

from datetime import timedelta
from pathlib import Path

import click

from datas3t.cli import output
from datas3t.cli.options import DURATION, SIZE


@click.command()
@click.option("--db-url", envvar="DB_URL", show_envvar=True, metavar="URL", help="postgres://user:password@host/name")
@click.option("--addr", envvar="ADDR", show_envvar=True, default=":8765", show_default=True, help="Where to listen.")
@click.option(
    "--cache-dir",
    envvar="CACHE_DIR",
    show_envvar=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where indices are kept.  [default: the user's cache folder]",
)
@click.option(
    "--max-cache-size",
    envvar="MAX_CACHE_SIZE",
    show_envvar=True,
    default="1GB",
    show_default=True,
    type=SIZE,
    help="How large that may grow.",
)
@click.option("--encryption-key", envvar="ENCRYPTION_KEY", show_envvar=True, help="What `datas3t keygen` printed.")
@click.option(
    "--url-lifetime",
    envvar="URL_LIFETIME",
    show_envvar=True,
    default="24h",
    show_default=True,
    type=DURATION,
    help="How long presigned URLs are valid; 7d at most.",
)
@click.option("--grpc-addr", metavar="ADDR", help="Serve gRPC alone on a second address, without the hop between.")
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What is logged, to standard error.",
)
def server(
    db_url: str | None,
    addr: str,
    cache_dir: Path | None,
    max_cache_size: int,
    encryption_key: str | None,
    url_lifetime: float,
    grpc_addr: str | None,
    log_level: str,
) -> int:
    """Run the server: gRPC, REST and metrics on one address.

    The environment alone is enough. SIGTERM ends it once running calls are done.

    \b
      export DB_URL=postgres://user:password@localhost:5432/datas3t
      export ENCRYPTION_KEY=$(datas3t keygen)
      datas3t server
    """
    if not db_url:
        raise click.UsageError("no database: give --db-url, or set DB_URL, to postgres://user:password@host:port/name")
    if not encryption_key:
        raise click.UsageError(
            "no encryption key: give --encryption-key, or set ENCRYPTION_KEY; `datas3t keygen` makes one"
        )
    import platformdirs

    from datas3t.server.settings import Address, Settings, SettingsError

    try:
        settings = Settings(
            db_url=db_url,
            encryption_key=encryption_key,
            cache_dir=cache_dir or Path(platformdirs.user_cache_dir("datas3t", appauthor=False)) / "server",
            addr=Address.parse(addr),
            grpc_addr=Address.parse(grpc_addr) if grpc_addr else None,
            max_cache_size=max_cache_size,
            url_lifetime=timedelta(seconds=url_lifetime),
            log_level=log_level,
        )
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    from datas3t.server.app import run  # half a second, which wrong usage need not wait for

    return run(settings)


@click.command()
def keygen() -> None:
    """Print a new encryption key: 32 random bytes in base64."""
    import base64
    import secrets

    output.result(base64.b64encode(secrets.token_bytes(32)).decode())
