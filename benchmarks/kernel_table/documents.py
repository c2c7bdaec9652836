"""The figures that the documents quote, written into them from the results, so that none is older than the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.kernel_table.results import count_text, key, ratio_text, threads_text
from secateur.report.files import write_text

Record = Mapping[str, Any]

THRESHOLD = "exact threshold of magnitudes, 90 % · normal"
TENTH = "exactly a tenth kept, in place · normal"
ENGLISH = (
    "The exact threshold over {weights} weights takes {threshold} times one reading of the data, "
    "`np.partition` {partition}, `torch.topk` {topk}, "
    "`tf.math.top_k` {top_k}; keeping exactly a tenth, in place, takes {tenth} times, "
    "`prune.global_unstructured` {unstructured} and {memory} MB beside the weights.\n"
    "Measured on one thread ({processor}) by `{command}` on {date}; "
    "[how, and where targets are missed](docs/kernels.md)."
)
CHINESE = (
    "在 {weights} 权重上求精确阈值，耗时是读一遍数据的 {threshold} 倍，`np.partition` 为 {partition} 倍，"
    "`torch.topk` 为 {topk} 倍，`tf.math.top_k` 为 {top_k} 倍；就地恰好保留十分之一为 {tenth} 倍，"
    "`prune.global_unstructured` 为 {unstructured} 倍，并另需 {memory} MB 内存。\n"
    "在一个线程上（{processor}）由 `{command}` 于 {date} 测得；"
    "[如何测量，哪些目标未达到](docs/kernels.md)（英文）。"
)


def write_documents(root: Path, record: Record) -> None:
    """Write the figures of a run with all peers into README.md, README.zh-CN.md and docs/kernels.md under ``root``."""
    for name, text in (("README.md", ENGLISH), ("README.zh-CN.md", CHINESE)):
        replace_figures(root / name, text.format(**_quoted(record)))
    replace_figures(root / "docs" / "kernels.md", _tables(record))


def has_all_peers(record: Record) -> bool:
    """Whether the peers that documents quote were measured."""
    first = {key(row): {peer["name"] for peer in row["peers"]} for row in record["tables"][0]["rows"]}
    wanted = {"np.partition", "torch.topk", "tf.math.top_k"}
    return wanted <= first.get(THRESHOLD, set()) and "prune.global_unstructured" in first.get(TENTH, set())


def replace_figures(path: Path, figures: str) -> None:
    """Put figures between the marks of a document."""
    before, mark, rest = path.read_text("utf-8").partition("<!-- figures -->\n")
    _, end, after = rest.partition("<!-- end of figures -->")
    if not mark or not end:
        raise ValueError(f"{path} has no place for figures, marked by <!-- figures --> and <!-- end of figures -->")
    write_text(path, f"{before}{mark}{figures}\n{end}{after}")


def _quoted(record: Record) -> dict[str, str]:
    table = record["tables"][0]
    reading, rows = table["units"]["R"]["ns"], {key(row): row for row in table["rows"]}
    peers = {(name, peer["name"]): peer for name, row in rows.items() for peer in row["peers"]}

    def times(entry: Record) -> str:
        return ratio_text(entry["ns"] / reading)

    unstructured = peers[TENTH, "prune.global_unstructured"]
    return {
        "weights": f"{count_text(table['elements'])} {table['dtype']}",
        "threshold": times(rows[THRESHOLD]),
        "partition": times(peers[THRESHOLD, "np.partition"]),
        "topk": times(peers[THRESHOLD, "torch.topk"]),
        "top_k": times(peers[THRESHOLD, "tf.math.top_k"]),
        "tenth": times(rows[TENTH]),
        "unstructured": times(unstructured),
        "memory": "–" if unstructured["memory"] is None else f"{unstructured['memory'] / 1e6:,.0f}",
        "processor": record["machine"]["processor"],
        "command": record["command"],
        "date": record["date"][:10],
    }


def _tables(record: Record) -> str:
    """One Markdown table for float32 and one for the 16-bit floats, a column for each size and number of threads."""
    machine, versions = record["machine"], record["versions"]
    packages = [name for name in ("python", "numpy", "numba", "torch", "tensorflow") if name in versions]
    wide = [table for table in record["tables"] if table["dtype"] == "float32"]
    narrow = [table for table in record["tables"] if table["dtype"] != "float32"]
    circumstances = (
        f"{machine['processor']}, {machine['cores']} cores, {', '.join(machine['vector_instructions'])}; "
        f"{', '.join(f'{name} {versions[name]}' for name in packages)}; "
        f"`{record['command']}`, {record['date'][:10]}. Bold: the target is met."
    )
    return "\n\n".join([circumstances, *(_markdown(tables) for tables in (wide, narrow) if tables)])


def _markdown(tables: Sequence[Record]) -> str:
    columns = [f"{count_text(table['elements'])} {table['dtype']}, {threads_text(table)}" for table in tables]
    headings = ["kernel", "data", "target", *columns]
    lines = [headings, ["---", "---", *["---:"] * (len(headings) - 2)]]
    lines.append(["R, ns an element", "", "", *(f"{table['units']['R']['ns']:.3f}" for table in tables)])
    lines.append(["S, ns an element", "", "", *(f"{table['units']['S']['ns']:.3f}" for table in tables)])
    for number, row in enumerate(tables[0]["rows"]):
        cells = [table["rows"][number] for table in tables]
        targets = list(dict.fromkeys(cell["target"] for cell in cells))
        target = "" if targets == [None] else f"{' / '.join(f'{value:g}' for value in targets)} {row['unit']}"
        lines.append([row["name"].replace("|", "\\|"), row["data"], target, *(_cell(cell) for cell in cells)])
    return "\n".join(re.sub(r"\| +\|", "| |", f"| {' | '.join(line)} |") for line in lines)


def _cell(row: Record) -> str:
    text = f"{ratio_text(row['ratio'])} {row['unit']}"
    return f"**{text}**" if row["met"] else text
