"""`datas3t bucket`: manage bucket configurations."""

import click

from datas3t.cli import options, output

_ACCESS_KEY = click.option("--access-key", required=True, help="The access key.")
_SECRET_KEY = click.option("--secret-key", required=True, help="The secret key.")
_NAME = click.option("--name", required=True, help="The name of the bucket configuration.")


@click.group()
def bucket() -> None:
    """Manage bucket configurations: the S3 buckets that store archives."""


@bucket.command()
@_NAME
@click.option("--endpoint", required=True, metavar="URL", help="The S3 endpoint. https:// uses TLS, http:// does not.")
@click.option("--bucket", required=True, help="The name of the bucket in S3.")
@_ACCESS_KEY
@_SECRET_KEY
@click.option("--region", help="The region to sign requests for.  [default: us-east-1]")
@options.server_url()
def add(name: str, endpoint: str, bucket: str, access_key: str, secret_key: str, region: str | None) -> None:
    """Add a bucket configuration. The server first checks that it works.

    \b
      datas3t bucket add --name photos --endpoint https://s3.amazonaws.com \\
        --bucket my-photos --access-key AK --secret-key SK
    """
    with options.client() as client:
        client.add_bucket(
            name, endpoint=endpoint, bucket=bucket, access_key=access_key, secret_key=secret_key, region=region
        )
    output.note(f"Added bucket configuration {name}.")


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
        rows = ((each.name, each.endpoint, each.bucket, each.region) for each in buckets)
        output.table(("NAME", "ENDPOINT", "BUCKET", "REGION"), rows, "There are no bucket configurations.")


@bucket.command()
@_NAME
@_ACCESS_KEY
@_SECRET_KEY
@options.server_url()
def update(name: str, access_key: str, secret_key: str) -> None:
    """Replace the credentials of a bucket configuration. The server first checks that they work.

    \b
      datas3t bucket update --name photos --access-key AK --secret-key SK
    """
    with options.client() as client:
        client.update_bucket(name, access_key=access_key, secret_key=secret_key)
    output.note(f"Updated bucket configuration {name}.")


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
        output.note(f"Removed bucket configuration {name}.")
