import subprocess

from ecotta_rt.bench import environment


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def checkout_with_a_commit(folder):
    package = folder / "package"
    package.mkdir()
    (package / "code.py").write_text("one = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return package


def test_an_environment_names_what_the_figures_depend_on():
    here = environment.read_environment(threads=3)

    assert here.threads == 3
    assert here.cores >= 1
    assert here.cpu
    assert {"python", "system", "numpy"} <= here.versions.keys()


def test_a_clean_checkout_is_named_by_its_commit_alone(tmp_path):
    commit = environment._commit(checkout_with_a_commit(tmp_path))

    assert commit is not None
    assert len(commit) == 40


def test_an_edited_checkout_is_marked(tmp_path):
    package = checkout_with_a_commit(tmp_path)
    (package / "code.py").write_text("one = 2\n")

    commit = environment._commit(package)

    assert commit is not None
    assert commit.endswith("+changes")


def test_an_install_without_a_checkout_has_no_commit(tmp_path):
    assert environment._commit(tmp_path / "package") is None


def test_a_checkout_without_a_commit_yet_has_none(tmp_path):
    git(tmp_path, "init", "-q")

    assert environment._commit(tmp_path / "package") is None
