"""What Hypothesis feeds to the parsers."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
"""Any value of JSON, and NaN and infinity, which Python writes as well."""

_NAMES = (
    "object",
    "entry",
    "changes",
    "field",
    "value",
    "messages",
    "contacts",
    "metadata",
    "id",
    "from",
    "wa_id",
)


def _bodies() -> st.SearchStrategy[Any]:
    return JSON | st.fixed_dictionaries(
        {}, optional=dict.fromkeys(_NAMES, BODIES | st.lists(BODIES, max_size=2))
    )


BODIES: st.SearchStrategy[Any] = st.deferred(_bodies)
"""Values of JSON with the names of a webhook body in places where they do not belong."""
