"""The services that tests borrow are there, empty, and each test's own."""

import pytest
import sqlalchemy as sa


@pytest.mark.postgres
@pytest.mark.parametrize("turn", [1, 2])
def test_database_is_fresh_for_every_test(postgres_url: str, turn: int) -> None:
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == []
        connection.execute(sa.text("CREATE TABLE mine (turn integer)"))
        connection.execute(sa.text("INSERT INTO mine VALUES (:turn)"), {"turn": turn})
        assert connection.execute(sa.text("SELECT turn FROM mine")).scalar() == turn
    engine.dispose()
