"""A contract is a list of small functions, each of which is run on everything that has to keep it."""


def offenders(check, makers, tmp_path):
    """Whoever does not keep it, and how.

    Args:
        check: Is given a function that makes a fresh one; asserts.
        makers: By name; each is given an empty folder.
        tmp_path: Where the folders are made.
    """
    found, folders = [], (tmp_path / str(number) for number in range(1000))

    def fresh(make):
        folder = next(folders)
        folder.mkdir()
        return make(folder)

    for name, make in makers.items():
        try:
            check(lambda make=make: fresh(make))
        except Exception as error:
            found.append(f"{name}: {error}")
    return found
