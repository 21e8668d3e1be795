"""How annotations are checked while the tests run (pyproject.toml, `--jaxtyping-packages`)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do where a float is asked
