"""The long form of these tests: `make soak`."""
# SPDX-License-Identifier: Apache-2.0

import pytest


@pytest.fixture(scope="session")
def soak(request) -> bool:
    """Whether it is the long form."""
    return request.config.getoption("--soak")
