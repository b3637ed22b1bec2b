"""What asserts outside of a test file is to say what it found, too."""

import pytest

pytest.register_assert_rewrite("tests.ops.faults")
