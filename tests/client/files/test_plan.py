"""How files are divided among archives."""

from itertools import chain

from datas3t.client._files.plan import MAX_FILES, Begun, Group, Listed, Planner


def files(*sizes: int) -> list[Listed]:
    return [(b"%05d.jpg" % number, 0, size, number) for number, size in enumerate(sizes)]


def names(groups: list[Group]) -> list[bytes]:
    return list(chain.from_iterable(group.names for group in groups))


def divided(listed: list[Listed], limit: int, *begun: Begun) -> list[Group]:
    return list(Planner(limit, bytes.decode, {each.path: each for each in begun}).groups(listed))


def begun(group: Group, request_id: str = "r") -> Begun:
    return Begun(request_id, group.names[0].decode(), len(group.names), group.digest(), group.extension)


def test_archives_hold_as_many_files_as_fit() -> None:
    listed = files(*[1_000] * 10)
    groups = divided(listed, 1_024 + 4 * 1_536)
    assert [len(group.names) for group in groups] == [4, 4, 2]
    assert names(groups) == [name for name, *_ in listed]
    assert groups[1].mtimes.tolist() == [4, 5, 6, 7]


def test_a_file_above_the_limit_has_an_archive_of_its_own() -> None:
    assert [len(group.names) for group in divided(files(10, 99_999, 10), 4_096)] == [1, 1, 1]


def test_an_archive_of_empty_files_has_a_limited_number() -> None:
    assert [len(group.names) for group in divided(files(*[0] * (MAX_FILES + 1)), 1 << 40)] == [MAX_FILES, 1]


def test_what_was_begun_is_found_again_and_the_rest_divided_as_before() -> None:
    # The third file would fit into the first archive, after which it is not needed: the second one is committed.
    listed = files(1_000, 1_000, 3_000, 500, 500, 900)
    limit = 1_024 + 2 * 1_536
    before = divided(listed, limit)
    left = [file for file in listed if file[0] not in before[1].names]
    again = divided(left, limit, begun(before[0], "one"), begun(before[2], "three"))
    assert [group.names for group in again] == [group.names for group in before if group is not before[1]]
    assert [group.begun and group.begun.request_id for group in again[:2]] == ["one", "three"]


def test_what_was_begun_with_other_files_is_divided_anew() -> None:
    listed = files(1_000, 1_000, 1_000, 1_000)
    limit = 1_024 + 2 * 1_536
    first = divided(listed, limit)[0]
    changed = [listed[0], (*listed[1][:3], 77), *listed[2:]]
    groups = divided(changed, limit, begun(first))
    assert [len(group.names) for group in groups] == [2, 2]
    assert not any(group.begun for group in groups)


def test_a_group_that_is_cut_short_is_divided_anew() -> None:
    listed = files(1_000, 1_000, 1_000)
    first = divided(listed, 1 << 20)[0]
    groups = divided(listed[:2], 1 << 20, begun(first))
    assert names(groups) == [b"00000.jpg", b"00001.jpg"]
    assert not groups[0].begun
