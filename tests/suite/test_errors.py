"""Messages: what was given, the nearest name, and what there is, in a line that can be read."""

from circuitmeter.suite.errors import MOST_NAMES, unknown


def test_of_many_names_the_first_are_listed():
    names = [f"name-{i:03d}" for i in range(MOST_NAMES + 7)]
    message = unknown("thing", "name-4444", names)
    assert message.startswith("no thing 'name-4444'. Did you mean 'name-044'? Known: name-000, ")
    assert message.endswith(f"{names[MOST_NAMES - 1]} and 7 more.") and names[MOST_NAMES] not in message
    assert " more" not in unknown("thing", "other", names[:MOST_NAMES])
