"""Print the table of findings as it stands in data/README.md.

python tools/findings_table.py
"""

from minit2i import findings

HEAD = (
    "| Finding | Claim | Margin | Advantage, mean and 95 % interval | Verdict |\n"
    "|---|---|---|---|---|"
)


def table() -> str:
    """One row for each claim of each recorded finding."""
    rows = [HEAD]
    for name in findings.NAMES:
        for claim in findings.load(name)["claims"]:
            interval = f"{claim['mean']:.3g} [{claim['low']:.3g}, {claim['high']:.3g}]"
            text = claim["text"].rstrip(".")
            rows.append(
                f"| {name} | {text} | {claim['margin']:g} | {interval} | {claim['verdict']} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
