"""Drift: what differs between a store's catalog and the one that the migrations make."""

from typing import Final

from stageflow.backends.sqlite.connection import Transaction

Catalog = dict[tuple[str, str], str]
"""Kind and name of a thing, such as ``("column", "stageflow_jobs.status")``, and its definition."""


def read_catalog(tx: Transaction) -> Catalog:
    """Return the definitions of everything that is stageflow's, and of what others hung on its tables."""
    catalog: Catalog = {}
    for kind, name, table, sql in tx.rows("select type, name, tbl_name, sql from sqlite_schema where sql is not null"):
        if not table.startswith("stageflow_"):
            continue
        catalog[kind, name] = _normal(sql)
        if kind == "table":
            columns = tx.rows('select name, type, "notnull", dflt_value, pk from pragma_table_info(?)', (table,))
            for column, column_type, required, default, key in columns:
                catalog["column", f"{table}.{column}"] = (
                    f"{column_type.lower()}{' not null' if required else ''}"
                    f"{'' if default is None else f' default {default}'}{f' key {key}' if key else ''}"
                )
    return catalog


_NO_COUNTERS: Final = (
    "the only row of table stageflow_counters is missing, so nothing can be claimed; stop the workers and restore it:"
    " `insert into stageflow_counters (only_row, lease_token) select 1, coalesce(max(token), 0) + 1000000 from (select token"
    " from stageflow_ranges union all select token from stageflow_results)`"
)


def find_missing_rows(tx: Transaction) -> list[str]:
    """Return one sentence for each row that the migrations make and that is not there."""
    has_table = tx.row("select 1 from sqlite_schema where type = 'table' and name = 'stageflow_counters'")
    if has_table is None or tx.row("select 1 from stageflow_counters") is not None:
        return []
    return [_NO_COUNTERS]


def find_drifts(expected: Catalog, actual: Catalog) -> list[str]:
    """Return one sentence for each difference, by name."""
    drifts: list[str] = []
    for thing in sorted(expected.keys() | actual.keys()):
        kind, name = thing
        if kind == "column" and not (_has_table(expected, name) and _has_table(actual, name)):
            continue  # the table itself is reported
        if thing not in actual:
            drifts.append(f"{kind} {name} is missing; restore it as the migrations make it")
        elif thing not in expected:
            drifts.append(f"{kind} {name} is none of stageflow's; drop it, or move it to a table of your own")
        elif expected[thing] != actual[thing]:
            drifts += _describe(kind, name, expected, actual)
    return drifts


def _describe(kind: str, name: str, expected: Catalog, actual: Catalog) -> list[str]:
    """Say how one thing differs; a table whose columns differ is reported by these, else its constraints do."""
    if kind == "column":
        return [f"column {name} is `{actual[kind, name]}` and should be `{expected[kind, name]}`; alter it"]
    if kind != "table":
        return [f"{kind} {name} differs from what the migrations make; drop it and create it as they do"]
    if _columns(expected, name) != _columns(actual, name):
        return []
    return [f"the constraints of table {name} differ from what the migrations make; copy its rows into a table made by them"]


def _has_table(catalog: Catalog, column: str) -> bool:
    return ("table", column.partition(".")[0]) in catalog


def _columns(catalog: Catalog, table: str) -> Catalog:
    return {key: text for key, text in catalog.items() if key[0] == "column" and key[1].startswith(f"{table}.")}


def _normal(sql: str) -> str:
    return " ".join(sql.split()).lower()
