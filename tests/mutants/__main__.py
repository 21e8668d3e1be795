"""Print how well the checks tell wrong answers from right ones."""

import sys

from minit2i import checks
from tests import mutants


def main() -> int:
    mutants.load()
    checks.limit(5)
    faults: list[str] = []
    refused = accepted = 0
    wrong = [a for a in mutants.ANSWERS if a.kind == "wrong"]
    right = [a for a in mutants.ANSWERS if a.kind == "right"]
    for answer in wrong:
        message = mutants.refusal(answer.lesson, answer.exercise, answer.answer) or ""
        good = answer.says in message and message and not mutants.others(answer, message)
        refused += bool(good)
        faults += [] if good else [f"{answer.id}: {message or 'accepted'}"]
    for answer in right:
        message = mutants.refusal(answer.lesson, answer.exercise, answer.answer)
        accepted += message is None
        faults += [] if message is None else [f"{answer.id}: {message}"]
    killed = made = 0
    for solution in mutants.solutions():
        alive, dead, all_of_them = mutants.survivors(solution)
        killed, made = killed + dead, made + all_of_them
        faults += [f"{solution.id}: survives: {text}" for text in alive]
    print(*faults, sep="\n", end="\n" if faults else "")
    print(
        f"{len(mutants.exercises())} exercises: {refused}/{len(wrong)} wrong answers refused with "
        f"their own message, {accepted}/{len(right)} right ones accepted; {killed}/{made} mutants "
        f"of the notebooks' solutions killed ({len(mutants.EQUIVALENT)} known to change nothing)"
    )
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
