"""The pages of this folder are tested; the scripts of the site, and what its build writes, are not."""

collect_ignore_glob = ["*.py"]
