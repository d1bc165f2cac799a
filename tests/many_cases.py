"""Many small cases in one test: each of them costs what it computes, and no start and end of a test of its own."""


def check_each(cases, check):
    """Check every case, also those after one that fails, and name all that fail.

    `cases` are pairs of a name and the arguments of `check`.
    """
    failures, n_cases = {}, 0
    for name, arguments in cases:
        n_cases += 1
        try:
            check(*arguments)
        except Exception as error:
            error.add_note(f"in the case: {name}")
            failures[name] = error
    assert n_cases, "there are no cases"
    if failures:
        first = next(iter(failures.values()))
        message = f"{len(failures)} of {n_cases} cases: {'; '.join(failures)}\nthe first of them: {first!r}"
        raise ExceptionGroup(message, list(failures.values()))
