"""Chunks: every word is in one, they are small, and say where they are."""

import random
from itertools import pairwise

import pytest

from sinas.search.chunking import chunks_of
from sinas.search.documents import Document, Writer
from sinas.search.readers.plain import read_markdown, read_text

HANDBOOK = """# Handbook

Welcome to the company.

## Holidays

{holidays}

### Carry-over

Five days may be carried over.

## Sickness

{sickness}
"""


def written(*parts: tuple[str, int, int | None]) -> Document:
    writer = Writer(100_000)
    for text, level, page in parts:
        writer.page = page
        writer.add(text, level)
    return writer.document()


class TestChunks:
    def test_accents_are_written_in_one_way(self) -> None:
        (chunk,) = chunks_of(written(("Re\u0301sume\u0301", 1, None), ("cafe\u0301", 0, None)))
        assert chunk.text == "R\u00e9sum\u00e9\n\ncaf\u00e9"
        assert chunk.headings == "R\u00e9sum\u00e9"
        assert chunk.end == 15  # in the document's text, which stays as it is

    def test_short_sections_share_one(self) -> None:
        text = HANDBOOK.format(holidays="Thirty days.", sickness="Call your lead.")
        (chunk,) = chunks_of(read_markdown(text.encode(), 10_000))
        assert chunk.text == text.strip()
        assert (chunk.headings, chunk.first_line, chunk.last_line) == ("Handbook", 1, 15)

    def test_long_sections_end_at_headings_and_carry_their_path(self) -> None:
        text = HANDBOOK.format(
            holidays="Thirty days. " * 60, sickness="Call your lead. " * 60
        ).replace("Five", "Few. " * 70 + "Five")
        chunks = chunks_of(read_markdown(text.encode(), 10_000))
        assert [chunk.headings for chunk in chunks] == [
            "Handbook",
            "Handbook > Holidays > Carry-over",
            "Handbook > Sickness",
        ]
        assert chunks[1].text.startswith("### Carry-over")
        assert chunks[2].with_headings.startswith("Handbook > Sickness\n## Sickness\n")

    def test_sections_that_share_a_chunk_share_its_headings(self) -> None:
        text = HANDBOOK.format(holidays="Thirty days. " * 60, sickness="Call your lead. ")
        chunks = chunks_of(read_markdown(text.encode(), 10_000))
        assert [chunk.headings for chunk in chunks] == ["Handbook", "Handbook"]
        assert "### Carry-over" in chunks[1].text
        assert "## Sickness" in chunks[1].text

    def test_pages(self) -> None:
        chunks = chunks_of(written(("a" * 400, 0, 1), ("b" * 400, 0, 2), ("c", 0, 2), ("d", 0, 3)))
        assert [chunk.page for chunk in chunks] == [1, 2, 3]

    def test_a_long_paragraph_is_cut_at_sentences_with_overlap(self) -> None:
        sentence = "The quick brown fox jumps over the lazy dog near the river bank. "
        chunks = chunks_of(written((sentence * 60, 0, None)))
        assert len(chunks) > 4
        for chunk in chunks[:-1]:
            assert chunk.text.rstrip().endswith("bank.")
        for one, after in pairwise(chunks):
            assert one.start < after.start < one.end

    @pytest.mark.parametrize("seed", range(20))
    def test_whatever_the_text(self, seed: int) -> None:
        dice = random.Random(seed)
        text = "".join(
            dice.choice(["word ", "x" * dice.randint(1, 1500), "\n", "\n\n", ". ", "# ", "漢字。 "])
            for _ in range(dice.randint(0, 400))
        )
        for reader in (read_text, read_markdown):
            document = reader(text.encode(), 1_000_000)
            covered: set[int] = set()
            for chunk in chunks_of(document):
                assert chunk.text == document.text[chunk.start : chunk.end]
                assert 0 < len(chunk.text) <= 1000
                assert chunk.first_line == document.text.count("\n", 0, chunk.start) + 1
                inner = document.text[chunk.start : chunk.end - 1]
                assert chunk.last_line == chunk.first_line + inner.count("\n")
                covered.update(range(chunk.start, chunk.end))
            in_blocks = {
                at
                for block in document.blocks
                for at in range(block.start, block.end)
                if not document.text[at].isspace()
            }
            assert in_blocks <= covered
            if reader is read_text:
                assert len(in_blocks) == sum(not char.isspace() for char in document.text)
