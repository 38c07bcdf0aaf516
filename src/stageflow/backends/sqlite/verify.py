"""Drift: what differs between a store's catalog and the one that the migrations make."""

from stageflow.backends.sqlite.connection import Transaction

Catalog = dict[tuple[str, str], str]
"""What kind of thing, its name, and its definition: ``("table", "stageflow_jobs")``, ``("column", "stageflow_jobs.status")``, …"""


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


def find_drifts(expected: Catalog, actual: Catalog) -> list[str]:
    """Return one sentence for each difference, by name.

    A table's whole text is compared only where its columns agree: then it is a constraint that differs.
    """
    drifts: list[str] = []
    for kind, name in sorted(expected.keys() | actual.keys()):
        if (kind, name) not in actual:
            if kind != "column" or ("table", name.partition(".")[0]) in actual:
                drifts.append(f"{kind} {name} is missing; restore it as the migrations make it")
        elif (kind, name) not in expected:
            if kind != "column" or ("table", name.partition(".")[0]) in expected:
                drifts.append(f"{kind} {name} is not stageflow's; drop it, or move it to a table of your own")
        elif kind == "column" and expected[kind, name] != actual[kind, name]:
            drifts.append(f"column {name} is `{actual[kind, name]}` and should be `{expected[kind, name]}`")
        elif kind != "column" and expected[kind, name] != actual[kind, name]:
            if kind != "table" or _columns(expected, name) == _columns(actual, name):
                what = "the constraints of table" if kind == "table" else kind
                drifts.append(f"{what} {name} differ{'' if kind == 'table' else 's'} from what the migrations make; restore it")
    return drifts


def _columns(catalog: Catalog, table: str) -> Catalog:
    return {key: text for key, text in catalog.items() if key[0] == "column" and key[1].startswith(f"{table}.")}


def _normal(sql: str) -> str:
    return " ".join(sql.split()).lower()
