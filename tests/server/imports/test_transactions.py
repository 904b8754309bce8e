"""No transaction and no lock is held while an import or a clear computes: the database is asked while it happens."""

from datas3t.server import imports
from tests.support.importing import import_bucket, put_archives, rows
from tests.support.transactions import watching
from tests.support.uploads import Site, archive


def test_an_import_computes_without_a_transaction(site: Site, database: str) -> None:
    put_archives(site, [archive(3 * n, b"a", b"b", b"c") for n in range(8)])
    watch = ("datas3t.server.imports", "datas3t.archive", "datas3t.server.s3", "datas3t.server.objects.checks")
    with watching(database, *watch) as watched:
        assert import_bucket(site).imported == ["images"]
    assert watched.inside == set()
    assert "datas3t.server.imports.many.check_small" in watched.functions
    assert "datas3t.archive.tar.scan" in watched.functions


def test_rows_without_objects_are_removed_without_computing_in_the_transaction(site: Site, database: str) -> None:
    (key, _) = put_archives(site, [archive(3 * n, b"a", b"b", b"c") for n in range(2)])
    with watching(database, "datas3t.server.imports", "datas3t.archive") as watched:
        steps = imports.run(site.resources, "local")
        next(step for step in steps if step.seen)
        next(steps)  # the archives are checked
        site.s3.delete_object(Bucket=site.bucket, Key=key)
        assert {each.key for step in steps for each in step.skipped} == {key}
    assert watched.inside == set()
    assert "datas3t.server.imports.rows.remove_rows_without_objects" in watched.functions
    assert len(rows(site)) == 1


def test_a_clear_computes_without_a_transaction(site: Site, database: str) -> None:
    for n in range(3):
        site.upload(archive(3 * n, b"a", b"b", b"c"))
    with watching(database, "datas3t.archive", "datas3t.server.dataranges", "datas3t.server.intents") as watched:
        assert site.clear() == (3, 6)
    assert watched.inside == set()
