"""Print how well the checks tell wrong answers from right ones, or what they say to the wrong ones.

python -m tests.mutants               the kill rate of each lesson
python -m tests.mutants --messages    every message, for reading
"""

import argparse
import sys
from itertools import groupby

from minit2i import checks
from tests import mutants
from tests.killrate import MUTANTS, RIGHT, WRONG, table


def score() -> int:
    """Print what went wrong and the table; 1 if anything did."""
    faults: list[str] = []
    counts: list[tuple[str, str, int, int]] = []
    for answer in mutants.ANSWERS:
        message = mutants.refusal(answer.lesson, answer.exercise, answer.answer)
        good = mutants.well_judged(answer, message)
        counts.append((answer.lesson, WRONG if answer.kind == "wrong" else RIGHT, good, 1))
        faults += [] if good else [f"{answer.id}: {message or 'accepted'}"]
    for solution in mutants.solutions():
        alive, dead, made = mutants.survivors(solution)
        counts.append((solution.lesson, MUTANTS, dead, made))
        faults += [f"{solution.id}: survives: {text}" for text in alive]
    print(*faults, *table(counts), sep="\n")
    print(
        f"{len(mutants.exercises())} exercises; "
        f"{len(mutants.EQUIVALENT)} mutants more are known to change nothing"
    )
    return bool(faults)


def messages() -> int:
    """Print every declared wrong answer with the message it gets."""
    wrong = [answer for answer in mutants.ANSWERS if answer.kind == "wrong"]
    for place, answers in groupby(wrong, key=lambda answer: (answer.lesson, answer.exercise)):
        print("=" * 8, ".".join(place), "=" * 8)
        for answer in answers:
            message = mutants.refusal(answer.lesson, answer.exercise, answer.answer)
            print(f"[{answer.how or answer.says}]\n{message or 'ACCEPTED'}\n")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--messages", action="store_true", help="print every message")
    chosen = messages if parser.parse_args().messages else score
    mutants.load()
    checks.limit(5)
    sys.exit(chosen())
