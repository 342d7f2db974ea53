"""What all tests share: the fixtures of the fault harness in Tests/faults."""

pytest_plugins = ("bench",)
