"""`datas3t bucket`: manage bucket configurations."""

import click

from datas3t.cli import completion, options, output


def _read_secret(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Return the option's value, or for `-` the line on standard input."""
    return output.secret("Secret key") if value == "-" and not context.resilient_parsing else value


_ACCESS_KEY = click.option(
    "--access-key", envvar="AWS_ACCESS_KEY_ID", show_envvar=True, required=True, help="The access key."
)
_SECRET_KEY = click.option(
    "--secret-key",
    envvar="AWS_SECRET_ACCESS_KEY",
    show_envvar=True,
    required=True,
    callback=_read_secret,
    help="The secret key; `-` reads it from standard input. Other users can see a command's options.",
)
_NEW_NAME = click.option("--name", required=True, help="The name of the bucket configuration.")
_NAME = click.option(
    "--name", required=True, help="The name of the bucket configuration.", shell_complete=completion.buckets
)


@click.group()
@options.server_url()
def bucket() -> None:
    """Manage bucket configurations: the S3 buckets that store archives."""


@bucket.command()
@_NEW_NAME
@click.option("--endpoint", required=True, metavar="URL", help="The S3 endpoint. https:// uses TLS, http:// does not.")
@click.option("--bucket", required=True, help="The name of the bucket in S3.")
@_ACCESS_KEY
@_SECRET_KEY
@click.option("--region", help="The region to sign requests for.  [default: us-east-1]")
@click.option(
    "--public-endpoint", metavar="URL", help="The S3 endpoint for clients, if they reach it by another address."
)
@options.server_url()
def add(
    name: str,
    endpoint: str,
    bucket: str,
    access_key: str,
    secret_key: str,
    region: str | None,
    public_endpoint: str | None,
) -> None:
    """Add a bucket configuration. The server first checks that it works.

    \b
      datas3t bucket add --name photos --endpoint https://s3.amazonaws.com \\
        --bucket my-photos --access-key AK --secret-key - < secret-key.txt
    """
    with options.client() as client:
        client.add_bucket(
            name,
            endpoint=endpoint,
            bucket=bucket,
            access_key=access_key,
            secret_key=secret_key,
            region=region,
            public_endpoint=public_endpoint,
        )
    output.result(f"Added bucket configuration {name}.")


@bucket.command("list")
@options.JSON
@options.server_url()
def list_(as_json: bool) -> None:
    """List the bucket configurations.

    \b
      datas3t bucket list
    """
    with options.client() as client:
        buckets = client.list_buckets()
    if as_json:
        output.as_json([{"name": each.name, "endpoint": each.endpoint, "bucket": each.bucket} for each in buckets])
    else:
        rows = (
            (each.name, each.endpoint, each.bucket, each.region, each.public_endpoint or each.endpoint)
            for each in buckets
        )
        headings = ("NAME", "ENDPOINT", "BUCKET", "REGION", "PUBLIC ENDPOINT")
        output.table(headings, rows, "There are no bucket configurations.")


@bucket.command()
@_NAME
@_ACCESS_KEY
@_SECRET_KEY
@options.server_url()
def update(name: str, access_key: str, secret_key: str) -> None:
    """Replace the credentials of a bucket configuration. The server first checks that they work.

    \b
      datas3t bucket update --name photos --access-key AK --secret-key - < secret-key.txt
    """
    with options.client() as client:
        client.update_bucket(name, access_key=access_key, secret_key=secret_key)
    output.result(f"Updated bucket configuration {name}.")


@bucket.command()
@_NAME
@options.FORCE
@options.server_url()
def delete(name: str, force: bool) -> None:
    """Remove a bucket configuration. Objects in the bucket are not touched.

    \b
      datas3t bucket delete --name photos
    """
    if output.confirmed(f"Remove bucket configuration {name}?", force=force):
        with options.client() as client:
            client.delete_bucket(name)
        output.result(f"Removed bucket configuration {name}.")
