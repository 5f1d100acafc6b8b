"""The board: facts that several mappings of one page share."""

from __future__ import annotations

import os

import pytest

from pellucid.transport.board import PAD, TEXT_BYTES, Board, Field, Flag, State


@pytest.fixture(params=[1, 2, 7])
def board(request: pytest.FixtureRequest) -> Board:
    return Board.create(request.param)


def test_a_new_board_says_nothing(board: Board) -> None:
    assert not any(any(row) for row in [*board.fields, board.flags])
    assert board.alive() == list(range(board.workers))
    assert [board.read_text(w) for w in range(board.workers)] == [""] * board.workers


def test_what_one_mapping_writes_another_reads(board: Board) -> None:
    other = Board(board.fd, board.workers)
    for worker in range(board.workers):
        for field in Field:
            board.fields[worker][field] = 1000 * worker + field
        board.write_text(worker, f"train.py:{worker}")
    for flag in Flag:
        board.flags[flag] = -1 - flag
    for worker in range(board.workers):
        assert [other.fields[worker][f] for f in Field] == [1000 * worker + f for f in Field]
        assert other.read_text(worker) == f"train.py:{worker}"
    assert [other.flags[f] for f in Flag] == [-1 - f for f in Flag]


def test_names_of_columns_are_distinct_and_fit_a_row() -> None:
    for columns in (Field, Flag):
        assert len({int(c) for c in columns}) == len(columns.__members__)
        assert max(columns) < PAD


def test_the_dead_are_not_among_the_living() -> None:
    board = Board.create(3)
    for state in State:
        board.fields[1][Field.STATE] = state
        assert board.alive() == ([0, 2] if state == State.DEAD else [0, 1, 2])


@pytest.mark.parametrize(
    "text", ["", "train.py:3 in step", "x" * 5000, "é" * TEXT_BYTES, "a\udce9b", "line\nline"]
)
def test_text_is_cut_to_fit_and_stays_with_its_worker(text: str) -> None:
    board = Board.create(3)
    board.write_text(0, "zero")
    board.write_text(2, "two")
    board.write_text(1, "a longer text that must not shine through")
    board.write_text(1, text)
    read = board.read_text(1)
    expected = text.encode("utf-8", "replace").decode()
    assert expected.startswith(read.rstrip("\N{REPLACEMENT CHARACTER}"))
    assert len(read.encode()) >= min(len(expected.encode()), TEXT_BYTES - 4)
    assert (board.read_text(0), board.read_text(2)) == ("zero", "two")


def test_texts_do_not_reach_into_the_numbers() -> None:
    board = Board.create(2)
    board.write_text(0, "x" * 5000)
    board.write_text(1, "y" * 5000)
    assert not any(any(row) for row in [*board.fields, board.flags])


def test_children_inherit_it_and_it_has_no_name(board: Board) -> None:
    assert os.get_inheritable(board.fd)
    assert os.fstat(board.fd).st_nlink == 0
    assert os.fstat(board.fd).st_size == Board.size(board.workers)


def test_numbers_are_plain_integers(board: Board) -> None:
    """An array's would lose a Ctrl-C that comes while they are compared with enums."""
    numbers = [
        *board.fields[0],
        *board.flags,
        *board.column(Field.STATE),
        board.fields[0][Field.PID],
    ]
    assert {type(number) for number in numbers} == {int}
