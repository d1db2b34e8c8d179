"""`make model`: check everything, print states and times. `--deep` adds the searches that take minutes."""

import sys

from tests.models import spin


def main(arguments: list[str]) -> int:
    why = spin.missing()
    if why is not None:
        print(why)
        return 1
    wrong = 0
    checks = (*spin.EVERYTHING, *(spin.DEEP if "--deep" in arguments else ()))
    for check in checks:
        result = spin.run(check)
        right = result.holds is check.holds
        wrong += not right
        said = "holds" if result.holds else "broken"
        print(
            f"{check.name:<45} {said:<7} {'as it must' if right else 'WRONG':<11} {result.states:>12,} states "
            f"{result.seconds:8.1f} s",
            flush=True,
        )
    print(f"{len(checks) - wrong} of {len(checks)} as they must")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
