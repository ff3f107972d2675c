"""Rules over the source text that no off-the-shelf linter can say."""

from pathlib import Path

import grimp
import pytest

from tests.architecture import rules

# The one place that ends transactions, and the migrations, which run outside of any unit.
MAY_END_TRANSACTIONS = {"db/unit.py", "db/migrate.py"}


def test_slices_meet_only_at_their_faces() -> None:
    """A slice may import another's `service`, `schemas`, `events` and `waiting`, nothing else.

    Reason: everything else may change with its slice, without looking at the other 25.
    Fix: ask the other slice's service; if it lacks the method, add it there.
    """
    graph = grimp.build_graph("sinas")
    imports = [
        (importer, imported)
        for importer in graph.modules
        if importer.startswith("sinas.resources.")
        for imported in graph.find_modules_directly_imported_by(importer)
    ]
    assert imports, "the graph is empty, so this test judges nothing"
    assert rules.slice_breaches(imports) == []


@pytest.mark.parametrize(
    ("importer", "imported", "caught"),
    [
        ("sinas.resources.a.service", "sinas.resources.b.repository", True),
        ("sinas.resources.a.jobs", "sinas.resources.b.endpoints", True),
        ("sinas.resources.a.service", "sinas.resources.b.service", False),
        ("sinas.resources.a.service", "sinas.resources.a.repository", False),
        ("sinas.resources.a.resource", "sinas.resources.base", False),
        ("sinas.registry", "sinas.resources.a.resource", False),
    ],
)
def test_slice_rule_catches(importer: str, imported: str, caught: bool) -> None:
    assert bool(rules.slice_breaches([(importer, imported)])) is caught


def test_only_the_unit_ends_transactions() -> None:
    """Nobody but `db/unit.py` commits or rolls back.

    Reason: a commit in the middle makes half a request durable, and what waits for the commit
    (jobs, signals) would run too early. Fix: let the caller's unit do it; if you need a second
    transaction, open one with `context.unit()`.
    """
    found = [
        f"{path.relative_to(rules.ROOT)}:{line}"
        for path in rules.sources("sinas")
        if path.relative_to(rules.PACKAGE).as_posix() not in MAY_END_TRANSACTIONS
        for line in rules.transaction_ends(path.read_text())
    ]
    assert found == []


def test_transaction_rule_catches() -> None:
    assert rules.transaction_ends("async def f(s):\n    await s.commit()\n") == [2]
    assert rules.transaction_ends("end = session.rollback") == [1]
    assert rules.transaction_ends("committed = unit.after_commit(commit)") == []


def test_the_runner_is_stdlib_only() -> None:
    """`sandbox/runner` imports the standard library and itself.

    Reason: it is copied into the executor image, where nothing of the platform is installed, so
    that user code cannot import it either. Fix: send what it needs over the wire.
    """
    files = list(rules.sources("sinas/sandbox/runner"))
    assert files
    found = {path.name: rules.foreign_imports(path.read_text()) for path in files}
    assert {name: modules for name, modules in found.items() if modules} == {}


def test_runner_rule_catches() -> None:
    assert rules.foreign_imports("import os, orjson\nfrom sinas.kit import ids") == [
        "orjson",
        "sinas.kit",
    ]
    assert rules.foreign_imports("import json\nfrom . import protocol\nfrom .link import x") == []


def test_files_are_short() -> None:
    """No source file above 500 lines, no test file above 800.

    Reason: what does not fit on a few screens has more than one job. Fix: find the second job
    and give it a file of its own; do not split in the middle.
    """
    files = rules.sources("sinas", "tests", "benchmarks")  # a migration is one piece by nature
    assert [complaint for path in files if (complaint := rules.too_long(path))] == []


def test_length_rule_catches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_TEST_LINES", 10)
    complaint = rules.too_long(Path(__file__))
    assert complaint is not None
    assert "at most 10" in complaint
